"""What a report recommends: sentences for a clinician, each with the evidence it rests on. None is a decision, and none says why something changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import takewhile

from attunement.progress.alerts import short_name
from attunement.progress.context import crises_of
from attunement.progress.findings import DETERIORATED, NOT_ENOUGH, RECOVERED, REGRESSING, MeasureTrend, TrendAnalysis
from attunement.progress.journey import Journey
from attunement.progress.measures import Measure

CRISIS_DAYS, UNSEEN_DAYS, UNRATED_DAYS, UNMEASURED_DAYS = 30, 42, 90, 60
UNSIGNED = 3
WELL_SCORES, WELL_WEEKS = 4, 12


def recommendations(journey: Journey, analysis: TrendAnalysis, measures: Mapping[str, Measure], now: datetime) -> list[str]:
    """The most urgent first."""
    out = [*_danger(journey, now)]
    calm_since = max((crisis.at for crisis in crises_of(journey, measures)), default=None)
    for trend in analysis.measures:
        out += _of_measure(trend, short_name(trend.measure, measures), calm_since, now)
    return [*out, *_of_journal(journey, analysis, now)]


def _danger(journey: Journey, now: datetime) -> list[str]:
    recent = [
        session.log
        for session in journey.sessions
        if session.crisis.level in ("elevated", "imminent") and now - session.log.timestamp <= timedelta(days=CRISIS_DAYS)
    ]
    if not recent:
        return []
    dates = ", ".join(f"{log.timestamp:%Y-%m-%d}" for log in recent)
    return [f"Review the safety plan: danger was found in the session of {dates}."]


def _of_measure(trend: MeasureTrend, name: str, last_crisis: datetime | None, now: datetime) -> list[str]:
    out = []
    why = f" ({trend.evidence[0]})" if trend.evidence else ""
    if trend.change and trend.change.status == DETERIORATED:
        out.append(f"Review the plan: {name} is reliably worse than at the start. {trend.change.explanation}")
    elif trend.trajectory == REGRESSING:
        out.append(f"Look into what changed: {name} is getting worse{why}.")
    if trend.expected and not trend.expected.on_track:
        out.append(f"Not on track: {trend.expected.explanation}")
    if steady := _recovered_since(trend, last_crisis):
        out.append(
            f"Consider the next step, for instance relapse prevention or longer intervals: {name} is out of the clinical range since {steady}."
        )
    return out


def _recovered_since(trend: MeasureTrend, last_crisis: datetime | None) -> str:
    """Since when every score is on the good side of the cut-off, where that has lasted and no danger was told of meanwhile; else ""."""
    change = trend.change
    if change is None or change.status != RECOVERED or trend.trajectory == REGRESSING:
        return ""
    worse = 1 if change.change < 0 else -1
    well = list(takewhile(lambda score: worse * score.total < worse * change.cutoff, reversed(trend.scores)))
    if len(well) < WELL_SCORES or well[0].at - well[-1].at < timedelta(weeks=WELL_WEEKS):
        return ""
    return "" if last_crisis is not None and last_crisis >= well[-1].at else f"{well[-1].at:%Y-%m-%d}"


def _of_journal(journey: Journey, analysis: TrendAnalysis, now: datetime) -> list[str]:
    out = []
    if analysis.trajectory == NOT_ENOUGH:
        out.append("Measure more often: there is not enough data to say where this is going.")
    for goal in journey.goals:
        last = goal.ratings[-1].at if goal.ratings else goal.set_at
        if goal.closed_at is None and now - last > timedelta(days=UNRATED_DAYS):
            out.append(f"Rate or review the goal '{goal.title}': it was last rated on {last:%Y-%m-%d}.")
    unsigned = [session for session in journey.sessions if session.made and not session.signed_by]
    if len(unsigned) >= UNSIGNED:
        out.append(f"Read and sign {len(unsigned)} sessions whose notes were made from the transcript.")
    if journey.scores and now - journey.scores[-1].at > timedelta(days=UNMEASURED_DAYS) and journey.sessions:
        out.append(f"Measure again: the last questionnaire is of {journey.scores[-1].at:%Y-%m-%d}.")
    return out
