"""Plausible client journeys over years, with their truth: for tests, demonstrations, benchmarks and training data (docs/change.md).

Nobody's data: scores come from published means, standard deviations, reliabilities and effect sizes, words from `stock.toml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from attunement.progress.change import change_of
from attunement.progress.findings import MeasureScore
from attunement.progress.journey import Event, Goal, Journey, LoggedSession, Rating
from attunement.progress.measures import Measure, measure_of
from attunement.progress.simulator.courses import (
    KINDS,
    START,
    Course,
    filled_in,
    pick_kind,
    session_times,
    ticks,
    treatment,
    true_scores,
)
from attunement.progress.simulator.words import Writer, Written, stock
from attunement.records import CrisisAssessment, EmotionalState, SessionLog

MISSED = 0.089
"""Sessions that clients do not come to: Binnie and Boden 2016."""
LEFT_BLANK = 0.05
"""Sessions without a questionnaire (ours)."""
RELAPSED, RELAPSED_EARLY = 0.53, 0.79
"""Of those who got well, within a year, and of these within its first half: Ali et al. 2017. Later years: `LATE_RELAPSE` (ours)."""
LATE_RELAPSE = 0.2
EVENTS_A_YEAR = 0.7
SECOND_STRENGTH = 0.7
"""How far the second measure follows the course of the first (ours)."""
FOLLOW_UP_DAYS = 28.0
SPOKEN = 2
"""From this answer to a critical item on, the session's text speaks of it."""
ITEM_WEIGHTS = {"phq9": (1.2, 1.3, 1.6, 1.8, 1.0, 1.2, 1.1, 0.5, 0.12)}
"""How readily an item is ticked beside the others; thoughts of death are rare (ours)."""


@dataclass(frozen=True)
class Truth:
    """What is true of a simulated client. Changes are in points of `measure`, the client's first one.

    `trajectory` and `effect` (last less first true score) are those of the first course of treatment, `kind` is one of `KINDS`, `reliable` the
    status of its true scores. `change_points` are the times of the first scores after a sudden true move of at least a reliable change,
    over the whole journey; `relapses` when relapses began; `true_scores` what each score would be without error.
    """

    measure: str
    kind: str
    trajectory: str
    effect: float
    reliable: str
    change_points: Sequence[datetime]
    relapses: Sequence[datetime]
    true_scores: Mapping[str, Sequence[float]]
    first_course: int
    """So many scores of `measure` are of the first course."""


@dataclass(frozen=True)
class SimulatedJourney:
    """A journey and its truth."""

    journey: Journey
    truth: Truth


@dataclass
class _Client:
    """A client while it is made."""

    name: str
    rng: Generator
    first: Measure
    others: tuple[Measure, ...]
    writer: Writer
    start: float
    course: Course
    goals: list[Goal] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def simulate(
    clients: int,
    years: float,
    seed: int,
    *,
    first_day: datetime = datetime(2020, 1, 6, tzinfo=UTC),
    shares: Mapping[str, float] | None = None,
    follow_up_days: float = FOLLOW_UP_DAYS,
    correlation: float = 0.0,
) -> Iterator[SimulatedJourney]:
    """`clients` journeys of `years`, the same for the same `seed`; a client does not depend on how many there are.

    `shares` are those of the kinds of the first course (`KINDS`); `follow_up_days` lie between sessions outside of courses; `correlation` is
    that of one questionnaire's error with the next. Times have the zone of `first_day`; clients begin within a year of it.
    """
    for number in range(clients):
        rng = np.random.default_rng([seed, number])
        yield _journey(rng, f"sim-{seed}-{number:05d}", years, first_day, shares, follow_up_days, correlation)


