"""The official SDKs behind the seam: one class each, which asks once and maps every foreign error.

None retries by itself, follows a redirect, or sends the headers by which the SDKs tell the machine's system and Python: what goes
out is the request, to the configured address alone. Keys come in as arguments and go nowhere but into the SDK's client.
"""

from __future__ import annotations

import importlib
import json
from abc import abstractmethod
from typing import Any

from attunement.errors import AnswerError, MissingExtraError, ServiceError, TemporaryError
from attunement.providers import Completion, Provider, Request

TELLING = (
    "Lang",
    "Package-Version",
    "OS",
    "Arch",
    "Runtime",
    "Runtime-Version",
    "Async",
    "Retry-Count",
    "Read-Timeout",
    "Timeout",
)
OVERLOADED = (408, 409, 425, 429)


def load_sdk(name: str) -> Any:
    """The SDK's module. Raises `MissingExtraError` that names the extra, which is called as the SDK is."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the provider '{name}'", name) from error


def silent_headers(sdk: Any) -> dict[str, Any]:
    """For a client of OpenAI's or Anthropic's SDK: tells the server our name, and nothing of this machine."""
    return {**{f"X-Stainless-{word}": sdk.Omit() for word in TELLING}, "User-Agent": "attunement"}


def _plain(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def told_by(error: Any) -> str:
    """What a provider says of an error, in one short line."""
    return " ".join(str(getattr(error, "message", None) or error).split())[:200]


def _garbage(name: str) -> AnswerError:
    return AnswerError("garbage", f"{name} answered something that is not of its protocol")


def _retry_after(headers: Any) -> float | None:
    """Retry-After in seconds; a date or nonsense is left to our own waiting."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def status_error(name: str, status: int, told: str, headers: Any = None) -> ServiceError:
    """An HTTP status as an error of ours: worth another try, or what to mend."""
    if status in OVERLOADED or status >= 500:
        return TemporaryError(f"{name} answered {status}: {told}", _retry_after(headers))
    if status in (401, 403):
        return ServiceError(f"{name} refused the key ({status}): set the environment variable that holds it")
    if status == 404:
        return ServiceError(f"{name} does not know this model or address (404): {told}")
    if 300 <= status < 400:
        return ServiceError(f"{name} answered with a redirect ({status}), which is not followed: give the address itself")
    return ServiceError(f"{name} answered {status}: {told}")


class _Stainless(Provider):
    """What OpenAI's and Anthropic's SDKs have in common: they are made by one generator, and so are their errors."""

    extra = ""

    def __init__(self, model: str, address: str | None, key: str | None, timeout_seconds: float, *, name: str = "") -> None:
        self._sdk = load_sdk(self.extra)
        self.name, self.model = f"{name or self.extra}:{model}", model
        self._client = self._make(
            api_key=key or "none",
            base_url=address,
            timeout=timeout_seconds,
            max_retries=0,
            default_headers=silent_headers(self._sdk),
            http_client=self._sdk.DefaultAsyncHttpxClient(follow_redirects=False),
        )

    @abstractmethod
    def _make(self, **how: Any) -> Any:
        """The SDK's client."""

    @abstractmethod
    async def _ask(self, request: Request) -> Any:
        """The SDK's answer."""

    @abstractmethod
    def _read(self, answer: Any) -> Completion:
        """The answer as ours. Raises `AnswerError` for one that cannot be used."""

    async def complete(self, request: Request) -> Completion:
        try:
            answer = await self._ask(request)
        except self._sdk.APITimeoutError as error:
            raise TemporaryError(f"{self.name} did not answer in time", may_be_billed=True) from error
        except self._sdk.APIStatusError as error:
            raise status_error(self.name, error.status_code, told_by(error), error.response.headers) from error
        except self._sdk.APIConnectionError as error:
            raise TemporaryError(f"{self.name} cannot be reached: {told_by(error.__cause__ or error)}") from error
        except (self._sdk.APIResponseValidationError, json.JSONDecodeError) as error:
            raise _garbage(self.name) from error
        try:
            return self._read(answer)
        except (AttributeError, IndexError, TypeError) as error:  # the SDK's object lacks a part, or is a mere string
            raise _garbage(self.name) from error

    async def close(self) -> None:
        await self._client.close()


