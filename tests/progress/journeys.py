"""Journeys for the tests of the report: a few kinds of course, with what the statistics would find written by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attunement.progress.findings import (
    DETERIORATED,
    IMPROVED,
    IMPROVING,
    NOT_ENOUGH,
    REGRESSING,
    STABLE,
    ChangePoint,
    ExpectedResponse,
    MeasureScore,
    MeasureTrend,
    Plateau,
    ReliableChange,
    Season,
    Trend,
    TrendAnalysis,
)
from attunement.progress.journey import Event, Goal, Journey, LoggedSession, Rating
from attunement.progress.measures import measures
from attunement.progress.report import render
from attunement.records import CrisisAssessment, EmotionalState, EmotionalTrend, Milestone, ProgressReport, SessionLog, Timeframe

BEGIN = datetime(2023, 2, 6, 15, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SUMMARY = "Talked about sleep and the week at work. Tried the breathing exercise twice; it helped on one evening."


def session(n: int, at: datetime, **other: Any) -> LoggedSession:
    """A session `n` at a time; `other` are fields of `LoggedSession`, and `summary`, `focus`, `emotions`."""
    draw = random.Random(n)
    given = {
        "sadness": 0.7 - 0.004 * n,
        "fear": 0.4,
        "joy": 0.1 + 0.003 * n,
        "anger": 0.2,
        "calm": 0.3,
        "shame": 0.25,
        "hope": 0.1,
    }
    emotions = other.pop("emotions", {k: min(1.0, max(0.0, v + draw.gauss(0, 0.07))) for k, v in given.items()})
    state = EmotionalState(emotions, uncertainty=dict.fromkeys(emotions, 0.06), words=420)
    log = SessionLog("c-1", f"s-{n}", at, other.pop("summary", SUMMARY), state, (), "", "", other.pop("focus", "Sleep diary"))
    return LoggedSession(log, **{"signed_by": "dr.lee" if n % 3 else ""} | other)


def phq9(at: datetime, total: int, ninth: int = 0) -> MeasureScore:
    rest = [min(3, max(0, (total - ninth) // 8 + (i < (total - ninth) % 8))) for i in range(8)]
    return MeasureScore("phq9", float(sum(rest) + ninth), at, (*rest, ninth))


def found_in(scores: Sequence[MeasureScore], trajectory: str, **other: Any) -> MeasureTrend:
    """Findings with figures of the right size, not computed."""
    return MeasureTrend(scores[0].measure if scores else "phq9", scores, trajectory, **other)


def page(journey: Journey, analysis: TrendAnalysis, frame: Timeframe, **other: Any) -> str:
    report = ProgressReport(
        journey.client_id,
        frame,
        len(journey.sessions),
        {g.goal_id: 62.0 for g in journey.goals if g.ratings},
        analysis.emotions,
        other.pop("key_milestones", ()),
        analysis.trajectory,
        other.pop("recommendations", ()),
    )
    given = {"made_at": frame.end, "zone": BERLIN} | other
    return render(journey, report, analysis, measures(), **given)


def empty() -> str:
    frame = Timeframe(BEGIN, BEGIN + timedelta(days=365), "yearly")
    return page(Journey("c-0"), TrendAnalysis("c-0", 0, NOT_ENOUGH, ()), frame)


def two_sessions() -> str:
    sessions = [session(1, BEGIN), session(2, BEGIN + timedelta(days=7))]
    scores = [phq9(BEGIN, 14), phq9(BEGIN + timedelta(days=7), 13)]
    lacking = ("a trend needs 4 scores, there are 2", "a change point needs 8 scores, there are 2")
    analysis = TrendAnalysis("c-2", 2, NOT_ENOUGH, [found_in(scores, NOT_ENOUGH, not_enough=lacking)])
    return page(Journey("c-2", sessions, scores), analysis, Timeframe(BEGIN, BEGIN + timedelta(days=90), "quarterly"))


def relapse(*, summary: str = SUMMARY, title: str = "Talk at the team meeting", label: str = "") -> str:
    """Three years: better over the first, a gap, a relapse with danger, and a slow second recovery."""
    draw = random.Random(5)
    at = lambda week: BEGIN + timedelta(weeks=week)  # noqa: E731
    level = lambda w: 19 - 0.25 * w if w < 50 else 6 if w < 80 else 17 if w < 105 else 17 - 0.14 * (w - 105)  # noqa: E731
    weeks = [w for w in range(0, 150, 3) if not 62 <= w < 78]
    scores = [phq9(at(w), max(0, round(level(w) + draw.gauss(0, 1.3))), 2 if 80 <= w < 93 else 0) for w in weeks]
    gad = [MeasureScore("gad7", float(max(0, round(level(w) * 0.7 + draw.gauss(0, 1)))), at(w)) for w in weeks[::3]]
    sessions = []
    for n, w in enumerate(range(0, 150, 2)):
        danger = CrisisAssessment("elevated", ("x",), 0.9, "thoughts", "self") if w in (80, 84) else CrisisAssessment()
        sessions.append(
            session(
                n,
                at(w),
                summary=summary,
                crisis=danger,
                attended=w % 26 != 10,
                version=1 + (n == 70),
                made=("conversation_summary",),
            )
        )
    events = [
        Event(at(6), "medication", "Sertraline 50 mg begun"),
        Event(at(52), "medication", "Sertraline stopped"),
        Event(at(78), "life_event", "Death of the father"),
        Event(at(82), "medication", "Sertraline 100 mg begun"),
        Event(at(81), "crisis", "Emergency department, discharged the same night"),
        Event(at(120), "treatment", "From weekly to fortnightly"),
    ]
    goals = [
        Goal(
            "g1",
            title,
            at(1),
            ratings=[
                Rating(at(w), a, None, "as told in session")
                for w, a in ((4, -2), (20, -1), (45, 1), (82, -1), (120, 0), (146, 1))
            ],
        ),
        Goal(
            "g2",
            "Sleep six hours on five nights",
            at(3),
            ratings=[Rating(at(w), None, p) for w, p in ((5, 10.0), (30, 55.0), (60, 90.0), (140, 80.0))],
        ),
        Goal("g3", "Call a friend each week", at(140)),
    ]
    milestones = [
        Milestone("m1", "Remission for 8 weeks", at(58), "PHQ-9 under 5 from 14 Jan 2024 on", "remission"),
        Milestone("m2", "First session after a crisis", at(86), "", "first_after_crisis"),
        Milestone("m3", "Back at work", at(110), "told by the client", "set_by_hand", "dr.lee"),
    ]
    phq = found_in(
        scores,
        IMPROVING,
        evidence=["PHQ-9 fell by 0.04 points a week over 46 scores (95 % interval −0.07 to −0.01)."],
        trend=Trend(-0.041, (-0.072, -0.012), -0.22, 0.021, len(scores)),
        change=ReliableChange(IMPROVED, scores[0].total, scores[-1].total, scores[-1].total - scores[0].total, 5.2, 10, "1.96 × √2 × SD 5.4 × √(1 − 0.88)."),
        expected=ExpectedResponse(False, 13.0, 8.4, (4.9, 11.6), "Of those who began at 19, 80 % are within the band after 148 weeks."),
        change_points=[ChangePoint(at(81), (at(60), at(81)), 8.4, 16.9), ChangePoint(at(123), (at(120), at(123)), 16.2, 12.8)],
        plateaus=[Plateau(at(50), at(60), 6.0, (-0.05, 0.06), 0.1, 5)],
        season=Season(2, 7, 1.9, (0.8, 3.0), 0.01, 2.9),
    )  # fmt: skip
    anxious = found_in(
        gad, STABLE, evidence=["No trend in GAD-7."], not_enough=("a season needs 24 scores over two years, there are 16",)
    )
    analysis = TrendAnalysis(
        "c-7", len(sessions), IMPROVING, [phq, anxious],
        [EmotionalTrend("sadness", -0.002, (-0.003, -0.001)), EmotionalTrend("fear", 0.0, (-0.001, 0.001)), EmotionalTrend("joy", 0.0015, (0.001, 0.002))],
        ["PHQ-9 is reliably better than at the start, with a relapse between.", "GAD-7 is stable."],
        ["Scores from two different clinics are in this journal."],
    )  # fmt: skip
    journey = Journey("c-7", sessions, sorted([*scores, *gad], key=lambda s: s.at), goals, events, milestones)
    frame = Timeframe(BEGIN - timedelta(days=20), at(152), "multi_year")
    return page(
        journey, analysis, frame, label=label, recommendations=["Discuss the relapse plan: the course is not on track (PHQ-9)."]
    )


def ten_years(count: int = 500) -> str:
    draw = random.Random(8)
    sessions, scores, events, milestones = [], [], [], []
    for n in range(count):
        at = BEGIN - timedelta(days=365 * 7) + timedelta(days=7.3 * n, hours=draw.randrange(8))
        danger = CrisisAssessment("imminent", ("x",), 0.9, "plan", "self") if n % 61 == 60 else CrisisAssessment()
        sessions.append(
            session(n, at, crisis=danger, attended=n % 17 != 3, emotions={"sadness": draw.random(), "joy": draw.random() / 2})
        )
        scores.append(phq9(at, round(12 + 5 * draw.gauss(0, 0.5) - n / 90), int(n % 61 == 60)))
        if n % 14 == 9:
            events.append(Event(at, "medication" if n % 28 == 9 else "life_event", f"Change number {n // 14}"))
        if n % 40 == 33:
            milestones.append(Milestone(f"m{n}", "Remission for 8 weeks", at, "", "remission"))
    change = ReliableChange(DETERIORATED, scores[0].total, scores[-1].total, scores[-1].total - scores[0].total, 5.2, 10, "")
    trend = Trend(-0.011, (-0.014, -0.008), -0.2, 0.0001, count)
    analysis = TrendAnalysis("c-10y", count, REGRESSING, [found_in(scores, REGRESSING, change=change, trend=trend)])
    frame = Timeframe(sessions[0].log.timestamp - timedelta(days=3), BEGIN + timedelta(days=1110), "multi_year")
    return page(Journey("c-10y", sessions, scores, (), events, milestones), analysis, frame)


def long_texts() -> str:
    word, prose = "Donaudampfschifffahrtsgesellschaft" * 4, (SUMMARY + " ") * 25
    sessions = [
        session(n, BEGIN + timedelta(days=7 * n), summary=f"{prose}\n\n{word}", focus=prose, signed_by="a" * 80) for n in range(4)
    ]
    sessions.append(session(5, BEGIN + timedelta(days=40), summary="تحدثنا عن النوم والعمل", focus="תרגול נשימה"))
    goal = Goal(
        "g",
        f"{prose[:300]} {word}",
        BEGIN,
        ratings=[Rating(BEGIN, -2, None, prose), Rating(BEGIN + timedelta(days=20), 0, None, word)],
    )
    journey = Journey(
        word, sessions, [phq9(BEGIN, 27, 3)], [goal], [Event(BEGIN + timedelta(days=3), "life_event", f"{prose[:400]} {word}")]
    )
    analysis = TrendAnalysis(
        word, 5, NOT_ENOUGH, [found_in(journey.scores, NOT_ENOUGH, not_enough=[prose])], (), [prose], [prose]
    )
    return page(journey, analysis, Timeframe(BEGIN, BEGIN + timedelta(days=60)), label=word)


PAGES = {"relapse": relapse, "two": two_sessions, "empty": empty, "long": long_texts, "decade": ten_years}
