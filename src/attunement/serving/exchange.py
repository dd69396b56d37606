"""One exchange with a person, whole: the gate and the model, what is counted, flagged, kept and told of. Knows nothing of HTTP.

What must not be lost (a review, an alert) is on disk before the reply is given.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from attunement.records import InferenceRequest
from attunement.security.acting import Act
from attunement.serving.alerts import AlertSender
from attunement.serving.gate import CRISIS, HIGH, WITHHELD
from attunement.serving.metrics import Metrics
from attunement.serving.reviews import ALERTS, ClinicalReviews, Flagged
from attunement.serving.service import Answer, DeploymentService, as_messages

MOST_SESSIONS = 100_000


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
    ) -> None:
        self.service, self.metrics, self.reviews, self._alerts, self._history = service, metrics, reviews, alerts, history
        self._told = Told()

    def answer(self, asked: Asked, act: Act) -> Answered:
        """The whole reply. Raises as `DeploymentService.predict`."""
        *_, last = self.stream(asked, act)
        assert isinstance(last, Answered)
        return last

    def stream(self, asked: Asked, act: Act) -> Iterator[str | Answered]:
        """The reply sentence by sentence, each judged before it is given; then the whole."""
        began = time.perf_counter()
        region = self.service.gate.places.check(asked.region) or self.service.settings.serving.region
        law = self.service.gate.places.jurisdiction(region)
        told = self._told.lately(asked.session, law.disclose.idle_days, law.disclose.hours)
        before: list[Mapping[str, str]] = [{"role": "system", "content": asked.instruction}] if asked.instruction else []
        if self._history and asked.client:
            before += self._history.context(asked.client, asked.request.user_input, act)
        with self.metrics.streams.track_inprogress():
            for piece in self.service.stream(asked.request, region=region, told=told, before=before, persona=asked.persona):
                if isinstance(piece, str):
                    yield piece
                    continue
                yield self._done(asked, piece, region, act, began)

    def _done(self, asked: Asked, answer: Answer, region: str, act: Act, began: float) -> Answered:
        if answer.entry.disclosure:
            self._told.now(asked.session)
        flag_began = time.perf_counter()
        row = self._flag(asked, answer, region, act)
        steps = {**answer.steps, "review": time.perf_counter() - flag_began}
        seconds = time.perf_counter() - began
        self.metrics.replied(answer.action, answer.entry.state.level, seconds, steps)
        if answer.regenerated:
            self.metrics.regenerated.inc()
        model = self.service.version
        return Answered(answer, model, act.request, round(1000 * seconds, 1), row)

    def _flag(self, asked: Asked, answer: Answer, region: str, act: Act) -> str:
        """Puts what people must look at into the queue; the row's id. Danger is told of at once."""
        priority = priority_of(answer)
        if not priority:
            return ""
        reasons = tuple(dict.fromkeys((*answer.entry.reasons, *answer.flags)))
        said = answer.withheld or answer.reply.response
        who = act.request, asked.client, asked.session, self.service.version
        talk = as_messages(asked.request)
        return self.flag(Flagged(priority, answer.action, reasons, talk, said, *who, region, answer.action == CRISIS), act)

    def flag(self, flagged: Flagged, act: Act) -> str:
        """Puts something before people: into the queue where there is one; danger is told of at once. The row's id."""
        row = self.reviews.flag(flagged, act) if self.reviews is not None else ""
        if flagged.priority in ALERTS and self._alerts is not None:
            self._alerts.raised(flagged.priority, row)
        return row


def priority_of(answer: Answer) -> str:
    """Why people must look at an answer; "" where they need not. Danger that was answered before is looked at again: it goes on."""
    if answer.action == CRISIS:
        level = answer.entry.now
        return level if level in HIGH else HIGH[0]
    if answer.action == WITHHELD:
        return "withheld"
    return "possible" if answer.entry.now == "possible" else ""