class OpenAIProvider(_Stainless):
    """OpenAI, and with `name` any address that speaks its chat completions."""

    extra = "openai"

    def __init__(self, model: str, address: str | None, key: str | None, timeout_seconds: float, *, name: str = "") -> None:
        super().__init__(model, address, key, timeout_seconds, name=name)
        self._compatible = bool(name)
        if self._compatible:  # what the environment says of the user's OpenAI account is nobody else's business
            self._client.organization = self._client.project = None

    def _make(self, **how: Any) -> Any:
        return self._sdk.AsyncOpenAI(**how)

    async def _ask(self, request: Request) -> Any:
        # OpenAI's newer models know only the one name, most servers that are compatible only the other.
        most: dict[str, Any] = (
            {"max_tokens": request.max_tokens, "seed": request.seed}
            if self._compatible
            else {"max_completion_tokens": request.max_tokens}
        )
        return await self._client.chat.completions.create(
            model=self.model,
            messages=[{"role": m.role, "content": m.content} for m in request.messages],
            temperature=request.temperature,
            **most,
        )

    def _read(self, answer: Any) -> Completion:
        choice, usage = answer.choices[0], answer.usage
        refusal = getattr(choice.message, "refusal", None)
        finish = "refused" if refusal or choice.finish_reason == "content_filter" else choice.finish_reason or "stop"
        return Completion(
            str(refusal or choice.message.content or ""),
            str(answer.model or self.model),
            _plain(getattr(usage, "prompt_tokens", 0)),
            _plain(getattr(usage, "completion_tokens", 0)),
            finish=finish,
        )


class AnthropicProvider(_Stainless):
    """Anthropic's messages. The SDK takes no temperature and no seed."""

    extra = "anthropic"

    def _make(self, **how: Any) -> Any:
        return self._sdk.AsyncAnthropic(**how)

    async def _ask(self, request: Request) -> Any:
        system = "\n\n".join(m.content for m in request.messages if m.role == "system")
        return await self._client.messages.create(
            model=self.model,
            max_tokens=request.max_tokens,
            messages=[{"role": m.role, "content": m.content} for m in request.messages if m.role != "system"],
            **({"system": system} if system else {}),
        )

    def _read(self, answer: Any) -> Completion:
        text = "".join(part.text for part in answer.content if part.type == "text")
        finish = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "refused"}
        usage = answer.usage
        return Completion(
            text,
            str(answer.model or self.model),
            _plain(usage.input_tokens),
            _plain(usage.output_tokens),
            finish=finish.get(answer.stop_reason, answer.stop_reason or "stop"),
        )


class OllamaProvider(Provider):
    """A server of Ollama, by default the one on this machine."""

    extra = "ollama"

    def __init__(self, model: str, address: str, key: str | None, timeout_seconds: float) -> None:
        self._sdk = load_sdk(self.extra)
        self.name, self.model = f"ollama:{model}", model
        headers = {"Authorization": f"Bearer {key}"} if key else {"Authorization": ""}  # else it takes one from the environment
        self._client = self._sdk.AsyncClient(host=address, timeout=timeout_seconds, follow_redirects=False, headers=headers)
        self._client._client.headers["user-agent"] = "attunement"
        if not key:
            del self._client._client.headers["authorization"]

    async def complete(self, request: Request) -> Completion:
        import httpx

        try:
            answer = await self._client.chat(  # which reads the answer too: what is garbage shows itself as pydantic's error
                model=self.model,
                messages=[{"role": m.role, "content": m.content} for m in request.messages],
                options={"temperature": request.temperature, "seed": request.seed, "num_predict": request.max_tokens},
            )
        except self._sdk.ResponseError as error:
            headers = getattr(error.__cause__ or error.__context__, "response", None)
            raise status_error(self.name, error.status_code, told_by(error.error), getattr(headers, "headers", None)) from error
        except httpx.TimeoutException as error:
            raise TemporaryError(f"{self.name} did not answer in time") from error
        except (httpx.TransportError, ConnectionError) as error:
            raise TemporaryError(f"{self.name} cannot be reached: is Ollama running?") from error
        except (ValueError, TypeError) as error:  # pydantic's and JSON's; the SDK's own where the JSON is no object
            raise _garbage(self.name) from error
        return Completion(
            answer.message.content or "",
            answer.model or self.model,
            _plain(answer.prompt_eval_count),
            _plain(answer.eval_count),
            finish=answer.done_reason or "stop",
        )

    async def close(self) -> None:
        await self._client._client.aclose()