def _journey(
    rng: Generator,
    name: str,
    years: float,
    first_day: datetime,
    shares: Mapping[str, float] | None,
    gap: float,
    correlation: float,
) -> SimulatedJourney:
    first = measure_of(("phq9", "gad7", "pcl5")[int(rng.choice(3, p=[0.55, 0.30, 0.15]))])
    others = tuple(measure_of(code) for code in ("phq9", "gad7") if code != first.code)
    mean, sd = START[first.code]
    start = float(np.clip(rng.normal(mean, sd), first.cutoff, first.high - 0.1 * (first.high - first.low)))
    begins = first_day + timedelta(days=int(rng.integers(0, 365)))
    client = _Client(name, rng, first, others, Writer(rng, first.code == "pcl5"), start, Course(pick_kind(rng, shares)))
    weekly = _first_course(client, begins)
    _later(client, begins + timedelta(days=365.25 * years), gap)
    return _told(client, weekly, correlation)


# --- the true course ------------------------------------------------------------------------------


def _first_course(client: _Client, begins: datetime) -> int:
    """A course of 12 to 24 sessions; the number of them."""
    times = session_times(client.rng, begins, int(client.rng.integers(12, 25)), 7)
    shift, jumps = treatment(client.rng, client.course.kind, times, client.first, _room(client))
    client.course.times, client.course.shift, client.course.jumps = times, shift, jumps
    return len(times)


def _room(client: _Client) -> float:
    """How much better the client can get from here, in SD."""
    floor = client.first.low + 0.04 * (client.first.high - client.first.low)
    now = client.course.shift[-1] if client.course.shift else 0.0
    return max(0.0, (client.start - floor) / client.first.default.sd + now)


def _later(client: _Client, ends: datetime, gap: float) -> None:
    """Follow-up sessions until the end, with relapses, blows, and further courses of treatment."""
    rng, course = client.rng, client.course
    while course.times[-1] < ends:
        well = course.shift[-1] < -0.6
        quiet = _quiet_weeks(rng) if well else float(rng.uniform(20, 60))
        until = min(course.times[-1] + timedelta(weeks=quiet), ends)
        _follow_up(client, until, gap)
        if course.times[-1] + timedelta(days=gap) >= ends:
            return
        if well:
            _relapse(client)
        begins = course.times[-1] + timedelta(days=7)
        times = session_times(rng, begins, int(rng.integers(8, 17)), 7)
        shift, jumps = treatment(rng, pick_kind(rng), times, client.first, _room(client))
        now, place = course.shift[-1], len(course.times)
        course.times += times
        course.shift += [now + value for value in shift]
        course.jumps += [place + jump for jump in jumps]


def _quiet_weeks(rng: Generator) -> float:
    """Weeks until a relapse."""
    if rng.random() < RELAPSED:
        return float(rng.uniform(6, 26) if rng.random() < RELAPSED_EARLY else rng.uniform(26, 52))
    return 52.0 + float(rng.exponential(52 / LATE_RELAPSE))


def _follow_up(client: _Client, until: datetime, gap: float) -> None:
    """Sessions at the level that was reached, which drifts a little."""
    course, rng = client.course, client.rng
    level = course.shift[-1]
    at = course.times[-1] + timedelta(days=max(2.0, gap + float(rng.integers(-5, 6))))
    drift = 0.0
    while at < until:
        drift = 0.8 * drift + float(rng.normal(0, 0.06))
        course.times.append(at)
        course.shift.append(level + drift)
        at += timedelta(days=max(2.0, gap + float(rng.integers(-5, 6))))


def _relapse(client: _Client) -> None:
    """Back by six to ten tenths of what was gained, at once or over six sessions."""
    course, rng = client.course, client.rng
    now, place = course.shift[-1], len(course.times)
    back = -now * float(rng.uniform(0.6, 1.0))
    sessions = 2 if rng.random() < 0.5 else 6
    times = session_times(rng, course.times[-1] + timedelta(days=14), sessions, 7)
    course.relapses.append(place)
    course.times += times
    if sessions == 2:
        course.shift += [now + back] * 2
        if back >= client.first.reliable / client.first.default.sd:
            course.jumps.append(place)
    else:
        course.shift += [now + back * (step + 1) / 6 for step in range(6)]


