"""`DeploymentService`: an engine behind the gate. Knows nothing of HTTP; the app and the terminal wire it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from attunement.config import Settings, load_settings
from attunement.embedding import Embedder
from attunement.errors import AttunementError, ServiceError
from attunement.model.chat import SENTENCE_END
from attunement.quality.panel import Judges
from attunement.quality.validator import QualityValidator
from attunement.records import DeployedModel, GenerationConfig, HealthStatus, InferenceRequest, InferenceResponse
from attunement.security.recording import agreements_of
from attunement.serving.engines import LEAST_SHARE, Piece
from attunement.serving.engines import BusyError as BusyError
from attunement.serving.engines.holder import EngineHolder
from attunement.serving.engines.opening import open_engine
from attunement.serving.gate import PASSED, REMINDED, WITHHELD, Entry, Messages, SafetyGate
from attunement.serving.places import Places

ROLES = {"user": "user", "client": "user", "assistant": "assistant", "therapist": "assistant"}
"""How callers may name who spoke, in any case."""
KEPT_VERDICTS = 8192
"""Those of about a thousand requests: what people say next week is new, and a service that fills its memory for hours looks like a leak."""
COOLER = 0.4
"""Of the temperature, for the second try after a reply that must not be shown."""


class LeftError(AttunementError):
    """Who reads a reply has gone while the next words of it were made: nobody reads these."""


def stays() -> bool:
    """Of a reader who does not go away."""
    return False


@dataclass(frozen=True)
class Answer:
    """A whole answer, and what the gate did (`action`, of `attunement.serving.gate`).

    `steps` are seconds: gate, generate, check. `flags` say why words were held back; `withheld` are these words, for a reviewer.
    """

    reply: InferenceResponse
    action: str
    entry: Entry
    steps: Mapping[str, float] = field(default_factory=dict)
    flags: Sequence[str] = ()
    withheld: str = field(default="", repr=False)
    regenerated: bool = False


@dataclass(frozen=True)
class _Tried:
    """What a try said, what of it was shown, how sure the model was of it, and why not the rest."""

    said: str
    shown: str
    faults: Sequence[str]
    confidence: float = 0.0


@dataclass
class _Exchange:
    """What tries at one reply share. `prompt` is what the model reads, `talk` what the gate judges by."""

    prompt: Sequence[Mapping[str, str]]
    talk: Sequence[Mapping[str, str]]
    entry: Entry
    until: float
    steps: dict[str, float]
    gone: Callable[[], bool]


class DeploymentService:
    """The contract's service: many requests at once, as many as the engine takes; the others are told that it is busy."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings().settings
        judges = Judges(Embedder(self.settings.embedding), self.settings.home.expanduser(), kept=KEPT_VERDICTS)
        self.validator = QualityValidator(judges=judges)
        serving = self.settings.serving
        places = Places.load(serving.help_lines, serving.jurisdictions)
        messages = Messages.load(serving.messages)
        self.gate = SafetyGate(self.validator, messages, serving.max_bias_score, places, discloses=serving.disclose)
        may = agreements_of(self.settings)
        self.engine = EngineHolder(lambda path: open_engine(serving, path, may))
        self._started = time.monotonic()

    # --- the contract -------------------------------------------------------------------------------

    def load_model(self, checkpoint_path: Path) -> DeployedModel:
        """Has a run's best checkpoint, or a checkpoint, answer from now on (`EngineHolder.load`). Raises `ModelError`."""
        self.gate.warm_up()
        return self.engine.load(Path(checkpoint_path)).deployed

    def close(self) -> None:
        """Ends the engine; what is asked after that is refused."""
        self.engine.close()

    @property
    def deployed(self) -> DeployedModel | None:
        """The model that answers now."""
        return self.engine.engine.deployed if self.engine.engine else None

    def predict(self, request: InferenceRequest) -> InferenceResponse:
        """The reply to `user_input` after `conversation_context`, judged.

        Raises `ServiceError` for an empty request or without a model, `BusyError` when its turn does not come in time.
        """
        return self.answer(request).reply

    def health_check(self) -> HealthStatus:
        """`healthy` with a model, `degraded` with another than was asked for, `unhealthy` without."""
        up = int(time.monotonic() - self._started)
        days, rest = divmod(up, 86_400)
        clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
        status = "unhealthy" if self.deployed is None else "degraded" if self.engine.alert else "healthy"
        return HealthStatus(status, self.version, f"{days}d {clock}")

    @property
    def version(self) -> str:
        """Of the model that is served; `none` without one."""
        return self.deployed.model_version if self.deployed else "none"

    def count_tokens(self, text: str) -> int:
        """Of the served model's tokeniser; 0 without a model, or one that does not tell."""
        return self.engine.engine.count_tokens(text) if self.engine.engine else 0

    # --- the same, in pieces ------------------------------------------------------------------------

    def answer(self, request: InferenceRequest) -> Answer:
        """`predict`, and what the gate did."""
        *_, last = self.stream(request)
        assert isinstance(last, Answer)
        return last

    def stream(
        self,
        request: InferenceRequest,
        *,
        region: str | None = None,
        told: bool | None = None,
        before: Sequence[Mapping[str, str]] = (),
        persona: str = "",
        gone: Callable[[], bool] = stays,
    ) -> Generator[str | Answer]:
        """The reply sentence by sentence, each judged before it is given; then the whole with what the gate did.

        Where the whole differs from the pieces (words were held back), it is the whole that counts. `region` (ISO 3166) and `told` are
        as `SafetyGate.enter` has them; `before` are messages for the model alone; `persona` is one of `serving.personas`.

        To close the generator is to give the reply up; `gone` says so while another thread waits for the next words, and they end in
        `LeftError`.
        """
        until, began = time.monotonic() + self.settings.serving.deadline_seconds, time.perf_counter()
        talk = as_messages(request)
        first = self._first(persona, before)
        entry = self.gate.enter(talk, self.settings.serving.region if region is None else region, told=told)
        steps = {"gate": time.perf_counter() - began}
        if entry.answer is not None:
            yield Answer(InferenceResponse(entry.answer, 0.0, 1.0), entry.action, entry, steps)
            return
        yield from self._reply(_Exchange([*first, *self.gate.without_own_words(talk)], talk, entry, until, steps, gone))

    def coherence(self, request: InferenceRequest, response: str) -> float:
        """How well the reply fits what was asked, 0-1 (`QualityValidator.score_semantic_coherence`)."""
        from attunement.records import QAPair

        talk = as_messages(request)
        *said, reply = self.gate.without_own_words([*talk, {"role": "assistant", "content": response}])
        context, response = [m["content"] for m in said[:-1]], reply["content"]
        return self.validator.score_semantic_coherence(QAPair(talk[-1]["content"], response, context, "", 0.0, {}))

    # --- inside -------------------------------------------------------------------------------------

    def _first(self, persona: str, before: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """What the model reads before the talk. Raises `ServiceError` for a persona that is not configured."""
        known = self.settings.serving.personas
        if persona and persona not in known:
            raise ServiceError(f"persona must be one of {', '.join(sorted(known)) or 'none: set serving.personas'}")
        return [*([{"role": "system", "content": known[persona]}] if persona else []), *before]

    def _reply(self, exchange: _Exchange) -> Generator[str | Answer]:
        """`stream` of a generated reply. A first try of which nothing was shown has a second, at a lower temperature."""
        serving, entry, steps = self.settings.serving, exchange.entry, exchange.steps
        how = GenerationConfig(
            serving.max_new_tokens, serving.temperature, serving.top_p, serving.repetition_penalty, serving.deadline_seconds
        )
        first = tried = yield from self._try(exchange, how)
        in_time = exchange.until - time.monotonic() >= serving.deadline_seconds * LEAST_SHARE
        if again := bool(tried.faults and not tried.shown and in_time):
            tried = yield from self._try(exchange, replace(how, temperature=COOLER * how.temperature))
        if tried.faults:
            whole = InferenceResponse(entry.around(self.gate.messages.withheld), 0.0, 0.0)
            yield Answer(whole, WITHHELD, entry, steps, tried.faults, first.said or tried.said, again)
            return
        if entry.reminder:
            yield f"\n\n{entry.reminder}"
        bias = self.validator.detect_bias(tried.said).bias_score
        response = InferenceResponse(entry.around(tried.said), bias, tried.confidence)
        yield Answer(response, REMINDED if entry.reminder else PASSED, entry, steps, first.faults if again else (), "", again)

    def _try(self, exchange: _Exchange, how: GenerationConfig) -> Generator[str, None, _Tried]:
        """One reply, its sentences given as they are judged, until one must not be shown; before the first what must be said there."""
        said, shown, heard, began, checked = "", "", list[tuple[int, Piece]](), time.perf_counter(), 0.0
        lead = f"{exchange.entry.disclosure}\n\n" if exchange.entry.disclosure else ""

        def faults(reply: str) -> tuple[str, ...]:
            nonlocal checked
            start = time.perf_counter()
            found = self.gate.faults(reply, exchange.talk) if reply else ("empty",)
            checked += time.perf_counter() - start
            return found

        try:
            with closing(self.engine.stream(exchange.prompt, how, exchange.until)) as pieces:
                for piece in pieces:
                    if exchange.gone():
                        raise LeftError
                    said = said + piece.text if said else piece.text.lstrip()
                    heard.append((len(said), piece))
                    ends = [m.end() for m in SENTENCE_END.finditer(said) if m.end() < len(said)]
                    if ends and ends[-1] > len(shown):
                        if found := faults(said[: ends[-1]]):
                            return _Tried(said, shown, found)
                        yield (lead if not shown else "") + said[len(shown) : ends[-1]]
                        shown = said[: ends[-1]]
            whole = _ended(said, shown)
            if found := faults(whole):
                return _Tried(said, shown, found)
            if whole[len(shown) :]:
                yield (lead if not shown else "") + whole[len(shown) :]
            return _Tried(whole, whole, (), _confidence(heard, len(whole)))
        finally:
            steps = exchange.steps
            steps["check"] = steps.get("check", 0.0) + checked
            steps["generate"] = steps.get("generate", 0.0) + time.perf_counter() - began - checked


def as_messages(request: InferenceRequest) -> list[dict[str, str]]:
    """Chat messages that start with the user and alternate. Strings are turns: the client's first, then in turn.

    Raises `ServiceError` for a role that is unknown or a request without words.
    """
    turns: list[tuple[str, str]] = []
    for number, item in enumerate(request.conversation_context):
        if isinstance(item, str):
            turns.append((("user", "assistant")[number % 2], item))
            continue
        role = ROLES.get(str(item.get("role", "")).strip().casefold())
        if role is None:
            raise ServiceError(f"conversation_context[{number}].role must be one of {', '.join(ROLES)}")
        turns.append((role, str(item.get("content", ""))))
    if not request.user_input.strip():
        raise ServiceError("user_input is empty: send what the person said")
    out: list[dict[str, str]] = []
    for role, text in [*turns, ("user", request.user_input)]:
        if not text.strip() or (not out and role == "assistant"):
            continue
        if out and out[-1]["role"] == role:
            out[-1]["content"] += f"\n{text.strip()}"
        else:
            out.append({"role": role, "content": text.strip()})
    return out


def _ended(said: str, shown: str) -> str:
    """A reply that was cut loses its unfinished sentence, unless nothing else is there."""
    ends = [m.end() for m in SENTENCE_END.finditer(said)]
    whole = said[: max(ends)] if ends else said
    return whole if len(whole) >= len(shown) else shown


def _confidence(heard: Sequence[tuple[int, Piece]], length: int) -> float:
    """The geometric mean of the probabilities that the model gave its own words, up to `length` characters of the reply.

    A first measure, not calibrated. Reviewed text has 1, text in place of words held back 0, and so has a reply of an engine that tells none.
    """
    logprobs = [told for upto, piece in heard if upto <= length for told in piece.logprobs]
    return round(math.exp(min(0.0, sum(logprobs) / len(logprobs))), 4) if logprobs else 0.0
