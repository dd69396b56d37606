"""One exchange with a person, whole: the gate and the model, what is counted, flagged, kept and told of. Knows nothing of HTTP.

What must not be lost (a review, an alert) is on disk before the reply is given.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from attunement.config import ServingSettings
from attunement.errors import DataError
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import InferenceRequest, InferenceResponse
from attunement.security.acting import Act
from attunement.serving.alerts import AlertSender
from attunement.serving.engines import BusyError, EngineError
from attunement.serving.gate import CRISIS, HIGH, PASSED, REMINDED, WITHHELD
from attunement.serving.metrics import Metrics
from attunement.serving.reviews import ALERTS, ClinicalReviews, Flagged
from attunement.serving.service import Answer, DeploymentService, LeftError, as_messages, stays
from attunement.storage.opening import Stores
from attunement.storage.transcripts.records import Transcript
from attunement.storage.transcripts.store import made_now

log = logging.getLogger("attunement.serving")

MOST_SESSIONS = 100_000
LATE_SECONDS = 2.0
CUT = "cut"
"""Among the flags of a reply that ended before its end: the reader left, or the model failed, after some of it was shown."""
MOST_UNKEPT = 1_000
"""Alerts, and what readers who left said, that wait in memory for the store to be back; the spool holds their transcripts on disk meanwhile."""


@dataclass(frozen=True)
class Asked:
    """A request with who asks: ids of client and session ("" for none), the region (ISO 3166; "" as configured), and what the model is told
    beforehand: a persona of the settings, an instruction of the caller."""

    request: InferenceRequest
    client: str = ""
    session: str = ""
    region: str = ""
    persona: str = ""
    instruction: str = ""


@dataclass(frozen=True)
class Answered:
    """An answer with what was done about it. `latency_ms` is from the request's arrival to the whole reply."""

    answer: Answer
    model: str
    request: str
    latency_ms: float
    review: str = ""


class History(Protocol):
    """What was said before, for a prompt: the progress journal of a client (nothing until there is one)."""

    def context(self, client: str, said: str, act: Act) -> Sequence[Mapping[str, str]]:
        """Messages that come before the conversation."""


class Told:
    """When each session was last told that this is no human: in memory, bounded. Who is not known is told again."""

    def __init__(self, clock: Any = time.time) -> None:
        self._at: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._clock, self._lock = clock, threading.Lock()

    def lately(self, session: str, idle_days: float | None, hours: float | None) -> bool | None:
        """Whether it holds for now; None without a session: the talk must say."""
        if not session:
            return None
        now = self._clock()
        with self._lock:
            told, last = self._at.get(session, (0.0, 0.0))
            if told:
                self._at[session] = told, now
        if not told:
            return None
        return not (hours and now - told > hours * 3600) and not (idle_days and now - last > idle_days * 86_400)

    def now(self, session: str) -> None:
        """The session was told."""
        if session:
            with self._lock:
                self._at[session] = self._clock(), self._clock()
                self._at.move_to_end(session)
                if len(self._at) > MOST_SESSIONS:
                    self._at.popitem(last=False)


