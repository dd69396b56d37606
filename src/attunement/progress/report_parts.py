"""The parts of the report as plain values that its template writes down: what stands on the time line, measures, goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from attunement.progress.alerts import danger_words, dangerous, item_answer, short_name
from attunement.progress.charts import Chart, Frame, Series, score_chart, small_chart
from attunement.progress.findings import DETERIORATED, IMPROVED, NOT_ENOUGH, RECOVERED, UNCHANGED, MeasureTrend, TrendAnalysis
from attunement.progress.journey import Goal, Journey
from attunement.progress.measures import Measure
from attunement.progress.report_emotions import Emotions
from attunement.progress.time_axis import Mark, gaps
from attunement.records import Milestone, ProgressReport

EVENT_WORDS = {"life_event": "life event", "crisis": "crisis"}
CHANGE_WORDS = {
    RECOVERED: "recovered: reliably better, and across the clinical cut-off",
    IMPROVED: "improved: reliably better",
    UNCHANGED: "no reliable change",
    DETERIORATED: "deteriorated: reliably worse",
}
ATTAINED = {
    -2: "much less than expected",
    -1: "less than expected",
    0: "as expected",
    1: "more than expected",
    2: "much more than expected",
}
MONTHS = "January February March April May June July August September October November December".split()


@dataclass(frozen=True)
class MeasurePart:
    """One measure. `rows` of its table are (date, score, band, change since the score before, remarks)."""

    name: str
    title: str
    found: MeasureTrend
    chart: Chart | None
    facts: Sequence[tuple[str, str]]
    holes: Sequence[str]
    changes: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class GoalPart:
    """One goal; `now` is its latest rating in words, `rows` of its table are (date, attainment, percent, note)."""

    goal: Goal
    now: str
    percent: float | None
    chart: Chart | None
    rows: Sequence[Sequence[str]]


class Parts:
    """All parts of one report; `frame` gets its marks here."""

    def __init__(
        self, journey: Journey, report: ProgressReport, analysis: TrendAnalysis, measures: Mapping[str, Measure], frame: Frame
    ) -> None:
        self.journey, self.report, self.analysis, self.measures_by_code = journey, report, analysis, measures
        self.zone = frame.axis.zone
        self.frame = replace(frame, marks=[m for m in self.marks if frame.axis.start <= m.at <= frame.axis.end])
        trends = {trend.emotion: trend for trend in (*report.emotional_trends, *analysis.emotions)}
        self.emotions = Emotions(journey, trends, self.frame, self.day)

    def day(self, at: datetime) -> str:
        local = at.astimezone(self.zone)
        return f"{local.day} {local:%b %Y}"

    @cached_property
    def milestones(self) -> Sequence[Milestone]:
        """Those that rules found and those that people set, each once, in the order of time."""
        found = {m.milestone_id: m for m in (*self.report.key_milestones, *self.journey.milestones)}
        return sorted(found.values(), key=lambda m: m.reached_at)

    @cached_property
    def marks(self) -> Sequence[Mark]:
        """All that stands on the time line of every chart, numbered in the order of time; crises have numbers of their own."""
        found = [
            (e.at, EVENT_WORDS.get(e.kind, e.kind.replace("_", " ")), e.title, e.kind == "crisis") for e in self.journey.events
        ]
        found += [(m.reached_at, "milestone", m.title, False) for m in self.milestones]
        found += [
            (s.log.timestamp, "sign of danger in a session", danger_words(s), True) for s in self.journey.sessions if dangerous(s)
        ]
        numbers = {False: 0, True: 0}
        marks = []
        for at, kind, title, crisis in sorted(found):
            numbers[crisis] += 1
            marks.append(Mark(at, f"{'!' if crisis else ''}{numbers[crisis]}", kind, title, crisis))
        return marks

    @property
    def evidence(self) -> Sequence[str]:
        """That of the trajectory, measures called by their names instead of their codes."""
        named = [words.partition(": ") for words in self.analysis.evidence]
        return ["".join((short_name(a, self.measures_by_code) if a in self.measures_by_code else a, *b)) for a, *b in named]

    # --- measures ------------------------------------------------------------------------------------

    @cached_property
    def measures(self) -> Sequence[MeasurePart]:
        known = {trend.measure for trend in self.analysis.measures}
        rest = dict.fromkeys(score.measure for score in self.journey.scores if score.measure not in known)
        bare = [MeasureTrend(code, [s for s in self.journey.scores if s.measure == code], NOT_ENOUGH) for code in rest]
        return [self._measure(found) for found in (*self.analysis.measures, *bare)]

    def _measure(self, found: MeasureTrend) -> MeasurePart:
        measure = self.measures_by_code.get(found.measure)
        name = short_name(found.measure, self.measures_by_code)
        empty = [(a, b) for a, b in gaps([s.at for s in found.scores])]
        holes = [f"No score from {self.day(a)} to {self.day(b)} ({round((b - a).days / 7)} weeks)." for a, b in empty]
        changes = [
            (f"C{n}", f"{self.day(p.at)}: the level moved, mean {p.before:.1f} before and {p.after:.1f} after.")
            for n, p in enumerate(found.change_points, 1)
        ]
        chart = score_chart(found, measure, self.frame, self._told(found, measure, name)) if found.scores else None
        title = measure.title if measure else found.measure
        return MeasurePart(
            name, title, found, chart, self._facts(found, measure), holes, changes, self._score_rows(found, measure)
        )

    def _told(self, found: MeasureTrend, measure: Measure | None, name: str) -> tuple[str, str]:
        """Title and description of a chart: what it shows, in figures."""
        totals, first, last = [s.total for s in found.scores], found.scores[0], found.scores[-1]
        title = f"{name} over time, {len(totals)} {'score' if len(totals) == 1 else 'scores'}: {first.total:g} on {self.day(first.at)}"
        if len(totals) > 1:
            title += f" to {last.total:g} on {self.day(last.at)}; lowest {min(totals):g}, highest {max(totals):g}"
        told = []
        if measure:
            told.append(
                f"Scale {measure.low:g} to {measure.high:g}, {'higher' if measure.higher_is_worse else 'lower'} is worse, cut-off {measure.cutoff:g}."
            )
            told.append("Bands: " + ", ".join(f"{b.name} {b.low:g} to {b.high:g}" for b in measure.bands) + ".")
        if found.trend:
            told.append(f"Trend {signed(found.trend.slope_per_week)} points a week.")
        told += [f"Change {n} on {self.day(p.at)}." for n, p in enumerate(found.change_points, 1)]
        told.append("All figures stand in the table under the chart.")
        return title, " ".join(told)

    def _facts(self, found: MeasureTrend, measure: Measure | None) -> list[tuple[str, str]]:
        """What was found, one line each: (what, in words)."""
        facts: list[tuple[str, str]] = []
        if found.scores:
            ends = [found.scores[0], found.scores[-1]] if len(found.scores) > 1 else [found.scores[0]]
            told = [f"{s.total:g}{f' ({measure.band(s.total)})' if measure else ''} on {self.day(s.at)}" for s in ends]
            facts.append(("First and last score" if len(ends) > 1 else "Score", "; ".join(told)))
        if found.change:
            c = found.change
            facts.append(
                (
                    "Reliable change",
                    f"{CHANGE_WORDS.get(c.status, c.status)} ({signed(c.change)} points; reliable from {c.reliable:.2f} on). {c.explanation}",
                )
            )
        if found.expected:
            e = found.expected
            on = "on track" if e.on_track else "not on track"
            facts.append(
                (
                    "Against the expected course",
                    f"{on}: observed {e.observed:g}, expected {e.expected:.1f} ({e.band[0]:.1f} to {e.band[1]:.1f}). {e.explanation}",
                )
            )
        if found.trend:
            t = found.trend
            p = "p < 0.001" if t.p < 0.001 else f"p = {t.p:.3f}"
            facts.append(
                (
                    "Trend",
                    f"{signed(t.slope_per_week)} points a week (95 % interval {signed(t.interval[0])} to {signed(t.interval[1])}; Mann-Kendall {p}; {t.points} scores)",
                )
            )
        for plateau in found.plateaus:
            facts.append(
                (
                    "Plateau",
                    f"{self.day(plateau.start)} to {self.day(plateau.end)}: about {plateau.mean:.1f}, changing by less than {plateau.margin:.2g} points a week ({plateau.points} scores)",
                )
            )
        if found.season:
            s = found.season
            facts.append(
                (
                    "Season",
                    f"highest in {MONTHS[s.high_month - 1]}, lowest in {MONTHS[s.low_month - 1]}, by ±{s.amplitude:.1f} points ({s.interval[0]:.1f} to {s.interval[1]:.1f}; {s.years:.1f} years)",
                )
            )
        return facts

    def _score_rows(self, found: MeasureTrend, measure: Measure | None) -> list[list[str]]:
        rows, before = [], None
        for score in found.scores:
            notes = ["left-out answers filled in by the measure's rule"] if score.prorated else []
            for critical in measure.critical if measure else ():
                answer = item_answer(score, critical.item)
                if answer is None:
                    notes.append(f"item {critical.item} not known")
                elif answer > critical.above:
                    notes.append(f"item {critical.item}: {answer}")
            since = "" if before is None else signed(score.total - before)
            rows.append(
                [self.day(score.at), f"{score.total:g}", measure.band(score.total) if measure else "", since, "; ".join(notes)]
            )
            before = score.total
        return rows

    # --- goals ---------------------------------------------------------------------------------------

    @cached_property
    def goals(self) -> Sequence[GoalPart]:
        return [self._goal(goal, number) for number, goal in enumerate(self.journey.goals, 1)]

    def _goal(self, goal: Goal, number: int) -> GoalPart:
        rated, shares = [r for r in goal.ratings if r.attainment is not None], [r for r in goal.ratings if r.percent is not None]
        last = goal.ratings[-1] if goal.ratings else None
        now = "not rated yet"
        if last is not None:
            level = "" if last.attainment is None else f"{signed(last.attainment)}, {ATTAINED.get(last.attainment, '')}"
            now = f"{level or f'{last.percent:g} %'} on {self.day(last.at)}"
        by_level = len(rated) >= len(shares)
        values = (
            [(r.at, float(r.attainment or 0), None) for r in rated]
            if by_level
            else [(r.at, float(r.percent or 0), None) for r in shares]
        )
        chart = None
        if len(values) > 1:
            ends = (
                (-2.0, 2.0, {-2.0: "−2", 0.0: "expected 0", 2.0: "+2"})
                if by_level
                else (0.0, 100.0, {0.0: "0 %", 50.0: "50 %", 100.0: "100 %"})
            )
            series = Series("each rating; it holds until the next", values, *ends)
            unit = "" if by_level else " percent"
            title = f"Goal {number} over time, {len(values)} ratings: {signed(values[0][1], by_level)}{unit} on {self.day(values[0][0])} to {signed(values[-1][1], by_level)}{unit} on {self.day(values[-1][0])}"
            chart = small_chart(
                f"goal-{number}", series, self.frame, (title, "All ratings stand in the table under the charts."), steps=True
            )
        rows = [
            [
                self.day(r.at),
                "" if r.attainment is None else signed(r.attainment),
                "" if r.percent is None else f"{r.percent:g} %",
                r.note,
            ]
            for r in goal.ratings
        ]
        return GoalPart(goal, now, self.report.goal_progress.get(goal.goal_id), chart, rows)

    # --- what cannot be said ---------------------------------------------------------------------------

    @cached_property
    def lacking(self) -> Sequence[tuple[str, str]]:
        """(what, why): all that the report would say with more data."""
        found = [(part.name, words) for part in self.measures for words in part.found.not_enough]
        if not self.measures:
            found.append(("Change and trend", "no questionnaire in this timeframe."))
        if self.report.overall_trajectory == NOT_ENOUGH:
            found.insert(0, ("Trajectory", "no measure has enough scores yet to tell improving, stable and regressing apart."))
        unrated = [part.goal.title for part in self.goals if not part.rows]
        found += [
            ("Goal", f"\N{LEFT DOUBLE QUOTATION MARK}{title}\N{RIGHT DOUBLE QUOTATION MARK} was not rated.") for title in unrated
        ]
        unknown = [part.name for part in self.emotions.parts if not part.known]
        if unknown:
            found.append(("Emotions", f"no trend can be said of {', '.join(unknown)}."))
        elif not self.emotions.parts:
            found.append(("Emotions", "no emotional state on record."))
        return found


def signed(value: float, sign: bool = True) -> str:
    """`+0.25`, `−3`, `0`: with a real minus, and no more digits than tell something."""
    return f"{round(value, 2):+g}".replace("-", "−") if sign and round(value, 2) else f"{round(value, 2) + 0:g}".replace("-", "−")
