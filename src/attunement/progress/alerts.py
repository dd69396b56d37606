"""What a clinician must see first: danger in words or answers, deterioration, a course that is not as expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from attunement.progress.context import assessed
from attunement.progress.findings import DETERIORATED, REGRESSING, MeasureScore, TrendAnalysis
from attunement.progress.journey import Journey, LoggedSession
from attunement.progress.measures import Measure

ITEM_WORDS = {"self_harm": "thoughts of death or self-harm"}
"""What an item asks whose answer is a crisis, by the code of its reason."""
LEVELS = ("imminent", "elevated", "possible")
"""Of danger in a session, gravest first."""
NAMED_SESSIONS = 6
"""So many crisis sessions are named in an alert with their dates; the others are counted."""
Day = Callable[[datetime], str]


@dataclass(frozen=True)
class Alert:
    """`kind` is crisis, item, deteriorated, off_track or regressing."""

    kind: str
    title: str
    text: str


def short_name(code: str, measures: Mapping[str, Measure]) -> str:
    """`PHQ-9` of `Patient Health Questionnaire-9 (PHQ-9)`."""
    title = measures[code].title if code in measures else code
    return title[title.rindex("(") + 1 : -1] if title.endswith(")") else title


def item_answer(score: MeasureScore, item: int) -> int | None:
    """The answer to an item (from 1); None where it was left out, or only the total is known."""
    return score.items[item - 1] if item <= len(score.items) else None


def dangerous(session: LoggedSession) -> bool:
    return session.crisis.level not in ("", "none")


def danger_words(session: LoggedSession) -> str:
    """`elevated: plan, of the client`."""
    crisis = session.crisis
    kind = f": {crisis.kind.replace('_', ' ')}" if crisis.kind not in ("", "none") else ""
    whose = {"self": "", "third_person": ", about somebody else", "past": ", about the past"}.get(crisis.whose, "")
    return f"{crisis.level}{kind}{whose}"


def find_alerts(
    journey: Journey, analysis: TrendAnalysis, trajectory: str, measures: Mapping[str, Measure], day: Day
) -> list[Alert]:
    """The alerts of a report, gravest first. `day` writes a date."""
    found = [*_crises(journey, day), *_items(journey, measures, day)]
    for trend in analysis.measures:
        title = short_name(trend.measure, measures)
        if trend.change and trend.change.status == DETERIORATED:
            c = trend.change
            words = (
                f"From {c.first:g} to {c.last:g}: more than the {c.reliable:.2f} points that the measure's own error explains."
            )
            found.append(Alert("deteriorated", f"{title}: reliably worse", words))
        if trend.expected and not trend.expected.on_track:
            e = trend.expected
            words = (
                f"Observed {e.observed:g}, expected {e.expected:.1f} (band {e.band[0]:.1f} to {e.band[1]:.1f}). {e.explanation}"
            )
            found.append(Alert("off_track", f"{title}: not on track", words))
    if trajectory == REGRESSING:
        found.append(Alert("regressing", "The trajectory is getting worse", "The evidence stands under Trajectory."))
    return found


def _gravity(level: str) -> int:
    """For sorting, gravest first. A level that is not known comes first of all: better looked at once too often."""
    return LEVELS.index(level) if level in LEVELS else -1


def _crises(journey: Journey, day: Day) -> list[Alert]:
    sessions = [session for session in journey.sessions if dangerous(session)][::-1]
    events = [event for event in journey.events if event.kind == "crisis"][::-1]
    found = []
    if sessions:
        counts = Counter(session.crisis.level for session in sessions)
        grave = sorted(counts, key=_gravity)
        # stable: of a level, the latest first; what is imminent never hides behind later signs that are less
        named = sorted(sessions, key=lambda s: _gravity(s.crisis.level))[:NAMED_SESSIONS]
        told = [f"{day(s.log.timestamp)} ({danger_words(s)})" for s in named]
        rest = f", and {len(sessions) - NAMED_SESSIONS} more" if len(sessions) > NAMED_SESSIONS else ""
        count = "1 session" if len(sessions) == 1 else f"{len(sessions)} sessions"
        title = f"Signs of danger in {count} ({', '.join(f'{counts[level]} {level}' for level in grave)})"
        latest = f" The latest was on {day(sessions[0].log.timestamp)}." if len(sessions) > 1 else ""
        words = f"Gravest first: {'; '.join(told)}{rest}.{latest} Judged by software from the client's words: it misses some and is wrong on others."
        found.append(Alert("crisis", title, words))
    if events:
        told = [f"{day(e.at)} ({e.title})" for e in events[:NAMED_SESSIONS]]
        rest = f", and {len(events) - NAMED_SESSIONS} earlier" if len(events) > NAMED_SESSIONS else ""
        found.append(
            Alert(
                "crisis",
                f"{len(events)} {'crisis' if len(events) == 1 else 'crises'} on record",
                f"Latest first: {'; '.join(told)}{rest}.",
            )
        )
    return found


def _items(journey: Journey, measures: Mapping[str, Measure], day: Day) -> list[Alert]:
    found = []
    for measure in measures.values():
        for critical in measure.critical:
            scores = [score for score in journey.scores if score.measure == measure.code]
            answers = [(s.at, answer) for s in scores if (answer := item_answer(s, critical.item)) is not None]
            over = [(at, answer) for at, answer in answers if answer > critical.above]
            if not over:
                continue
            name, times = short_name(measure.code, measures), "once" if len(over) == 1 else f"{len(over)} times"
            asked = ITEM_WORDS.get(critical.reason, critical.reason.replace("_", " "))
            latest, limit = answers[-1], "zero" if critical.above == 0 else str(critical.above)
            when = f"Last over {limit} on {day(over[-1][0])} (answer {over[-1][1]})."
            now = "It is the latest answer." if latest == over[-1] else f"The latest answer, on {day(latest[0])}, is {latest[1]}."
            title = f"{name}, item {critical.item} ({asked}): over {limit} {times}"
            found.append(Alert("item", title, f"{when} {now} Ask, and assess the risk, whatever the total."))
    return found


def not_checked(journey: Journey, measures: Mapping[str, Measure]) -> list[str]:
    """What the absence of an alert does not say: answers to critical items that are not known, sessions in which nobody assessed danger."""
    told = []
    for measure in measures.values():
        for critical in measure.critical:
            blind = [s for s in journey.scores if s.measure == measure.code and item_answer(s, critical.item) is None]
            if blind:
                scores = "1 score" if len(blind) == 1 else f"{len(blind)} scores"
                told.append(
                    f"In {scores} of {short_name(measure.code, measures)} the answer to item {critical.item} is not known: "
                    "it was left out, or only the total was given."
                )
    known = {s.log.session_id for s in assessed(journey, measures)}
    if unknown := sum(s.attended and s.log.session_id not in known for s in journey.sessions):
        told.append(f"In {unknown} of {len(journey.sessions)} sessions danger was not assessed.")
    return told
