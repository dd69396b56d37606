"""`DeploymentService`: an engine behind the gate. Knows nothing of HTTP; the app and the terminal wire it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from attunement.config import Settings, load_settings
from attunement.embedding import Embedder
from attunement.errors import ServiceError
from attunement.model.chat import SENTENCE_END
from attunement.quality.validator import QualityValidator
from attunement.records import DeployedModel, GenerationConfig, HealthStatus, InferenceRequest, InferenceResponse
from attunement.security.recording import agreements_of
from attunement.serving.engines import BusyError as BusyError
from attunement.serving.engines import Piece
from attunement.serving.engines.holder import EngineHolder
from attunement.serving.engines.opening import open_engine
from attunement.serving.gate import CRISIS, PASSED, REMINDED, WITHHELD, Entry, Messages, SafetyGate

ROLES = {"user": "user", "client": "user", "assistant": "assistant", "therapist": "assistant"}
"""How callers may name who spoke, in any case."""


class DeploymentService:
    """The contract's service: many requests at once, as many as the engine takes; the others are told that it is busy."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings().settings
        self.validator = QualityValidator(Embedder(self.settings.embedding), self.settings.home.expanduser())
        serving = self.settings.serving
        self.gate = SafetyGate(self.validator, Messages.load(serving.messages), serving.max_bias_score)
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
        return self.answer(request)[0]

    def health_check(self) -> HealthStatus:
        """`healthy` with a model, `degraded` with another than was asked for, `unhealthy` without."""
        up = int(time.monotonic() - self._started)
        days, rest = divmod(up, 86_400)
        clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
        deployed = self.deployed
        status = "unhealthy" if deployed is None else "degraded" if self.engine.alert else "healthy"
        return HealthStatus(status, deployed.model_version if deployed else "none", f"{days}d {clock}")

    # --- the same, in pieces ------------------------------------------------------------------------

    def answer(self, request: InferenceRequest) -> tuple[InferenceResponse, str]:
        """`predict`, and what the gate did (`attunement.serving.gate`)."""
        *_, last = self.stream(request)
        assert not isinstance(last, str)
        return last

    def stream(self, request: InferenceRequest) -> Iterator[str | tuple[InferenceResponse, str]]:
        """The reply sentence by sentence, each judged before it is given; then the whole with what the gate did.

        Where the whole differs from the pieces (words were held back), it is the whole that counts.
        """
        talk = as_messages(request)
        entry = self.gate.enter(talk)
        if entry.answer is not None:
            yield entry.answer
            yield InferenceResponse(entry.answer, 0.0, 1.0), CRISIS
            return
        yield from self._reply(talk, entry)

    def coherence(self, request: InferenceRequest, response: str) -> float:
        """How well the reply fits what was asked, 0-1 (`QualityValidator.score_semantic_coherence`)."""
        from attunement.records import QAPair

        talk = as_messages(request)
        context = [m["content"] for m in talk[:-1]]
        return self.validator.score_semantic_coherence(QAPair(talk[-1]["content"], response, context, "", 0.0, {}))

    # --- inside -------------------------------------------------------------------------------------

    def _reply(self, talk: Sequence[Mapping[str, str]], entry: Entry) -> Iterator[str | tuple[InferenceResponse, str]]:
        """`stream` of a generated reply."""
        said, shown, heard = "", "", list[tuple[int, Piece]]()
        with closing(self.engine.stream(talk, self._generation())) as pieces:
            for piece in pieces:
                said = said + piece.text if said else piece.text.lstrip()
                heard.append((len(said), piece))
                ends = [m.end() for m in SENTENCE_END.finditer(said) if m.end() < len(said)]
                if ends and ends[-1] > len(shown):
                    if not self.gate.admits(said[: ends[-1]], talk):
                        yield self._withheld(entry)
                        return
                    yield said[len(shown) : ends[-1]]
                    shown = said[: ends[-1]]
        whole = _ended(said, shown)
        if not whole or not self.gate.admits(whole, talk):
            yield self._withheld(entry)
            return
        if whole[len(shown) :]:
            yield whole[len(shown) :]
        if entry.reminder:
            yield f"\n\n{entry.reminder}"
        bias = self.validator.detect_bias(whole).bias_score
        text = f"{whole}\n\n{entry.reminder}" if entry.reminder else whole
        response = InferenceResponse(text, bias, _confidence(heard, len(whole)))
        yield response, REMINDED if entry.reminder else PASSED

    def _generation(self) -> GenerationConfig:
        serving = self.settings.serving
        return GenerationConfig(
            serving.max_new_tokens, serving.temperature, serving.top_p, serving.repetition_penalty, serving.deadline_seconds
        )

    def _withheld(self, entry: Entry) -> tuple[InferenceResponse, str]:
        text = self.gate.messages.withheld
        return InferenceResponse(f"{text}\n\n{entry.reminder}" if entry.reminder else text, 0.0, 0.0), WITHHELD


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
