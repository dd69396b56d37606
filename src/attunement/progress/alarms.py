"""What somebody must hear of at once, found while a session or a questionnaire is logged. Where it is told is the doors' business."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.grouped import Insert

CRITICAL_ANSWER, IN_SESSION = "critical_answer", "danger_in_session"


@dataclass(frozen=True)
class Alarm:
    """Danger of a client. `priority` is possible (to be looked at), elevated or imminent (alerts), `reasons` are codes, `talk` chat messages that say why, for the clinician alone."""

    client: str
    session: str
    priority: str
    reasons: Sequence[str]
    at: datetime
    talk: Sequence[Mapping[str, str]] = field(repr=False)


@dataclass(frozen=True)
class Raised:
    """Rows and audit records of an alert, written in one transaction with what it is about; `told` is called when they are on disk."""

    inserts: Sequence[Insert]
    entries: Sequence[Entry]
    told: Callable[[], None]


Alarms = Callable[[Alarm, Act], Raised]
