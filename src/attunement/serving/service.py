"""`DeploymentService`: one loaded model behind the gate. Knows nothing of HTTP; the app and the terminal wire it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attunement.config import Settings, load_settings
from attunement.embedding import Embedder
from attunement.errors import ServiceError
from attunement.model.chat import SENTENCE_END, encode_example, stream_reply
from attunement.quality.validator import QualityValidator
from attunement.records import DeployedModel, GenerationConfig, HealthStatus, InferenceRequest, InferenceResponse
from attunement.serving.gate import PASSED, REMINDED, WITHHELD, Entry, Messages, SafetyGate
from attunement.serving.places import Places

ROLES = {"user": "user", "client": "user", "assistant": "assistant", "therapist": "assistant"}
"""How callers may name who spoke, in any case."""
LEAST_SHARE = 1 / 3
"""Of a request's deadline, what must be left when its turn comes: with less the reply would end after a few words.

Of the default 1.8 s that is 0.6 s, about 50 tokens of the packaged base on two cores; 0.1 s gave 7.
"""
MOST_WAITING = 16
"""More would wait in vain, and take the server's 40 threads from those whom the gate answers at once."""
COOLER = 0.4
"""Of the temperature, for the second try after a reply that must not be shown."""
_LOG = logging.getLogger(__name__)


class BusyError(ServiceError):
    """The model is not free in time for a reply worth reading: the queue is full or took too much of the deadline."""


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
    """What a try said, what of it was shown, and why not the rest."""

    said: str
    shown: str
    faults: Sequence[str]


