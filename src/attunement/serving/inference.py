"""`POST /api/v1/inference`: the contract's route, whole or as a stream of events; what it shares with the OpenAI-compatible one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement.records import InferenceRequest
from attunement.security.codes import ID, valid_id
from attunement.security.permissions import Role
from attunement.serving.exchange import Answered, Asked, Exchanges
from attunement.serving.guard import Caller, Guard, needs
from attunement.serving.problems import TEXT, TURN, responses
from attunement.serving.streams import Reading, event, stream_of, streamed

GATE_HEADER = "Attunement-Gate"
"""What the gate did with the reply: passed, crisis, reminded, withheld or refused."""
MOST_TURNS = 400
ACTION = "inference:create"
Text = Annotated[str, StringConstraints(max_length=100_000)]
Id = Annotated[str, StringConstraints(max_length=64, pattern=f"^(?:{ID.pattern})?$")]
"""An id, or none."""


class TurnIn(BaseModel):
    """One turn of the talk so far."""

    model_config = ConfigDict(extra="forbid")

    role: Annotated[
        Literal["user", "client", "assistant", "therapist"],
        BeforeValidator(lambda value: value.strip().casefold() if isinstance(value, str) else value),
    ] = Field(description="Who spoke, in any case.")
    content: Text = Field(description="What was said.")


def _one_of_two(schema: dict[str, Any]) -> None:
    """The forms of an item exclude each other by their JSON type: `anyOf` says so in words that more readers know."""
    schema["items"]["anyOf"] = schema["items"].pop("oneOf")


class InferenceIn(BaseModel):
    """What the person said now, after what was said before."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "conversation_context": ["I can't sleep lately.", "What goes through your mind at night?"],
                    "user_input": "Mostly work. I keep going over things I should have done.",
                }
            ]
        },
    )

    conversation_context: list[
        Annotated[
            Annotated[Text, Tag(TEXT)] | Annotated[TurnIn, Tag(TURN)],
            Discriminator(lambda item: TEXT if isinstance(item, str) else TURN),  # a fault is told of the form that was meant
        ]
    ] = Field(
        default_factory=list,
        max_length=MOST_TURNS,
        json_schema_extra=_one_of_two,
        description="The talk so far, oldest first: texts (the client's first, then in turn) or objects with role "
        "(user or client, assistant or therapist, in any case) and content.",
    )
    user_input: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100_000)] = Field(
        description="What the client says now."
    )
    client_id: Id = Field("", description="Whose record it belongs to; empty: nobody's.")
    session_id: Id = Field("", description="The conversation's id, yours to choose.")
    region: str = Field(
        "",
        pattern="^(?:[A-Za-z]{2}(?:-[A-Za-z0-9]{1,3})?)?$",
        description="Where the person is, ISO 3166 (US, US-IL); empty: `serving.region`.",
    )
    persona: str = Field("", max_length=64, description="One of the names in `serving.personas`; empty: none.")
    stream: bool = Field(
        False, strict=True, description="Answer with server-sent events: `delta` for each sentence, then `done` with the whole."
    )


class SafetyOut(BaseModel):
    """What the safety gate found and did."""

    crisis_level: Literal["none", "possible", "elevated", "imminent"] = Field(
        description="Danger in the whole conversation; it never falls within one."
    )
    action: Literal["passed", "crisis", "reminded", "withheld", "refused"] = Field(
        description="passed; crisis: reviewed text answers a danger; reminded: help lines were added; withheld: the model's words were held "
        "back; refused: the law of the place leaves this to professionals."
    )
    flags: list[str] = Field(description="Codes: reasons of the danger, and why words were held back.")
    review_id: str = Field(description="Its place in the clinical review queue; empty for none.")


class InferenceOut(BaseModel):
    """The reply and its scores."""

    response: str = Field(description="What to say to the client.")
    bias_score: float = Field(ge=0, le=1, description="What the reply says about groups of people: 0 is nothing found.")
    confidence: float = Field(
        ge=0, le=1, description="Mean probability of the reply's words; 1 for reviewed text, 0 where words were held back."
    )
    safety: SafetyOut = Field(description="What the safety gate found and did.")
    model_version: str = Field(description="Run, checkpoint and the adapter's hash.")
    request_id: str = Field(description="As in the header X-Request-ID: for feedback, reviews, the audit log.")
    latency_ms: float = Field(ge=0, description="Milliseconds from the request's arrival to the whole reply.")


_INFERENCE = responses(
    {
        400: "The body cannot be read: not UTF-8, or nested too deeply",
        422: "The request is not as described",
        503: "Without a model, or busy: ask again after the seconds in the header `Retry-After`",
        500: "A fault of the service; its log says where",
    }
)
_STREAM = stream_of(
    {
        "delta": {"type": "object", "properties": {"delta": {"type": "string"}}, "required": ["delta"]},
        "done": {"$ref": "#/components/schemas/InferenceOut"},
    }
)


def add_routes(app: FastAPI, exchanges: Exchanges, limit: int) -> None:
    @app.post("/api/v1/inference", response_model=InferenceOut, responses={**_INFERENCE, **_STREAM}, tags=["inference"])
    @needs(ACTION)
    async def inference(body: InferenceIn, request: Request, response: Response) -> Any:
        """Reply to what a client says. The header `Attunement-Gate` tells what the safety gate did, as `safety.action` does."""
        turns = [t if isinstance(t, str) else t.model_dump() for t in body.conversation_context]
        check_length([*(t if isinstance(t, str) else t["content"] for t in turns), body.user_input], limit)
        client = await for_client(request, body.client_id)
        asked = Asked(InferenceRequest(turns, body.user_input), client, body.session_id, body.region, body.persona)
        caller: Caller = request.state.caller
        if body.stream:
            return await streamed(request, Reading(exchanges, asked, caller.act), _events)
        found = await run_in_threadpool(exchanges.answer, asked, caller.act)
        response.headers[GATE_HEADER] = found.answer.action
        return told(found)


def told(found: Answered) -> dict[str, Any]:
    """An answer as `InferenceOut`."""
    answer = found.answer
    return {
        "response": answer.reply.response, "bias_score": answer.reply.bias_score, "confidence": answer.reply.confidence,
        "safety": safety(found), "model_version": found.model, "request_id": found.request, "latency_ms": found.latency_ms,
    }  # fmt: skip


def safety(found: Answered) -> dict[str, Any]:
    """An answer's `SafetyOut`."""
    entry = found.answer.entry
    flags = list(dict.fromkeys([*entry.reasons, *found.answer.flags]))
    return {"crisis_level": entry.state.level, "action": found.answer.action, "flags": flags, "review_id": found.review}


def check_length(texts: list[str], limit: int) -> None:
    """Raises `HTTPException` where all texts together are longer than the service takes."""
    if sum(map(len, texts)) > limit:
        raise HTTPException(422, f"conversation_context and user_input hold more than {limit:,} characters: send fewer turns")


async def for_client(request: Request, client: str, action: str = ACTION) -> str:
    """The id of the client whom a request names, once the caller may do that; a client who signed in is meant without naming."""
    caller: Caller = request.state.caller
    guard: Guard = request.app.state.guard
    if not client:
        own = sorted(caller.principal.clients) if Role.CLIENT in caller.principal.roles else []
        return own[0] if len(own) == 1 else ""
    valid_id("client_id", client)
    await run_in_threadpool(guard.check, request, caller, action, client)
    return client


def _events(piece: str | Answered) -> str:
    return event({"delta": piece}, "delta") if isinstance(piece, str) else event(told(piece), "done")
