"""An engine behind any address that speaks OpenAI's chat completions: a server of the same organisation, or a provider.

One thread runs an event loop for all replies; a reply that is given up closes its connection, which has the server stop. What goes
out is the talk and how to draw the reply, to the configured address alone, over TLS unless that is on this machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from attunement.config import ServingSettings
from attunement.errors import ConfigError, ServiceError
from attunement.providers.guarded import Outside
from attunement.providers.opening import checked, key_of
from attunement.providers.sdks import OVERLOADED, load_sdk, silent_headers, status_error, told_by
from attunement.records import DeployedModel, GenerationConfig
from attunement.security.agreements import is_outside
from attunement.serving.engines import (
    BUSY,
    CLOSED,
    LENGTH,
    STOP,
    BusyError,
    Engine,
    EngineError,
    Inbox,
    Messages,
    Piece,
    deadline_of,
    kept_in_time,
)

CONNECT_WAITS = (0.1, 0.3)
"""Seconds before a further try to connect, each up to half as long again; what has reached the server is not sent twice."""
LONGEST_SECONDS = 120.0
"""For a reply without a deadline, between two pieces."""
BESIDE = ("repetition_penalty", "top_k", "truncate_prompt_tokens")
"""Fields of a request that OpenAI's own protocol does not have, and its SDK no argument for."""
FINISHES = {"stop": STOP, "length": LENGTH}


