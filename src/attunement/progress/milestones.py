"""Milestones of a journey, found by rules: each with the figures and dates it rests on, none from too few scores.

They are of the journey, not of success: a relapse is one, too. None says why something changed. The same facts give the same id, so that a
milestone that was shown before is known again; what is logged later, or corrected, may change the facts.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from attunement.progress.context import GRAVE, assessed, crises_of
from attunement.progress.findings import MeasureScore
from attunement.progress.journey import Goal, Journey, Rating
from attunement.progress.measures import Measure
from attunement.records import Milestone
from attunement.storage.files import content_hash

REMISSION, RELAPSE, RELIABLE, RESPONSE = "remission", "relapse", "reliable_improvement", "response"
AFTER_CRISIS, CALM, GOAL_REACHED, SESSION_COUNT, YEARS_IN_CARE = (
    "first_after_crisis", "weeks_without_crisis", "goal_reached", "sessions", "years_in_care",
)  # fmt: skip
KINDS = (REMISSION, RELAPSE, RELIABLE, RESPONSE, AFTER_CRISIS, CALM, GOAL_REACHED, SESSION_COUNT, YEARS_IN_CARE)
BY_HAND = "set_by_hand"

REMISSION_WEEKS, REMISSION_SCORES = 8, 3
"""Out of the clinical range at every score over so many weeks, at least so many scores (DSM-5's full remission is two months without symptoms)."""
REMISSION_GAP_WEEKS = 8
"""Scores that lie further apart say nothing of the weeks between."""
RESPONSE_SHARE = 0.5
"""A symptom score at half of the first or below (the usual definition of response in trials of depression)."""
APART_WEEKS = 4
"""A crisis with another so shortly before it is no new one: somebody who ticks item 9 every fortnight is not back from a crisis each time."""
CALM_WEEKS = (4, 12, 26, 52)
SEEN_EVERY_WEEKS = 6
"""Weeks without a session are not weeks of which is known that there was no crisis."""
SESSIONS = (10, 25, 50, 100, 250, 500)
RHO = 0.3
"""Correlation between goals that Kiresuk and Sherman (1968) assume."""
WEEK = timedelta(weeks=1)


def found(journey: Journey, measures: Mapping[str, Measure], now: datetime) -> list[Milestone]:
    """The milestones of a whole journey that were reached by `now`, in the order of time. Those that people set are not among them.

    Scores of a measure that is not in `measures` are passed over.
    """
    made = [*_of_sessions(journey), *_of_crises(journey, measures, now), *_of_goals(journey)]
    for code in dict.fromkeys(score.measure for score in journey.scores):
        if code in measures:
            scores = sorted((s for s in journey.scores if s.measure == code), key=lambda s: s.at)
            made += _of_scores(journey.client_id, scores, measures[code])
    return sorted((m for m in made if m.reached_at <= now), key=lambda m: (m.reached_at, KINDS.index(m.kind), m.milestone_id))


# --- goals --------------------------------------------------------------------------------------------------------


def completion(goal: Goal) -> float:
    """How far a goal is in percent, by its last rating: the percent given, or attainment -2 as 0, 0 (what was expected) as 100.

    More than was expected is 100, too. A goal that was never rated is 0.
    """
    return percent_of(goal.ratings[-1]) if goal.ratings else 0.0


def percent_of(rating: Rating) -> float:
    """One rating in percent, 0-100."""
    if rating.percent is not None:
        return min(100.0, max(0.0, float(rating.percent)))
    return 0.0 if rating.attainment is None else min(100.0, 50.0 * (rating.attainment + 2))


def t_score(goals: Sequence[Goal]) -> float | None:
    """Goal attainment scaling's T-score over the goals that were rated by attainment; None where none was.

    T = 50 + 10 sum(w x) / sqrt((1 - rho) sum(w^2) + rho (sum w)^2) with rho = 0.3 (Kiresuk TJ, Sherman RE: Goal attainment scaling. Community
    Mental Health Journal 1968;4:443-453): 50 where all goals are as expected.
    """
    rated = [(goal.weight, float(last)) for goal in goals if (last := _last_attainment(goal)) is not None]
    if not rated:
        return None
    weights = [weight for weight, _ in rated]
    spread = math.sqrt((1 - RHO) * sum(w * w for w in weights) + RHO * sum(weights) ** 2)
    return 50 + 10 * sum(weight * attained for weight, attained in rated) / spread


def _last_attainment(goal: Goal) -> int | None:
    return next((r.attainment for r in reversed(goal.ratings) if r.attainment is not None), None)


def _of_goals(journey: Journey) -> Iterator[Milestone]:
    for goal in journey.goals:
        reached = next((rating for rating in goal.ratings if percent_of(rating) >= 100), None)
        if reached is not None:
            told = f"attainment {reached.attainment:+d}" if reached.attainment is not None else f"{reached.percent:g} %"
            weeks = _weeks(reached.at - goal.set_at)
            yield _milestone(
                journey.client_id, GOAL_REACHED, f"Goal reached: {goal.title}", reached.at,
                f"Rated {told} on {_day(reached.at)}, {weeks} after it was set on {_day(goal.set_at)}.", goal.goal_id,
            )  # fmt: skip


# --- sessions and crises --------------------------------------------------------------------------------------------


def _of_sessions(journey: Journey) -> Iterator[Milestone]:
    times = sorted(s.log.timestamp for s in journey.sessions if s.attended)
    for count in SESSIONS:
        if len(times) >= count:
            evidence = f"Session {count} was on {_day(times[count - 1])}; the first on {_day(times[0])}."
            yield _milestone(journey.client_id, SESSION_COUNT, f"{count} sessions", times[count - 1], evidence, str(count))
    years, looked = 1, 0
    while times and times[-1] >= (due := _years_later(times[0], years)):
        looked = next(i for i, at in enumerate(times) if at >= due)
        evidence = f"The first session was on {_day(times[0])}; {looked + 1} sessions until {_day(times[looked])}."
        title = "A year in care" if years == 1 else f"{years} years in care"
        yield _milestone(journey.client_id, YEARS_IN_CARE, title, times[looked], evidence, str(years))
        years += 1


def _of_crises(journey: Journey, measures: Mapping[str, Measure], now: datetime) -> Iterator[Milestone]:
    """The first session without danger after each new crisis, and the weeks that followed the last danger without one.

    A session in which nobody assessed danger is none without it. Dangers within `APART_WEEKS` of the one before are the same crisis; so what was found stays found when more is known.
    """
    crises = [crisis.at for crisis in crises_of(journey, measures)]
    seen = sorted(s.log.timestamp for s in assessed(journey, measures) if s.crisis.level not in GRAVE)
    new = [at for i, at in enumerate(crises) if i == 0 or at - crises[i - 1] > APART_WEEKS * WEEK]
    for at, until in zip(new, [*new[1:], now], strict=False):
        first = next((s for s in seen if at < s <= until and s.date() > at.date()), None)
        if first is not None:
            evidence = (
                f"The crisis was on {_day(at)}, the first session without danger {_weeks(first - at)} later, on {_day(first)}."
            )
            yield _milestone(journey.client_id, AFTER_CRISIS, "First session after a crisis", first, evidence, at.isoformat())
    for at, until in zip(crises, [*crises[1:], now], strict=False):
        between = seen[
            bisect_right(seen, at) : bisect_right(seen, until)
        ]  # whoever ticks item 9 for years has hundreds of dangers
        after = [s for s in between if s.date() > at.date()]
        for weeks in CALM_WEEKS:
            # Known to be calm only where the client was seen all along, and once more when the weeks were over.
            closing = next((s for s in after if s >= at + weeks * WEEK), None)
            steps = [at, *(s for s in after if closing and s <= closing)]
            if closing is None or any(b - a > SEEN_EVERY_WEEKS * WEEK for a, b in pairwise(steps)):
                break
            evidence = f"The last crisis was on {_day(at)}; none was found in {len(steps) - 1} sessions until {_day(closing)}."
            yield _milestone(
                journey.client_id,
                CALM,
                f"{weeks} weeks without a crisis",
                closing,
                evidence,
                at.isoformat(),
                str(weeks),
            )


# --- scores -------------------------------------------------------------------------------------------------------------


def _of_scores(client: str, scores: Sequence[MeasureScore], measure: Measure) -> Iterator[Milestone]:
    if len(scores) < 2 or not measure.is_clinical(scores[0].total):
        return  # who began outside the clinical range has nothing to recover from
    first, name = scores[0], measure.code.upper().replace("PHQ9", "PHQ-9").replace("GAD7", "GAD-7").replace("PCL5", "PCL-5")
    better = [measure.worse * (first.total - score.total) for score in scores]

    def was(score: MeasureScore) -> str:
        return f"{name} {first.total:g} on {_day(first.at)}, {score.total:g} on {_day(score.at)}"

    for score, gain in zip(scores, better, strict=True):
        if gain >= measure.reliable:
            evidence = (
                f"{was(score)}: {gain:g} points better; {measure.reliable:.1f} or more are reliable. What caused it is not known."
            )
            yield _milestone(
                client, RELIABLE, f"{name}: first reliable improvement", score.at, evidence, measure.code, first.at.isoformat()
            )
            break
    if measure.higher_is_worse:  # half of a score says nothing where high is good
        for score in scores[1:]:
            left = (score.total - measure.low) / max(first.total - measure.low, 1e-9)
            if left <= RESPONSE_SHARE:
                evidence = f"{was(score)}: {100 * (1 - left):.0f} % lower."
                yield _milestone(
                    client, RESPONSE, f"{name}: half of the first score", score.at, evidence, measure.code, first.at.isoformat()
                )
                break
    yield from _remissions(client, scores, measure, name)


def _remissions(client: str, scores: Sequence[MeasureScore], measure: Measure, name: str) -> Iterator[Milestone]:
    """Stretches out of the clinical range that held, and returns into it that are more than the measure's noise."""
    stretch: list[MeasureScore] = []
    held = False
    for score in scores:
        if stretch and score.at - stretch[-1].at > REMISSION_GAP_WEEKS * WEEK and not held:
            stretch = []
        if measure.is_recovered(score.total):
            stretch.append(score)
            span = stretch[-1].at - stretch[0].at
            if not held and len(stretch) >= REMISSION_SCORES and span >= REMISSION_WEEKS * WEEK:
                held = True
                evidence = (
                    f"{len(stretch)} {name} scores out of the clinical range ({measure.cutoff:g}) from {_day(stretch[0].at)} to {_day(score.at)},"
                    f" {_weeks(span)}: {', '.join(f'{s.total:g}' for s in stretch)}."
                )
                yield _milestone(
                    client,
                    REMISSION,
                    f"{name}: remission held {REMISSION_WEEKS} weeks",
                    score.at,
                    evidence,
                    measure.code,
                    stretch[0].at.isoformat(),
                )
            continue
        best = min(stretch, key=lambda s: measure.worse * s.total) if stretch else score
        if not held:
            stretch = []
        elif measure.is_clinical(score.total) and measure.worse * (score.total - best.total) >= measure.reliable:
            evidence = (
                f"{name} {best.total:g} on {_day(best.at)}, {score.total:g} on {_day(score.at)}, in the clinical range again"
                f" ({measure.cutoff:g}); {measure.reliable:.1f} points or more are reliable."
            )
            yield _milestone(
                client, RELAPSE, f"{name}: relapse after remission", score.at, evidence, measure.code, score.at.isoformat()
            )
            stretch, held = [], False


# --- words ----------------------------------------------------------------------------------------------------------------


def _milestone(client: str, kind: str, title: str, at: datetime, evidence: str, *facts: str) -> Milestone:
    return Milestone(f"m-{content_hash([client, kind, at.isoformat(), *facts])[:16]}", title, at, evidence, kind, "rule")


def _day(at: datetime) -> str:
    return at.date().isoformat()


def _weeks(span: timedelta) -> str:
    days = round(span / timedelta(days=1))
    number, unit = (days, "day") if days < 14 else (days // 7, "week")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _years_later(at: datetime, years: int) -> datetime:
    try:
        return at.replace(year=at.year + years)
    except ValueError:  # a 29 February
        return at.replace(year=at.year + years, month=3, day=1)