# --- what is written down -------------------------------------------------------------------------


def _told(client: _Client, weekly: int, correlation: float) -> SimulatedJourney:
    rng, course = client.rng, client.course
    shift = np.array(course.shift)
    attended = rng.random(len(shift)) >= MISSED
    attended[0] = True
    asked = attended & (rng.random(len(shift)) >= LEFT_BLANK)
    asked[0] = True
    true = {client.first.code: true_scores(client.first, client.start, shift)}
    for measure in client.others:
        mean, sd = START[measure.code]
        begin = float(np.clip(rng.normal(mean, sd), measure.low, measure.high * 0.9))
        true[measure.code] = true_scores(measure, begin, shift, SECOND_STRENGTH)
    scores, danger = _scores(client, true, asked, correlation)
    _goals(client, shift)
    _events(client, weekly)
    sessions = _sessions(client, shift, attended, danger)
    ordered = tuple(sorted(scores, key=lambda one: (one.at, one.measure)))
    journey = Journey(
        client.name, tuple(sessions), ordered, tuple(client.goals), tuple(sorted(client.events, key=lambda event: event.at))
    )
    return SimulatedJourney(journey, _truth(client, true, asked, weekly))


def _scores(
    client: _Client, true: Mapping[str, NDArray[np.float64]], asked: NDArray[np.bool_], correlation: float
) -> tuple[list[MeasureScore], list[int]]:
    """The questionnaires, and at each session the greatest answer that means a crisis."""
    found, danger = list[MeasureScore](), [0] * len(asked)
    for measure in (client.first, *client.others):
        totals = filled_in(client.rng, measure, true[measure.code], correlation)
        weights = np.array(ITEM_WEIGHTS.get(measure.code, (1.0,) * len(measure.items)))
        places = np.flatnonzero(asked)
        for place, items in zip(places.tolist(), ticks(client.rng, measure, totals[places], weights), strict=True):
            scored = measure.score(items)
            danger[place] = max([danger[place], *(items[item - 1] for item in scored.critical)])
            found.append(MeasureScore(measure.code, scored.total, client.course.times[place], items, _session_id(client, place)))
    return found, danger


def _session_id(client: _Client, place: int) -> str:
    return f"{client.name}-s{place + 1:04d}"


def _sessions(
    client: _Client, shift: NDArray[np.float64], attended: NDArray[np.bool_], danger: Sequence[int]
) -> list[LoggedSession]:
    sessions, titles, before = [], tuple(goal.goal_id for goal in client.goals), 0.0
    for place, at in enumerate(client.course.times):
        came, crisis = bool(attended[place]), danger[place] >= SPOKEN
        step = float(shift[place]) - before + float(client.rng.normal(0, 0.15))
        before = float(shift[place])
        written = client.writer.session(step, crisis) if came else Written(str(client.writer.one(stock()["missed"])), "", "", "")
        log = SessionLog(
            client.name,
            _session_id(client, place),
            at,
            written.summary,
            _feeling(client, float(shift[place]), came),
            titles if came else (),
            written.notes,
            written.observations,
            written.focus,
        )
        found = CrisisAssessment()
        if danger[place]:
            found = CrisisAssessment(
                "elevated" if crisis else "possible", ("measure_item",), 0.9 if crisis else 0.5, "thoughts", "self"
            )
        sessions.append(LoggedSession(log, crisis=found, attended=came, logged_at=at + timedelta(hours=1)))
    return sessions


