"""The routes that programs for OpenAI's interface speak to (`/v1/chat/completions`, `/v1/models`), through the same gate.

Sampling is the service's own (`serving.temperature`, ...): what a request says of it is read and not used. Errors are RFC 9457 problems
with OpenAI's `error` in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement.errors import ServiceError
from attunement.records import InferenceRequest
from attunement.security.codes import valid_id
from attunement.serving.exchange import Answered, Asked, Exchanges
from attunement.serving.gate import WITHHELD
from attunement.serving.guard import Caller, needs
from attunement.serving.inference import (
    ACTION,
    GATE_HEADER,
    MOST_TURNS,
    Text,
    check_length,
    for_client,
    safety,
)
from attunement.serving.problems import responses
from attunement.serving.streams import Reading, event, stream_of, streamed

NAME = "attunement"
"""The served model's name that never changes."""


class PartIn(BaseModel):
    """A part of a message: text alone."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: Text


class MessageIn(BaseModel):
    """A message."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"] = Field(description="Who spoke.")
    content: Text | list[PartIn] = Field(description="What was said, or its parts.")

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream holds."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = Field(False, strict=True, description="A last event has the numbers of tokens.")


class CompletionIn(BaseModel):
    """OpenAI's request; fields that are not here are read and not used."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"model": NAME, "messages": [{"role": "user", "content": "I can't sleep lately."}], "stream": False}]
        },
    )
    model: str = Field(NAME, max_length=200, description=f"`{NAME}`, or the version that GET /v1/models tells.")
    messages: list[MessageIn] = Field(
        min_length=1, max_length=MOST_TURNS, description="The talk, which ends with the user's words."
    )
    stream: bool | None = Field(False, strict=True, description="Answer with server-sent events.")
    stream_options: StreamOptions | None = Field(None, description="What a stream holds.")
    n: Literal[1] | None = Field(1, description="One reply.")
    metadata: dict[str, str] | None = Field(
        None, description="`client_id`, `session_id`, `region` and `persona`, as in POST /api/v1/inference."
    )


class CompletionMessage(BaseModel):
    """The reply."""

    role: Literal["assistant"] = Field(description="Always assistant.")
    content: str = Field(description="What to say to the client.")
    refusal: None = Field(None, description="Always null: what was held back stands in `attunement`.")


class Choice(BaseModel):
    """The only choice."""

    index: Literal[0] = Field(description="Always 0.")
    message: CompletionMessage = Field(description="The reply.")
    finish_reason: Literal["stop", "content_filter"] = Field(
        description="`content_filter` where the model's words were held back."
    )
    logprobs: None = Field(None, description="Always null.")


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int = Field(ge=0, description="Of the talk.")
    completion_tokens: int = Field(ge=0, description="Of the reply.")
    total_tokens: int = Field(ge=0, description="Both.")


class CompletionOut(BaseModel):
    """OpenAI's answer, with what the gate did."""

    id: str = Field(description="chatcmpl- and the request's id.")
    object: Literal["chat.completion"] = Field(description="Always chat.completion.")
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="The version that answered.")
    choices: list[Choice] = Field(description="One.")
    usage: Usage = Field(description="Tokens.")
    attunement: dict[str, Any] = Field(description="`safety`, `bias_score` and `confidence`, as in POST /api/v1/inference.")


