"""What `attune progress` shows of a journal: sessions, how the client is doing, milestones, context, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from attunement.cli.journal import Client, Span, Zone, journal, span_of, tell, zone_of
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.errors import DataError


def sessions(
    client: Client,
    session: Annotated[str, typer.Option(help="One session alone, with every version of it.")] = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List a client's sessions, or every version of one.

    Example: `attune progress sessions c-1042`
    """
    with journal("client:read", recipe, overrides, client) as system:
        found = system.history(client, session) if session else system.sessions(client)
    if as_json:
        tell(found)
        return
    for each in found:
        state = f"signed by {each.signed_by}" if each.signed_by else "not signed" if each.attended else "missed"
        typer.echo(f"{each.log.timestamp:%Y-%m-%d %H:%M}  {each.log.session_id}  version {each.version}, {state}")
        if each.log.conversation_summary:
            typer.echo(f"    {each.log.conversation_summary}")


def show(
    client: Client,
    timeframe: Span = "90d",
    zone: Zone = "UTC",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print how a client is doing over a timeframe: trajectory with its evidence, goals, milestones, recommendations.

    Example: `attune progress show c-1042 --timeframe 2026-Q1`
    """
    with journal("client:read", recipe, overrides, client) as system:
        found = system.overview(client, span_of(timeframe, zone, system), words=False)
    if as_json:
        tell(found.report)
        return
    report, span = found.report, found.report.timeframe
    typer.echo(f"{client}, {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}: {report.overall_trajectory.replace('_', ' ')}")
    typer.echo(f"  sessions: {report.sessions_count}")
    titles = {each.goal_id: each.title for each in found.journey.goals}
    lines = [
        *(("why", text) for text in found.analysis.evidence),
        *(("goal", f"{titles[goal]}: {percent:.0f} %") for goal, percent in report.goal_progress.items()),
        *(("milestone", f"{m.reached_at:%Y-%m-%d} {m.title}") for m in report.key_milestones),
        *(("recommended", text) for text in report.recommendations),
        *(("mind", text) for text in found.analysis.caveats),
    ]
    for name, text in lines:
        typer.echo(f"  {name}: {text}")


def trends(
    client: Client,
    timeframe: Span = "",
    zone: Zone = "UTC",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print what changed in a client's questionnaires, when, and whether the change is real.

    Example: `attune progress trends c-1042`
    """
    with journal("client:read", recipe, overrides, client) as system:
        found = system.analyze_trends(client, span_of(timeframe, zone, system) if timeframe else None)
    if as_json:
        tell(found)
        return
    typer.echo(f"{client}: {found.trajectory.replace('_', ' ')} ({found.sessions_count} sessions)")
    for trend in found.measures:
        typer.echo(f"  {trend.measure}: {trend.trajectory.replace('_', ' ')}, {len(trend.scores)} scores")
        for text in (*trend.evidence, *(f"not enough data for {what}" for what in trend.not_enough)):
            typer.echo(f"    {text}")
    for text in found.caveats:
        typer.echo(f"  mind: {text}")


def milestones(client: Client, recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the milestones of a client's journey, found by rules or set by hand.

    Example: `attune progress milestones c-1042`
    """
    with journal("client:read", recipe, overrides, client) as system:
        found = system.track_milestones(client)
    if as_json:
        tell(found)
        return
    for each in found:
        typer.echo(f"{each.reached_at:%Y-%m-%d}  {each.title}" + (f" ({each.evidence})" if each.evidence else ""))


def context(
    client: Client,
    said: Annotated[str, typer.Option(help="What the client said last; without it the newest sessions come.")] = "",
    days: Annotated[int, typer.Option(min=0, help="How far back; 0 is progress.lookback_days.")] = 0,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print what of a client's past would go into a prompt. It is on record.

    Example: `attune progress context c-1042 --said "I could not sleep again"`
    """
    with journal("context:read", recipe, overrides, client) as system:
        found = system.context(client, said, days=days)
    if as_json:
        tell(found)
        return
    typer.echo(found.text)


def report(
    client: Client,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html|FILE.pdf", help="New file; its ending says which.")],
    timeframe: Span = "1y",
    zone: Zone = "UTC",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Write the report that a clinician reads or prints. The file is not encrypted: it is 0600, and yours to keep safe.

    Example: `attune progress report c-1042 --timeframe 2026 --out c-1042.html`
    """
    from attunement.progress.report import to_pdf
    from attunement.security.private_files import write_private

    if out.suffix not in (".html", ".pdf"):
        raise DataError(f"{out} should end in .html or .pdf")
    with journal("client:read", recipe, overrides, client) as system:
        page = system.page(client, span_of(timeframe, zone, system), zone_of(zone))
    write_private(out, to_pdf(page) if out.suffix == ".pdf" else page.encode())
    typer.echo(f"report: {out}")


def measures(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the questionnaires that are known: built in, and those of progress.measures.

    Example: `attune progress measures`
    """
    from attunement.config import load_settings
    from attunement.progress.measures import measures as known

    found = known(load_settings(recipe, overrides or ()).settings.progress.measures)
    if as_json:
        typer.echo(json.dumps({code: each.title for code, each in found.items()}))
        return
    for code, each in found.items():
        typer.echo(f"{code}: {each.title}, {len(each.items)} items, {each.low:g} to {each.high:g}")