def _feeling(client: _Client, shift: float, came: bool) -> EmotionalState:
    """Emotions as a model might estimate them: they follow the course with much noise."""
    if not came:
        return EmotionalState({})
    rng, load = client.rng, 1 / (1 + math.exp(-(shift + 0.5) * 1.6))
    noise = rng.normal(0, 0.12, 7).tolist()

    def share(value: float) -> float:
        return round(min(max(value, 0.0), 1.0), 3)

    emotions = {
        "sadness": share(0.1 + 0.5 * load + noise[0]),
        "nervousness": share(0.1 + 0.4 * load + noise[1]),
        "anger": share(0.12 + 0.1 * load + noise[2]),
        "joy": share(0.45 - 0.4 * load + noise[3]),
        "optimism": share(0.4 - 0.3 * load + noise[4]),
    }
    uncertainty = dict.fromkeys((*emotions, "valence", "arousal"), 0.12)
    valence = round(min(max(0.5 - 1.1 * load + noise[5], -1.0), 1.0), 3)
    arousal = round(min(max(0.1 * load + noise[6], -1.0), 1.0), 3)
    return EmotionalState(emotions, valence, arousal, uncertainty, int(rng.integers(120, 900)))


def _goals(client: _Client, shift: NDArray[np.float64]) -> None:
    """Two or three goals, rated every fourth session: they follow the course, loosely."""
    times, rng = client.course.times, client.rng
    for number, title in enumerate(client.writer.goals(), 1):
        pull, ratings = float(rng.normal(1.6, 0.5)), []
        levels = {-2: "much less than now", -1: "as now", 0: title, 1: "more than expected", 2: "much more than expected"}
        for place in range(3, len(times), 4):
            reached = int(np.clip(round(-1 - pull * float(shift[place]) + float(rng.normal(0, 0.4))), -2, 2))
            ratings.append(Rating(times[place], reached))
        client.goals.append(Goal(f"{client.name}-g{number}", title, times[0], levels, 1.0, tuple(ratings)))


def _events(client: _Client, weekly: int) -> None:
    """Treatment, blows of life where the course has one, events that change nothing, and medication."""
    rng, times, lines = client.rng, client.course.times, stock()
    client.events.append(Event(times[0], "treatment", f"first of {weekly} weekly sessions"))
    for place in client.course.jumps:
        if client.course.shift[place] > client.course.shift[place - 1]:
            client.events.append(
                Event(
                    times[place] - timedelta(days=3),
                    "life_event",
                    client.writer.filled(str(client.writer.one(lines["bad_events"]))),
                )
            )
    span = times[-1] - times[0]
    for _ in range(int(rng.poisson(EVENTS_A_YEAR * span / timedelta(days=365.25)))):
        client.events.append(
            Event(
                _noon(times[0], span * float(rng.random())),
                "life_event",
                client.writer.filled(str(client.writer.one(lines["events"]))),
            )
        )
    if rng.random() < 0.35:
        client.events.append(
            Event(_noon(times[0], span * float(rng.random())), "medication", str(client.writer.one(lines["medication"])))
        )


def _noon(start: datetime, after: timedelta) -> datetime:
    return (start + after).replace(hour=12, minute=0, second=0, microsecond=0)


def _truth(client: _Client, true: Mapping[str, NDArray[np.float64]], asked: NDArray[np.bool_], weekly: int) -> Truth:
    course, first = client.course, client.first
    own, places = true[first.code], np.flatnonzero(asked)
    of_course = places[places < weekly]
    effect = float(own[of_course[-1]] - own[of_course[0]])
    moved = []
    for jump in course.jumps:  # a jump that the end of the scale cut short is none
        later = places[places >= jump]
        if len(later) and abs(own[jump] - own[jump - 1]) >= first.reliable:
            moved.append(course.times[int(later[0])])
    return Truth(
        first.code,
        course.kind,
        KINDS[course.kind][0],
        effect,
        change_of(first, float(own[of_course[0]]), float(own[of_course[-1]])).status,
        tuple(moved),
        tuple(course.times[place] for place in course.relapses),
        {code: tuple(float(value) for value in values[places]) for code, values in true.items()},
        len(of_course),
    )
