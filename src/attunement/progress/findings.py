"""What the statistics find in a client's series. Every finding says how many points it rests on; what there is too little data for is not there.

Times are aware datetimes, slopes are per week, intervals are 95 % unless said otherwise, p-values two-sided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from attunement.records import EmotionalTrend

IMPROVING, STABLE, REGRESSING, NOT_ENOUGH = "improving", "stable", "regressing", "not_enough_data"
TRAJECTORIES = (IMPROVING, STABLE, REGRESSING, NOT_ENOUGH)
"""`overall_trajectory`: the contract's three, and what is true while there are too few points to say."""
RECOVERED, IMPROVED, UNCHANGED, DETERIORATED = "recovered", "improved", "unchanged", "deteriorated"
CHANGES = (RECOVERED, IMPROVED, UNCHANGED, DETERIORATED)
"""Jacobson and Truax 1991: recovered is reliable change across the cut-off."""


@dataclass(frozen=True)
class MeasureScore:
    """A questionnaire that was filled in. `measure` is the code of a measure (`phq9`), `total` its score.

    `items` are the answers in order as they were given, None where one was left out; empty where only the total is known. `prorated` says that
    missing answers were filled by the measure's rule.
    """

    measure: str
    total: float
    at: datetime
    items: Sequence[int | None] = ()
    session_id: str = ""
    entry_id: str = ""
    prorated: bool = False


@dataclass(frozen=True)
class Trend:
    """A slope that outliers do not move (Theil-Sen, units a week, with its interval) and the test of a trend (Mann-Kendall)."""

    slope_per_week: float
    interval: tuple[float, float]
    tau: float
    p: float
    points: int


@dataclass(frozen=True)
class ReliableChange:
    """The change from the first score to the last against what the measure's unreliability alone would give.

    `status` is one of `CHANGES`; `change` is last minus first; `reliable` the least difference that is reliable (RCI x standard error), `cutoff` the clinical
    one. `explanation` names reliability, SD, sample and source, for a reader.
    """

    status: str
    first: float
    last: float
    change: float
    reliable: float
    cutoff: float
    explanation: str


@dataclass(frozen=True)
class ExpectedResponse:
    """Whether the course is as expected for somebody who began there. `on_track` False is an alert: the client may be about to deteriorate."""

    on_track: bool
    observed: float
    expected: float
    band: tuple[float, float]
    explanation: str


@dataclass(frozen=True)
class ChangePoint:
    """Where the level moved: `at` is the first score of the new level, `between` the times of the scores on both sides; means `before` and `after`.

    `sessions` are the ids of those around it.
    """

    at: datetime
    between: tuple[datetime, datetime]
    before: float
    after: float
    sessions: Sequence[str] = ()


@dataclass(frozen=True)
class Plateau:
    """A stretch whose slope is equivalent to none (two one-sided tests): its interval (90 %) lies within `margin` a week on both sides."""

    start: datetime
    end: datetime
    mean: float
    interval: tuple[float, float]
    margin: float
    points: int


@dataclass(frozen=True)
class Season:
    """A yearly course beside the trend: months (1-12) of the highest and of the lowest scores, half the difference, and its p-value."""

    high_month: int
    low_month: int
    amplitude: float
    interval: tuple[float, float]
    p: float
    years: float


@dataclass(frozen=True)
class MeasureTrend:
    """All that is found in the scores of one measure. What is None was not found, or there is too little data: `not_enough` says for what.

    `trajectory` is one of `TRAJECTORIES`; `evidence` are sentences with figures, for a reader.
    """

    measure: str
    scores: Sequence[MeasureScore]
    trajectory: str
    evidence: Sequence[str] = ()
    trend: Trend | None = None
    change: ReliableChange | None = None
    expected: ExpectedResponse | None = None
    change_points: Sequence[ChangePoint] = ()
    plateaus: Sequence[Plateau] = ()
    season: Season | None = None
    not_enough: Sequence[str] = ()


@dataclass(frozen=True)
class TrendAnalysis:
    """What `analyze_trends` gives. `trajectory` follows from the measures by the rules in docs/progress.md; `caveats` are what a reader must know."""

    client_id: str
    sessions_count: int
    trajectory: str
    measures: Sequence[MeasureTrend]
    emotions: Sequence[EmotionalTrend] = ()
    evidence: Sequence[str] = ()
    caveats: Sequence[str] = ()