class Exchanges:
    """Answers requests over a service. Without `reviews` (nobody signs in, no store) nothing is kept."""

    def __init__(
        self,
        service: DeploymentService,
        metrics: Metrics,
        reviews: ClinicalReviews | None = None,
        alerts: AlertSender | None = None,
        history: History | None = None,
        stores: Stores | None = None,
        progress: ProgressTrackingSystem | None = None,
    ) -> None:
        self.service, self.metrics, self.reviews, self._alerts, self._history = service, metrics, reviews, alerts, history
        self.stores, self.progress = stores, progress
        self._told = Told()
        self._unkept: deque[tuple[Flagged, Act]] = deque(maxlen=MOST_UNKEPT)
        self._next_try = 0.0

    def answer(self, asked: Asked, act: Act) -> Answered:
        """The whole reply. Raises as `DeploymentService.predict`."""
        *_, last = self.stream(asked, act)
        assert isinstance(last, Answered)
        return last

    @property
    def settings(self) -> ServingSettings:
        return self.service.settings.serving

    def stream(self, asked: Asked, act: Act, gone: Callable[[], bool] = stays) -> Generator[str | Answered]:
        """The reply sentence by sentence, each judged before it is given; then the whole.

        Whoever closes the generator has read what it gave, and that is kept; `LeftError` thrown into it says that the last piece was
        not read. `gone` is as `DeploymentService.stream` has it.
        """
        began = time.perf_counter()
        region = self.service.gate.places.check(asked.region) or self.settings.region
        law = self.service.gate.places.jurisdiction(region)
        told = self._told.lately(asked.session, law.disclose.idle_days, law.disclose.hours)
        shown, answered = list[str](), False
        try:
            with self.metrics.streams.track_inprogress(), closing(self._said(asked, region, told, act, gone)) as pieces:
                for piece in pieces:
                    if isinstance(piece, str):
                        yield from _given(piece, shown, gone)
                        continue
                    answered = True
                    done = self._done(asked, piece, region, act, began)
                    if not shown:  # after it is kept: who has read it may be gone, and danger must be on disk by then
                        yield piece.reply.response
                    yield done
        except BaseException as error:  # by now nothing is generated any more
            if not answered and (shown or isinstance(error, GeneratorExit | LeftError)):
                self._cut(asked, shown, region, told, act, began)
            raise

    def _said(self, asked: Asked, region: str, told: bool | None, act: Act, gone: Callable[[], bool]) -> Generator[str | Answer]:
        """The service's answer, or where the model cannot answer in time what it said to the same prompt before."""
        before: list[Mapping[str, str]] = [{"role": "system", "content": asked.instruction}] if asked.instruction else []
        if self._history and asked.client:
            before += self._history.context(asked.client, asked.request.user_input, act)
        shown, how = False, {"region": region, "told": told, "before": before, "persona": asked.persona, "gone": gone}
        try:
            with closing(self.service.stream(asked.request, **how)) as pieces:  # type: ignore[arg-type]
                for piece in pieces:
                    shown = True
                    yield piece
                    if not isinstance(piece, str):
                        self._keep_reply(asked, before, piece)
        except (BusyError, EngineError) as error:
            answer = None if shown else self._before(asked, region, told, before)
            if answer is None:
                self.metrics.refusals.labels("503").inc()
                log.warning("no reply in time (%s), and none kept", type(error).__name__)
                raise
            self.metrics.cached.inc()
            yield answer.reply.response
            yield answer

    def _before(self, asked: Asked, region: str, told: bool | None, before: Sequence[Mapping[str, str]]) -> Answer | None:
        """The kept reply to the same prompt, past the gate again; None without one, and never where there is any risk."""
        if self.stores is None:
            return None
        talk = as_messages(asked.request)
        entry = self.service.gate.enter(talk, region, told=told)
        found = self.stores.replies.get(*self._prompt(asked, before), risk=entry.at_risk, client=asked.client)
        if not found or entry.answer is not None or self.service.gate.faults(found["response"], talk):
            return None
        reply = InferenceResponse(entry.around(found["response"]), found["bias_score"], found["confidence"])
        return Answer(reply, PASSED, entry, flags=("cached",))

    def _keep_reply(self, asked: Asked, before: Sequence[Mapping[str, str]], answer: Answer) -> None:
        if self.stores is None or answer.action != PASSED or answer.entry.at_risk:
            return
        entry, reply = answer.entry, answer.reply
        said = reply.response.removeprefix(f"{entry.disclosure}\n\n") if entry.disclosure else reply.response
        kept = {"response": said, "bias_score": reply.bias_score, "confidence": reply.confidence}
        self.stores.replies.put(*self._prompt(asked, before), kept, risk=False, client=asked.client)

    def _prompt(self, asked: Asked, before: Sequence[Mapping[str, str]]) -> tuple[list[Mapping[str, str]], str, dict[str, Any]]:
        """All that a reply depends on: what the model reads, which model it is, how it is asked."""
        serving = self.settings
        how = {
            "tokens": serving.max_new_tokens,
            "temperature": serving.temperature,
            "top_p": serving.top_p,
            "persona": asked.persona,
        }
        prompt = [*before, *self.service.gate.without_own_words(as_messages(asked.request))]
        return prompt, self.service.version, how

    def _cut(self, asked: Asked, shown: Sequence[str], region: str, told: bool | None, act: Act, began: float) -> None:
        """Does for what was shown of a reply what `_done` does for a whole one; where nothing was, people still look at what was said."""
        entry, said = self.service.gate.enter(as_messages(asked.request), region, told=told), "".join(shown)
        reminded = bool(entry.reminder) and said.endswith(str(entry.reminder))
        reply = InferenceResponse(said, 0.0, 0.0)  # its scores are of the whole, and go nowhere
        answer = Answer(reply, REMINDED if reminded else PASSED, entry, flags=(CUT,))
        try:
            if not shown:
                self._flag(asked, answer, region, act, waits=True)
                return
            self.metrics.cut.inc()
            self._done(asked, answer, region, act, began, waits=True)
        except DataError as error:  # there is nobody any more to be told
            log.error("what was shown of a reply (request %s) could not be kept: %s", act.request, error)

    def _done(self, asked: Asked, answer: Answer, region: str, act: Act, began: float, *, waits: bool = False) -> Answered:
        if answer.entry.disclosure:
            self._told.now(asked.session)
        flag_began = time.perf_counter()
        self._keep_late()
        row = self._flag(asked, answer, region, act, waits=waits)
        self._keep(asked, answer, act)
        steps = {**answer.steps, "keep": time.perf_counter() - flag_began}
        seconds = time.perf_counter() - began
        level = answer.entry.state.level
        self.metrics.replied(answer.action, level, seconds, steps)
        if answer.regenerated:
            self.metrics.regenerated.inc()
        if self.stores is not None:
            self.stores.live.publish({"action": answer.action, "level": level, "seconds": round(seconds, 4)})
        return Answered(answer, self.service.version, act.request, round(1000 * seconds, 1), row)

    def _keep(self, asked: Asked, answer: Answer, act: Act) -> None:
        """Keeps the transcript: the last words and the reply; what was said before them stands in earlier ones."""
        if self.stores is None:
            return
        turns = as_messages(asked.request)[-1:]
        safety = {"level": answer.entry.state.level, "action": answer.action, "flags": [*answer.entry.reasons, *answer.flags]}
        said = answer.reply.response
        kept = Transcript(
            act.request, asked.session or act.request, turns, said, self.service.version[:120], safety, made_now(), asked.client
        )
        self.stores.transcripts.add(kept, act)

    def _flag(self, asked: Asked, answer: Answer, region: str, act: Act, *, waits: bool = False) -> str:
        """Puts what people must look at into the queue; the row's id. Danger is told of at once."""
        priority = priority_of(answer)
        if not priority:
            return ""
        reasons = tuple(dict.fromkeys((*answer.entry.reasons, *answer.flags)))
        said = answer.withheld or answer.reply.response
        who = act.request, asked.client, asked.session, self.service.version
        talk = as_messages(asked.request)
        return self.flag(
            Flagged(priority, answer.action, reasons, talk, said, *who, region, answer.action == CRISIS), act, waits=waits
        )

    def _keep_late(self) -> None:
        """Puts alerts into the queue that the store did not take when they came: one that it does not take now stays, and so do those after it."""
        while self._unkept and self.reviews is not None and time.monotonic() >= self._next_try:
            flagged, act = self._unkept.popleft()
            try:
                row = self.reviews.flag(flagged, act)
            except DataError:
                self._unkept.appendleft((flagged, act))
                self._next_try = time.monotonic() + LATE_SECONDS  # a store that hangs must not hold up every reply
                return
            if flagged.priority in ALERTS and self._alerts is not None:
                self._alerts.raised(flagged.priority, row)

    def flag(self, flagged: Flagged, act: Act, *, waits: bool = False) -> str:
        """Puts something before people: into the queue where there is one; danger is told of at once. The row's id.

        Where the store does not take it, who is in danger is answered all the same, the log says so, and it is put in with a later reply;
        with `waits` so is everything else.
        """
        row = ""
        try:
            row = self.reviews.flag(flagged, act) if self.reviews is not None else ""
        except DataError as error:
            if flagged.priority not in ALERTS and not waits:
                raise
            log.critical("a clinical row (%s, request %s) could not be kept yet: %s", flagged.priority, act.request, error)
            self._unkept.append((flagged, act))
        if flagged.priority in ALERTS and self._alerts is not None:
            self._alerts.raised(flagged.priority, row)
        return row


def _given(piece: str, shown: list[str], gone: Callable[[], bool]) -> Generator[str]:
    """Gives a piece to the reader, who has read it unless told otherwise."""
    if gone():
        raise LeftError
    shown.append(piece)
    try:
        yield piece
    except LeftError:
        shown.pop()
        raise


def priority_of(answer: Answer) -> str:
    """Why people must look at an answer; "" where they need not. Danger that was answered before is looked at again: it goes on."""
    if answer.action == CRISIS:
        level = answer.entry.now
        return level if level in HIGH else HIGH[0]
    if answer.action == WITHHELD:
        return "withheld"
    return "possible" if answer.entry.now == "possible" else ""
