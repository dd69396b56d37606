"""The report that a clinician reads: one client, one timeframe, as one HTML file and as a tagged PDF (docs/progress-report.md).

The page needs no script and nothing from outside, and forbids both by its own policy. All that people wrote is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from attunement.progress.alerts import danger_words, dangerous, find_alerts, not_checked
from attunement.progress.charts import Frame, SessionTick
from attunement.progress.findings import TrendAnalysis
from attunement.progress.journey import Journey
from attunement.progress.measures import Measure
from attunement.progress.report_parts import Parts
from attunement.progress.report_pdf import to_pdf as to_pdf  # a part of this module's interface
from attunement.progress.time_axis import TimeAxis, fitted
from attunement.records import ProgressReport, Timeframe

if TYPE_CHECKING:
    import jinja2

OPEN_SESSIONS, LISTED_MARKS = 10, 12
"""How many sessions stand open; up to how many marks are listed under each chart, more of them under the first only."""


def render(
    journey: Journey,
    report: ProgressReport,
    analysis: TrendAnalysis,
    measures: Mapping[str, Measure],
    *,
    made_at: datetime,
    zone: ZoneInfo,
    label: str = "",
) -> str:
    """The report as one HTML file. `label` is what the client is called beside the id; without it no name stands in the page.

    `journey` holds what `report.timeframe` covers; `made_at` is aware; dates are written as they were in `zone`.
    """
    frame, shrunk = _frame(journey, report.timeframe, made_at, zone)
    parts = Parts(journey, report, analysis, measures, frame)
    css = resources.files("attunement.progress").joinpath("report.css").read_text(encoding="utf-8")
    held = [s for s in journey.sessions if s.attended]
    return _template().render(
        label=label,
        css=css,
        css_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii"),
        made_at=made_at.astimezone(zone),
        day=parts.day,
        frame=frame,
        shrunk=shrunk,
        last_day=report.timeframe.end - timedelta(microseconds=1),
        report=report,
        analysis=analysis,
        held=len(held),
        missed=len(journey.sessions) - len(held),
        signed=sum(bool(s.signed_by) for s in held),
        alerts=find_alerts(journey, analysis, report.overall_trajectory, measures, parts.day),
        not_checked=not_checked(journey, measures),
        danger_words=danger_words,
        journey_scores=len(journey.scores),
        listed=LISTED_MARKS,
        open_sessions=OPEN_SESSIONS,
        parts=parts,
    )


@cache
def _template() -> jinja2.Template:
    import jinja2

    text = resources.files("attunement.progress").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(text)


def _frame(journey: Journey, timeframe: Timeframe, made_at: datetime, zone: ZoneInfo) -> tuple[Frame, bool]:
    """What the charts share. Their axis ends where the report was made, unless something stands later."""
    ticks = [SessionTick(s.log.timestamp, s.attended, dangerous(s)) for s in journey.sessions]
    times = [t.at for t in ticks] + [s.at for s in journey.scores] + [e.at for e in journey.events]
    times += [r.at for goal in journey.goals for r in goal.ratings]
    until = min(timeframe.end, max([made_at, *(at + timedelta(hours=1) for at in times)]))
    start, end, shrunk = fitted(timeframe.start, max(until, timeframe.start), times)
    return Frame(TimeAxis(start, end, 0, 1, zone), (), ticks), shrunk
