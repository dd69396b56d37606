"""Asking a language model for many conversations: so many at a time, in rounds, interruptible, and nothing paid twice."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from attunement.config import ProviderSettings
from attunement.errors import AnswerError, ServiceError, TemporaryError
from attunement.providers import Provider, Request
from attunement.records import EdgeCasePrompt
from attunement.sources.edge_cases.outcome import NEAR_DUPLICATE, UNAVAILABLE, Distinct, Made, Outcome
from attunement.sources.edge_cases.talking import read_talk, request_of

ATTEMPTS = 3
"""So often a model is asked for one scenario before it is given up."""
DOWN = 5
"""So many conversations in a row that a provider cannot be had for end the run."""


class Asking:
    """Workers that take a scenario each; what cannot be used, or says what another one says, is asked anew in the next round.

    The first Ctrl-C lets requests in flight come to an end, for they are paid for; a second one does not wait.
    """

    def __init__(
        self, provider: Provider, settings: ProviderSettings, distinct: Distinct, outcome: Outcome, tick: Callable[[], None]
    ) -> None:
        self._provider, self._settings = provider, settings
        self._distinct, self._outcome, self._tick = distinct, outcome, tick
        self._down = 0

    def run(self, prompts: Sequence[EdgeCasePrompt]) -> list[Made]:
        """The conversations that could be had; the rest stands in the outcome."""
        try:
            return asyncio.run(self._all(prompts))
        except KeyboardInterrupt as stop:  # the second one: what was answered lies in the provider's cache
            self._outcome.stopped = stop
            return []

    async def _all(self, prompts: Sequence[EdgeCasePrompt]) -> list[Made]:
        made, todo, reasons = list[Made](), list(prompts), dict[str, str]()
        try:
            with self._interruptible():
                for attempt in range(ATTEMPTS):
                    answers = await self._round(todo, attempt)
                    todo = [p for p in todo if not self._taken(answers.get(p.prompt_id), made, reasons)]
                    if self._outcome.stopped is not None:
                        break
        finally:
            await self._provider.close()
        for prompt in todo:
            if self._outcome.stopped is None:
                self._outcome.reject(prompt, reasons[prompt.prompt_id])
                self._tick()
            else:
                self._outcome.not_done += 1
        return made

    def _taken(self, answer: Made | tuple[str, str] | None, made: list[Made], reasons: dict[str, str]) -> bool:
        """Whether the answer is a conversation that is new; otherwise its reason is noted. None was never asked for."""
        if isinstance(answer, Made):
            if self._distinct.add(answer.prompt.category, answer.talk):
                made.append(answer)
                self._tick()
                return True
            answer = (answer.prompt.prompt_id, NEAR_DUPLICATE)
        if answer is not None:
            reasons[answer[0]] = answer[1]
            self._outcome.unusable[answer[1]] += 1
        return False

    async def _round(self, prompts: Sequence[EdgeCasePrompt], attempt: int) -> dict[str, Made | tuple[str, str]]:
        """By prompt id the conversation, or (prompt id, reason); nothing for those that were not asked for."""
        answers: dict[str, Made | tuple[str, str]] = {}
        queue = iter(prompts)

        async def work() -> None:
            for prompt in queue:
                if self._outcome.stopped is None and (answer := await self._one(prompt, attempt)) is not None:
                    answers[prompt.prompt_id] = answer

        await asyncio.gather(*(work() for _ in range(self._settings.concurrency)))
        return answers

    async def _one(self, prompt: EdgeCasePrompt, attempt: int) -> Made | tuple[str, str] | None:
        request = self._request(prompt, attempt)
        if not self._provider.has(request) and self._went_on(prompt, attempt):
            return None
        try:
            completion = await self._provider.complete(request)
            self._down = 0
            return Made(prompt, read_talk(completion), completion.model, completion.cost_usd)
        except AnswerError as error:
            self._down = 0
            return prompt.prompt_id, error.reason
        except TemporaryError as error:
            self._down += 1
            if self._down >= DOWN:
                self._stop(error)
            return prompt.prompt_id, UNAVAILABLE
        except ServiceError as error:
            self._stop(error)
            return None

    def _request(self, prompt: EdgeCasePrompt, attempt: int) -> Request:
        return request_of(prompt, attempt, self._settings.max_tokens, self._settings.temperature)

    def _went_on(self, prompt: EdgeCasePrompt, attempt: int) -> bool:
        """Whether an earlier run went on past this attempt: it had garbage or nobody answered, of which nothing is kept.

        Asked again it would cost again, and its answer would take the place of a later one that was paid for.
        """
        return any(self._provider.has(self._request(prompt, later)) for later in range(attempt + 1, ATTEMPTS))

    def _stop(self, why: BaseException) -> None:
        self._outcome.stopped = self._outcome.stopped or why

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """In the main thread, which alone may handle signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupted() -> None:
            if isinstance(self._outcome.stopped, KeyboardInterrupt):
                task.cancel()
            self._outcome.stopped = KeyboardInterrupt()

        before = signal.getsignal(signal.SIGINT)
        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            yield
        except asyncio.CancelledError:
            if not isinstance(self._outcome.stopped, KeyboardInterrupt):
                raise
            raise KeyboardInterrupt from None
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)