class DeploymentService:
    """The contract's service. One request has the model at a time; others wait while a whole reply is still in reach."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings().settings
        self.validator = QualityValidator(Embedder(self.settings.embedding), self.settings.home.expanduser())
        serving = self.settings.serving
        places = Places.load(serving.help_lines, serving.jurisdictions)
        messages = Messages.load(serving.messages)
        self.gate = SafetyGate(self.validator, messages, serving.max_bias_score, places, discloses=serving.disclose)
        self.deployed: DeployedModel | None = None
        self._model: Any = None
        self._tokenizer: Any = None
        self._turn = threading.Lock()
        self._seats = threading.BoundedSemaphore(MOST_WAITING)
        self._started = time.monotonic()

    # --- the contract -------------------------------------------------------------------------------

    def load_model(self, checkpoint_path: Path) -> DeployedModel:
        """Loads a run's best checkpoint, or a checkpoint, and warms it up. Raises `ModelError`."""
        from attunement.model.moe_lora import load_moe

        model, tokenizer, info = load_moe(Path(checkpoint_path))
        checkpoint = Path(info["checkpoint"])
        run = checkpoint.parent.parent.name if checkpoint.parent.name == "checkpoints" else ""
        name = "/".join(part for part in (run, checkpoint.name) if part)
        deployed = DeployedModel(
            f"{name}@{info['adapter_sha256'][:8]}", checkpoint, sum(p.numel() for p in model.parameters()), str(model.device)
        )
        self.gate.warm_up()
        with self._turn:
            self._model, self._tokenizer, self.deployed = model, tokenizer, deployed
            for _ in stream_reply(model, tokenizer, [{"role": "user", "content": "Hello."}], self._generation(1)):
                pass
        return deployed

    def predict(self, request: InferenceRequest) -> InferenceResponse:
        """The reply to `user_input` after `conversation_context`, judged.

        Raises `ServiceError` for an empty request or without a model, `BusyError` when its turn does not come in time.
        """
        return self.answer(request).reply

    def health_check(self) -> HealthStatus:
        """`healthy` with a model, `unhealthy` without."""
        up = int(time.monotonic() - self._started)
        days, rest = divmod(up, 86_400)
        clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
        return HealthStatus("healthy" if self.deployed else "unhealthy", self.version, f"{days}d {clock}")

    @property
    def version(self) -> str:
        """Of the model that is served; `none` without one."""
        return self.deployed.model_version if self.deployed else "none"

    def count_tokens(self, text: str) -> int:
        """Of the served model's tokeniser; 0 without a model."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if self._tokenizer else 0

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
    ) -> Iterator[str | Answer]:
        """The reply sentence by sentence, each judged before it is given; then the whole with what the gate did.

        Where the whole differs from the pieces (words were held back), it is the whole that counts. `region` (ISO 3166) and `told` are
        as `SafetyGate.enter` has them; `before` are messages for the model alone; `persona` is one of `serving.personas`.
        """
        began = time.perf_counter()
        talk = as_messages(request)
        first = self._first(persona, before)
        entry = self.gate.enter(talk, self.settings.serving.region if region is None else region, told=told)
        steps = {"gate": time.perf_counter() - began}
        if entry.answer is not None:
            yield entry.answer
            yield Answer(InferenceResponse(entry.answer, 0.0, 1.0), entry.action, entry, steps)
            return
        with self._own_turn() as seconds:
            if entry.disclosure:
                yield f"{entry.disclosure}\n\n"
            yield from self._reply([*first, *self.gate.without_own_words(talk)], talk, entry, seconds, steps)

    def coherence(self, request: InferenceRequest, response: str) -> float:
        """How well the reply fits what was asked, 0-1 (`QualityValidator.score_semantic_coherence`)."""
        from attunement.records import QAPair

        talk = as_messages(request)
        *said, reply = self.gate.without_own_words([*talk, {"role": "assistant", "content": response}])
        context, response = [m["content"] for m in said[:-1]], reply["content"]
        return self.validator.score_semantic_coherence(QAPair(talk[-1]["content"], response, context, "", 0.0, {}))

    # --- inside -------------------------------------------------------------------------------------

    @contextmanager
    def _own_turn(self) -> Iterator[float]:
        """The model for one request, until its reply is scored, and the seconds that it may generate for.

        Raises `BusyError` as soon as less than `LEAST_SHARE` of them would be left, `ServiceError` without a model.
        """
        arrived, deadline = time.monotonic(), self.settings.serving.deadline_seconds
        mine = False
        if self._seats.acquire(blocking=False):
            try:
                mine = self._turn.acquire(timeout=deadline * (1 - LEAST_SHARE))
            finally:
                self._seats.release()
        if not mine:
            _LOG.warning("busy: a request was refused after %.1f s in the queue", time.monotonic() - arrived)
            raise BusyError("the service is busy: ask again in a moment, or start more of it")
        try:
            if self._model is None:
                raise ServiceError("no model is loaded: start the service with  attune serve --model RUN")
            yield deadline - (time.monotonic() - arrived)
        finally:
            self._turn.release()

    def _first(self, persona: str, before: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """What the model reads before the talk. Raises `ServiceError` for a persona that is not configured."""
        known = self.settings.serving.personas
        if persona and persona not in known:
            raise ServiceError(f"persona must be one of {', '.join(sorted(known)) or 'none: set serving.personas'}")
        return [*([{"role": "system", "content": known[persona]}] if persona else []), *before]

    def _reply(
        self,
        prompt: Sequence[Mapping[str, str]],
        talk: Sequence[Mapping[str, str]],
        entry: Entry,
        seconds: float,
        steps: dict[str, float],
    ) -> Iterator[str | Answer]:
        """`stream` of a generated reply; the caller has the model's turn. A first try of which nothing was shown has a second."""
        until = time.monotonic() + seconds
        temperature = self.settings.serving.temperature
        tried = yield from self._try(prompt, talk, temperature, seconds, steps)
        left = until - time.monotonic()
        again = bool(tried.faults and not tried.shown and left >= self.settings.serving.deadline_seconds * LEAST_SHARE)
        first = tried
        if again:
            tried = yield from self._try(prompt, talk, COOLER * temperature, left, steps)
        if tried.faults:
            whole = InferenceResponse(entry.around(self.gate.messages.withheld), 0.0, 0.0)
            yield Answer(whole, WITHHELD, entry, steps, tried.faults, first.said or tried.said, again)
            return
        if entry.reminder:
            yield f"\n\n{entry.reminder}"
        action = REMINDED if entry.reminder else PASSED
        yield Answer(self._scored(prompt, tried.said, entry), action, entry, steps, first.faults if again else (), "", again)

    def _try(
        self,
        prompt: Sequence[Mapping[str, str]],
        talk: Sequence[Mapping[str, str]],
        temperature: float,
        seconds: float,
        steps: dict[str, float],
    ) -> Generator[str, None, _Tried]:
        """One reply, its sentences given as they are judged, until one must not be shown."""
        said, shown, began = "", "", time.perf_counter()
        checked = 0.0

        def faults(reply: str) -> tuple[str, ...]:
            nonlocal checked
            start = time.perf_counter()
            found = self.gate.faults(reply, talk)
            checked += time.perf_counter() - start
            return found

        try:
            how = self._generation(seconds=seconds, temperature=temperature)
            with closing(stream_reply(self._model, self._tokenizer, prompt, how)) as pieces:
                for piece in pieces:
                    said = said + piece if said else piece.lstrip()
                    ends = [m.end() for m in SENTENCE_END.finditer(said) if m.end() < len(said)]
                    if ends and ends[-1] > len(shown):
                        if found := faults(said[: ends[-1]]):
                            return _Tried(said, shown, found)
                        yield said[len(shown) : ends[-1]]
                        shown = said[: ends[-1]]
            whole = _ended(said, shown)
            if found := faults(whole) if whole else ("empty",):
                return _Tried(said, shown, found)
            if whole[len(shown) :]:
                yield whole[len(shown) :]
            return _Tried(whole, whole, ())
        finally:
            steps["check"] = steps.get("check", 0.0) + checked
            steps["generate"] = steps.get("generate", 0.0) + time.perf_counter() - began - checked

    def _generation(
        self, most_tokens: int | None = None, seconds: float | None = None, temperature: float | None = None
    ) -> GenerationConfig:
        serving = self.settings.serving
        return GenerationConfig(
            most_tokens or serving.max_new_tokens,
            serving.temperature if temperature is None else temperature,
            serving.top_p,
            serving.repetition_penalty,
            seconds or serving.deadline_seconds,
        )

    def _scored(self, talk: Sequence[Mapping[str, str]], reply: str, entry: Entry) -> InferenceResponse:
        """`confidence` is the geometric mean of the probabilities that the model gives its own words (a first measure,

        not calibrated); reviewed text has 1, text in place of words held back 0. The caller has the model's turn: to wait
        for it again, behind the next reply, took a burst of requests past the contract's 2 s.
        """
        import torch

        encoded = encode_example(
            self._tokenizer, [*talk, {"role": "assistant", "content": reply}], self._model.config.context_length
        )
        ids, labels = (torch.tensor([part], device=self._model.device) for part in (encoded.ids, encoded.labels))
        with torch.no_grad():
            loss = self._model(ids, None, labels).language_loss
        bias = self.validator.detect_bias(reply).bias_score
        return InferenceResponse(entry.around(reply), bias, round(math.exp(-float(loss)), 4))


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