class OpenAIEngine(Engine):
    """The model that the server at `address` calls `model`. Raises `MissingExtraError` without the extra `openai`.

    Where the server tells no log-probabilities, pieces have none; where it knows no repetition penalty, there is none.
    """

    def __init__(
        self, address: str, model: str, key: str, settings: ServingSettings, in_force: Callable[[str], bool] = lambda host: False
    ) -> None:
        parts = checked(address)
        host = parts.hostname or ""
        outside = is_outside(host)
        if outside and parts.scheme == "http":
            raise ConfigError(f"what clients say is not sent to {host} in the clear: give an address with https")
        self._sdk = load_sdk("openai")
        self._name, self._address, self._key, self._model = f"the engine at {host}", address, key, model
        self._settings = settings
        self._outside = Outside(host, in_force) if outside else None
        self.deployed = DeployedModel(f"{model}@{host}", Path(), 0, host)
        self._refused: set[str] = {"repetition_penalty"} if host == "api.openai.com" else set()
        """What may be asked for beside the talk, and the server said that it does not know."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._running: dict[Future[None], Inbox[Piece]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: ServingSettings, in_force: Callable[[str], bool]) -> OpenAIEngine:
        """As the settings say; the key from the environment. Raises `ConfigError`."""
        if not settings.engine_url or not settings.engine_model:
            raise ConfigError("the engine 'openai' needs an address and a model: set serving.engine_url and serving.engine_model")
        key = key_of(settings.engine_key_variable) if settings.engine_key_variable else ""
        return cls(settings.engine_url, settings.engine_model, key, settings, in_force)

    # --- the seam -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Asks the server for its models, so that a wrong address or key is told now. Raises `ServiceError`."""
        if self._loop is not None:
            return
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"engine {self.version}", daemon=True)
        self._thread.start()
        self._client = self._call(self._made()).result()
        try:
            self._call(self._greeted()).result()
        except ServiceError:
            self.close()
            raise

    def close(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
            lost = dict(self._running)
        if loop is None or self._thread is None:
            return
        for future, inbox in lost.items():
            future.cancel()
            inbox.put(EngineError(CLOSED))
        asyncio.run_coroutine_threadsafe(self._client.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    def stream(
        self, messages: Messages, generation: GenerationConfig, deadline: float | None = None, seed: int | None = None
    ) -> Generator[Piece]:
        if self._outside:
            self._outside.check(*(message["content"] for message in messages))
        inbox: Inbox[Piece] = Inbox(deadline_of(generation, deadline))
        with self._lock:
            if self._loop is None:
                raise EngineError(CLOSED)
            if len(self._running) >= self._settings.max_batch + self._settings.max_waiting:
                raise BusyError(BUSY)
            future = self._call(self._reply(self._request(messages, generation, seed), inbox))
            self._running[future] = inbox
        try:
            yield from kept_in_time(inbox.read(), inbox.deadline)
        finally:
            future.cancel()
            with self._lock:
                del self._running[future]

    # --- in the loop ------------------------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _made(self) -> Any:
        client = self._sdk.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._address,
            max_retries=0,
            default_headers=silent_headers(self._sdk),
            # a proxy of the environment has no part in what stays on this machine
            http_client=self._sdk.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=self._outside is not None),
        )
        # what the environment says of the user's account at OpenAI is nobody else's business
        client.organization = client.project = None
        return client

    async def _greeted(self) -> None:
        try:
            await self._client.models.list(timeout=10)
        except self._sdk.APIStatusError as error:
            if error.status_code in (401, 403) or 300 <= error.status_code < 400:
                raise self._mapped(error) from error
        except self._sdk.APIError as error:
            raise self._mapped(error) from error

    def _request(self, messages: Messages, generation: GenerationConfig, seed: int | None) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [{"role": m["role"], "content": m["content"]} for m in messages],
            "stream": True,
            "max_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "logprobs": True,
            **({} if seed is None else {"seed": seed}),
            **({} if generation.repetition_penalty == 1 else {"repetition_penalty": generation.repetition_penalty}),
        }

    async def _reply(self, request: dict[str, Any], inbox: Inbox[Piece]) -> None:
        """Puts the pieces into `inbox`, or what went wrong."""
        try:
            async with await self._opened(request, inbox.deadline) as events:
                async for event in events:
                    if (piece := _piece(event)) is not None:
                        inbox.put(piece)
                        if piece.finish:
                            return
            raise EngineError(f"{self._name} ended a reply in the middle")
        except ServiceError as error:
            inbox.put(error)
        except (self._sdk.OpenAIError, json.JSONDecodeError, AttributeError, IndexError, TypeError) as error:
            inbox.put(self._mapped(error))

    async def _opened(self, request: Mapping[str, Any], deadline: float | None) -> Any:
        waits = iter(CONNECT_WAITS)
        while True:
            sent = {name: value for name, value in request.items() if name not in self._refused}
            beside = {name: sent.pop(name) for name in BESIDE if name in sent}
            more = {"extra_body": beside or None, "extra_headers": silent_headers(self._sdk)}  # the SDK adds some to each request
            left = LONGEST_SECONDS if deadline is None else max(0.05, deadline - time.monotonic())
            try:
                return await self._client.chat.completions.create(**sent, **more, timeout=left)
            except self._sdk.APIStatusError as error:
                unknown = {name for name in ("repetition_penalty", "logprobs", "seed") if name in told_by(error)}
                if error.status_code not in (400, 422) or not unknown - self._refused:
                    raise
                self._refused |= unknown
            except self._sdk.APIConnectionError as error:
                wait = next(waits, None)
                if wait is None or type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout"):
                    raise
                await asyncio.sleep(wait * random.uniform(1, 1.5))

    def _mapped(self, error: Exception) -> ServiceError:
        """A foreign error as ours; it repeats nothing of the talk."""
        if isinstance(error, self._sdk.APITimeoutError):
            return BusyError(BUSY)
        if isinstance(error, self._sdk.APIStatusError):
            if error.status_code in (*OVERLOADED, 503):
                return BusyError(BUSY)
            return status_error(self._name, error.status_code, told_by(error))
        if isinstance(error, self._sdk.APIConnectionError):
            return EngineError(f"{self._name} cannot be reached: {told_by(error.__cause__ or error)}")
        return EngineError(f"{self._name} answered something that is not of its protocol")


def _piece(event: Any) -> Piece | None:
    """What an event holds; None for one without a choice, as those that tell only the usage."""
    if not event.choices:
        return None
    choice = event.choices[0]
    told = getattr(choice.logprobs, "content", None) or ()
    finish = FINISHES.get(choice.finish_reason, STOP) if choice.finish_reason else ""
    text = getattr(choice.delta, "content", None) or ""
    return Piece(text, tuple(float(each.logprob) for each in told), finish) if text or told or finish else None