class ModelRow(BaseModel):
    """A model."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field(description="Always model.")
    created: int = Field(description="Seconds since 1970.")
    owned_by: str = Field(description="Always attunement.")


class ModelsOut(BaseModel):
    """What is served."""

    object: Literal["list"] = Field(description="Always list.")
    data: list[ModelRow] = Field(description="The name that never changes, and the version.")


_COMPLETION = responses(
    {
        400: "The body cannot be read", 404: "No such model",
        422: "The request is not as described", 500: "A fault of the service; its log says where",
        503: "Without a model, or busy: ask again after the seconds in the header `Retry-After`",
    }
)  # fmt: skip
_CHUNK = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices"],
    "properties": {
        "id": {"type": "string"}, "object": {"const": "chat.completion.chunk"}, "created": {"type": "integer"}, "model": {"type": "string"},
        "choices": {
            "type": "array",
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["index", "delta", "finish_reason"],
                "properties": {"index": {"const": 0}, "delta": {"type": "object"}, "finish_reason": {"enum": ["stop", "content_filter", None]}},
            },
        },
        "usage": {"$ref": "#/components/schemas/Usage"},
        "attunement": {"type": "object"},
    },
}  # fmt: skip
_DONE = "[DONE]"
_STREAM = stream_of({"": _CHUNK}, _DONE)


def add_routes(app: FastAPI, exchanges: Exchanges, limit: int) -> None:
    started = int(time.time())

    @app.get("/v1/models", response_model=ModelsOut, tags=["openai"])
    @needs("model:read")
    async def models() -> dict[str, Any]:
        """What is served: the name that never changes, and the version it stands for."""
        names = dict.fromkeys([NAME, *([exchanges.service.version] if exchanges.service.deployed else [])])
        rows = [{"id": name, "object": "model", "created": started, "owned_by": NAME} for name in names]
        return {"object": "list", "data": rows}

    @app.post("/v1/chat/completions", response_model=CompletionOut, responses={**_COMPLETION, **_STREAM}, tags=["openai"])
    @needs(ACTION)
    async def completions(body: CompletionIn, request: Request, response: Response) -> Any:
        """A reply as OpenAI's clients expect it, through the same safety gate."""
        if body.model not in (NAME, exchanges.service.version):
            raise HTTPException(404, f"there is no model of this name: ask for {NAME}")
        asked = await _asked(body, request, limit)
        caller: Caller = request.state.caller
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            write = _writer(exchanges, body, caller.act.request, usage)
            return await streamed(request, Reading(exchanges, asked, caller.act), write, _DONE)
        found = await run_in_threadpool(exchanges.answer, asked, caller.act)
        response.headers[GATE_HEADER] = found.answer.action
        message = {"role": "assistant", "content": found.answer.reply.response}
        choice = {"index": 0, "message": message, "finish_reason": _finish(found)}
        head = {"id": f"chatcmpl-{found.request}", "object": "chat.completion", "created": int(time.time()), "model": found.model}
        usage_told = await run_in_threadpool(_usage, exchanges, body, found.answer.reply.response)
        return {**head, "choices": [choice], "usage": usage_told, "attunement": _told(found)}


async def _asked(body: CompletionIn, request: Request, limit: int) -> Asked:
    texts = [message.text for message in body.messages]
    check_length(texts, limit)
    if body.messages[-1].role != "user" or not texts[-1].strip():
        raise ServiceError("the last of the messages must be the user's words")
    said = [{"role": m.role, "content": m.text} for m in body.messages[:-1] if m.role in ("user", "assistant")]
    system = "\n".join(m.text for m in body.messages if m.role in ("system", "developer"))
    known = body.metadata or {}
    client = await for_client(request, known.get("client_id", ""))
    session = valid_id("session_id", known["session_id"]) if known.get("session_id") else ""
    more = known.get("region", ""), known.get("persona", "")
    return Asked(InferenceRequest(said, texts[-1]), client, session, *more, instruction=system.strip())


def _writer(exchanges: Exchanges, body: CompletionIn, request_id: str, with_usage: bool) -> Callable[[str | Answered], str]:
    """Turns pieces of one reply into OpenAI's events."""
    head = {
        "id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", "created": int(time.time()), "model": exchanges.service.version,
    }  # fmt: skip
    shown: list[str] = []

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        return event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})

    def write(piece: str | Answered) -> str:
        if isinstance(piece, str):
            first = {} if shown else {"role": "assistant"}
            shown.append(piece)
            return chunk({**first, "content": piece})
        whole, so_far, out = piece.answer.reply.response, "".join(shown), ""
        if whole != so_far:  # words were held back after some were shown, which nobody can take back
            rest = whole[len(so_far) :] if whole.startswith(so_far) else f"\n\n{whole}"
            out = chunk({**({} if shown else {"role": "assistant"}), "content": rest})
        out += chunk({}, _finish(piece), attunement=_told(piece))
        return out + (event({**head, "choices": [], "usage": _usage(exchanges, body, whole)}) if with_usage else "")

    return write


def _usage(exchanges: Exchanges, body: CompletionIn, reply: str) -> dict[str, int]:
    prompt, completion = (
        exchanges.service.count_tokens("\n".join(m.text for m in body.messages)),
        exchanges.service.count_tokens(reply),
    )
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _finish(found: Answered) -> str:
    return "content_filter" if found.answer.action == WITHHELD else "stop"


def _told(found: Answered) -> dict[str, Any]:
    reply = found.answer.reply
    return {"safety": safety(found), "bias_score": reply.bias_score, "confidence": reply.confidence}
