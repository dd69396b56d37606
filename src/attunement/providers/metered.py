"""A provider with what makes it safe to use in a long run: places, retries, a budget, an account, and answers that are kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from attunement.errors import BudgetError, ServiceError, TemporaryError
from attunement.providers import Completion, Provider, Request
from attunement.providers.cache import CompletionCache

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
"""Between tries, doubled each time, unless the provider says how long (Retry-After)."""
MOST_RETRY_AFTER_SECONDS = 600.0
"""A provider that wants a longer pause ends the run: it can be taken up later, nothing is lost."""
CHARACTERS_PER_TOKEN = 2.0
"""For the estimate before a request: cautious, English has about four."""


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens, as the user's contract has them. Zero for local engines."""

    prompt_usd: float = 0.0
    completion_usd: float = 0.0

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt_usd + completion_tokens * self.completion_usd) / 1_000_000


@dataclass
class Account:
    """What a folder of answers has cost so far. `uncertain_usd` is for requests that broke off and may have been billed."""

    requests: int = 0
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    spent_usd: float = 0.0
    spent_before_usd: float = 0.0
    uncertain_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        return self.spent_before_usd + self.spent_usd + self.uncertain_usd


@dataclass(frozen=True)
class Limits:
    """`budget_usd` holds for all that the cache's folder ever cost, None is no limit."""

    concurrency: int = 4
    max_retries: int = 4
    budget_usd: float | None = None
    price: Price = field(default_factory=Price)


class Metered(Provider):
    """`inner` behind limits. Every answer is on disk before anybody sees it; `sleep` is exchanged in tests."""

    def __init__(
        self,
        inner: Provider,
        cache: CompletionCache,
        limits: Limits,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.inner, self.name = inner, inner.name
        self.account = Account(spent_before_usd=sum(answer.cost_usd for answer in cache.all()))
        self._cache, self._limits, self._sleep = cache, limits, sleep
        self._places = asyncio.Semaphore(limits.concurrency)
        self._settled = asyncio.Condition()
        self._reserved = 0.0

    def has(self, request: Request) -> bool:
        return self._cache.has(request)

    async def complete(self, request: Request) -> Completion:
        """The answer from the cache, else a paid one. Raises `BudgetError` before a request that could overspend."""
        if (found := self._cache.get(request)) is not None:
            self.account.cached += 1
            return found
        async with self._places:
            return await self._paid(request)

    async def close(self) -> None:
        await self.inner.close()

    async def _paid(self, request: Request) -> Completion:
        for attempt in range(self._limits.max_retries + 1):
            try:
                return await self._once(request)
            except TemporaryError as error:
                if attempt == self._limits.max_retries:
                    raise TemporaryError(f"{error}; {attempt + 1} tries, then given up") from error
                if (wait := self._wait(error, attempt, request)) > MOST_RETRY_AFTER_SECONDS:
                    raise ServiceError(f"{error}; it asks for a pause of {wait:.0f} s: go on later") from error
                self.account.retries += 1
                await self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _wait(self, error: TemporaryError, attempt: int, request: Request) -> float:
        if error.after_seconds is not None:
            return error.after_seconds
        jitter = random.Random(f"{request.key}/{attempt}").uniform(0.5, 1.0)  # not all places at the same moment
        return jitter * min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0**attempt)

    async def _once(self, request: Request) -> Completion:
        most = self._most(request)
        await self._reserve(most)
        uncertain = 0.0
        try:
            found = await self.inner.complete(request)
            cost = self._limits.price.of(found.prompt_tokens, found.completion_tokens)
            completion = replace(found, cost_usd=cost)
            self._cache.put(request, completion)  # nothing is awaited between having it and keeping it
            self._book(completion)
            return completion
        except TemporaryError as error:
            uncertain = most if error.may_be_billed else 0.0
            raise
        except asyncio.CancelledError:
            uncertain = most
            raise
        finally:
            self._reserved -= most
            self.account.uncertain_usd += uncertain
            await self._tell()

    def _book(self, completion: Completion) -> None:
        self.account.requests += 1
        self.account.prompt_tokens += completion.prompt_tokens
        self.account.completion_tokens += completion.completion_tokens
        self.account.spent_usd += completion.cost_usd

    def _most(self, request: Request) -> float:
        """The most that a request can cost."""
        characters = sum(len(message.content) for message in request.messages)
        return self._limits.price.of(int(characters / CHARACTERS_PER_TOKEN) + 1, request.max_tokens)

    async def _reserve(self, most: float) -> None:
        """Waits while requests in flight may yet leave room; raises `BudgetError` where none can."""
        budget = self._limits.budget_usd
        async with self._settled:
            while budget is not None and self.account.total_usd + self._reserved + most > budget:
                if self._reserved <= 0:
                    raise BudgetError(
                        f"the budget of ${budget:.2f} is used up: ${self.account.total_usd:.4f} spent, the next request may cost"
                        f" ${most:.4f}; what is paid for is kept, a higher --budget-usd goes on from there"
                    )
                await self._settled.wait()
            self._reserved += most

    async def _tell(self) -> None:
        async with self._settled:
            self._settled.notify_all()
