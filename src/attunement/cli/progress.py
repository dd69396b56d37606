"""`attune progress`: a client's journal - sessions, questionnaires, goals - and what it shows over weeks, months and years."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.errors import DataError

if TYPE_CHECKING:
    from attunement.progress.tracking import ProgressTrackingSystem

app = typer.Typer(
    no_args_is_help=True, help="A client's journal over weeks, months and years, and whether the change in it is real."
)

Client = Annotated[str, typer.Argument(help="Id of the client.")]
Session = Annotated[str, typer.Argument(help="Id of the session.")]
At = Annotated[str, typer.Option("--at", metavar="TIME", help="When, with its time zone: 2026-03-02T10:00+01:00; default: now.")]
Span = Annotated[
    str, typer.Option("--timeframe", help="90d, 12w, 2026, 2026-Q1, 2026-02, 2024..2026, 2026-01-01..2026-03-01, 'last month'.")
]
Zone = Annotated[str, typer.Option(help="Time zone in which days begin.")]
MOST_BYTES = 10_000_000
Version = Annotated[int, typer.Option(help="The version that was read: another one by now is refused.")]


@app.command()
def log(
    client: Client,
    session: Session,
    transcript: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What was said: any conversation file that `attune data build` reads.")
    ] = None,
    at: At = "",
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE=ANSWERS", help="phq9=2,1,1,0,1,1,0,1,0 (empty: left out) or a total, phq9=7."),
    ] = None,
    notes: Annotated[str, typer.Option(help="Progress notes.")] = "",
    observations: Annotated[str, typer.Option(help="Observations; they never go into a prompt.")] = "",
    summary: Annotated[str, typer.Option(help="Summary; default: sentences of the transcript.")] = "",
    focus: Annotated[str, typer.Option(help="What comes next; default: suggested from the transcript.")] = "",
    missed: Annotated[bool, typer.Option("--missed", help="The client did not come.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Log a session: what is not given is made of the transcript, here on this machine. The same again changes nothing.

    Example: `attune progress log c-1042 s-12 --transcript session.txt --measure phq9=1,1,2,1,0,1,1,0,0`
    """
    from attunement.progress.journey import SessionData

    answers = dict(_answers(each) for each in measure or ())
    turns = _turns(transcript) if transcript else ()
    with journal("client:write", recipe, overrides, client) as system:
        data = SessionData(session, turns, summary, None, (), notes, observations, focus, measures=answers, attended=not missed)
        found = system.logged(client, data, _time(at))
    if as_json:
        _tell(found)
        return
    kept = found.log
    typer.echo(f"{session} of {client} is in the journal ({kept.timestamp:%Y-%m-%d %H:%M %Z}, version {found.version})")
    for name, text in (("summary", kept.conversation_summary), ("next", kept.next_session_focus)):
        if text:
            typer.echo(f"  {name}: {text}")
    if found.crisis.level != "none":
        typer.echo(f"  danger: {found.crisis.level} ({', '.join(found.crisis.reasons)})")


@app.command()
def measure(
    client: Client,
    answers: Annotated[str, typer.Argument(metavar="CODE=ANSWERS", help="phq9=2,1,1,0,1,1,0,1,0 or a total, phq9=7.")],
    at: At = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Keep a questionnaire. An answer above zero to item 9 of the PHQ-9 raises a crisis alert.

    Example: `attune progress measure c-1042 gad7=1,2,1,0,1,1,0`
    """
    code, given = _answers(answers)
    with journal("client:write", recipe, overrides, client) as system:
        score = system.add_measure(client, code, given, _time(at))
        told = system.measure(code)
        unknown = (told.score(given) if isinstance(given, list) else told.of_total(given)).critical_unknown
    if as_json:
        _tell(score)
        return
    typer.echo(f"{told.title}: {score.total:g} of {told.high:g} ({told.of_total(score.total).band}); entry {score.entry_id}")
    for item in unknown:
        typer.echo(f"  item {item} is not known, and it asks about danger: ask the client")


@app.command()
def goal(
    client: Client,
    title: Annotated[str, typer.Argument(help="The goal.")],
    goal_id: Annotated[str, typer.Option("--id", help="Its id; default: one is made.")] = "",
    at: At = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Set a goal; prints its id.

    Example: `attune progress goal c-1042 "Leave the house every day" --id g-out`
    """
    with journal("client:write", recipe, overrides, client) as system:
        typer.echo(system.set_goal(client, title, _time(at), goal_id=goal_id))


@app.command()
def rate(
    client: Client,
    goal_id: Annotated[str, typer.Argument(metavar="GOAL", help="Id of the goal.")],
    attainment: Annotated[int | None, typer.Option(min=-2, max=2, help="-2 to 2; 0 is what was expected.")] = None,
    percent: Annotated[float | None, typer.Option(min=0, max=100, help="Or how much of it is reached.")] = None,
    note: Annotated[str, typer.Option(help="Why.")] = "",
    at: At = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Rate a goal; prints the entry's id.

    Example: `attune progress rate c-1042 g-out --attainment 1`
    """
    with journal("client:write", recipe, overrides, client) as system:
        typer.echo(system.rate_goal(client, goal_id, _time(at), attainment=attainment, percent=percent, note=note))


@app.command()
def event(
    client: Client,
    kind: Annotated[str, typer.Argument(help="medication, life_event, crisis, treatment or note.")],
    title: Annotated[str, typer.Argument(help="What it was.")],
    at: At = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Put something on the time line; prints the entry's id.

    Example: `attune progress event c-1042 medication "Sertraline 50 mg" --at 2026-03-01T00:00+01:00`
    """
    with journal("client:write", recipe, overrides, client) as system:
        typer.echo(system.add_event(client, kind, title, _time(at)))


@app.command()
def milestone(
    client: Client,
    title: Annotated[str, typer.Argument(help="What was reached.")],
    note: Annotated[str, typer.Option(help="By what it is known.")] = "",
    at: At = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Set a milestone by hand; prints the entry's id. Those found by rules come by themselves.

    Example: `attune progress milestone c-1042 "Back at work, half days"`
    """
    with journal("client:write", recipe, overrides, client) as system:
        typer.echo(system.set_milestone(client, title, _time(at), note))


@app.command()
def edit(
    client: Client,
    session: Session,
    version: Version,
    summary: Annotated[str | None, typer.Option(help="New summary.")] = None,
    notes: Annotated[str | None, typer.Option(help="New progress notes.")] = None,
    observations: Annotated[str | None, typer.Option(help="New observations.")] = None,
    focus: Annotated[str | None, typer.Option(help="What comes next.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Edit the words of a session: what they were is kept, and the new version is unsigned.

    Example: `attune progress edit c-1042 s-12 --version 1 --notes "Sleeps through since Tuesday."`
    """
    given = {
        "conversation_summary": summary, "progress_notes": notes, "therapist_observations": observations, "next_session_focus": focus,
    }  # fmt: skip
    with journal("client:write", recipe, overrides, client) as system:
        found = system.correct_session(client, session, version, {name: text for name, text in given.items() if text is not None})
    typer.echo(f"version {found.version} of {session} stands; the one before is kept")


@app.command()
def sign(client: Client, session: Session, version: Version, recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Sign a session as it was read.

    Example: `attune progress sign c-1042 s-12 --version 2`
    """
    with journal("client:sign", recipe, overrides, client) as system:
        found = system.sign_session(client, session, version)
    typer.echo(f"version {found.version} of {session} is signed by {found.signed_by}")


@app.command()
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
        _tell(found)
        return
    for each in found:
        state = f"signed by {each.signed_by}" if each.signed_by else "not signed" if each.attended else "missed"
        typer.echo(f"{each.log.timestamp:%Y-%m-%d %H:%M}  {each.log.session_id}  version {each.version}, {state}")
        if each.log.conversation_summary:
            typer.echo(f"    {each.log.conversation_summary}")


@app.command()
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
        _tell(found.report)
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


@app.command()
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
        _tell(found)
        return
    typer.echo(f"{client}: {found.trajectory.replace('_', ' ')} ({found.sessions_count} sessions)")
    for trend in found.measures:
        typer.echo(f"  {trend.measure}: {trend.trajectory.replace('_', ' ')}, {len(trend.scores)} scores")
        for text in (*trend.evidence, *(f"not enough data for {what}" for what in trend.not_enough)):
            typer.echo(f"    {text}")
    for text in found.caveats:
        typer.echo(f"  mind: {text}")


@app.command()
def milestones(client: Client, recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the milestones of a client's journey, found by rules or set by hand.

    Example: `attune progress milestones c-1042`
    """
    with journal("client:read", recipe, overrides, client) as system:
        found = system.track_milestones(client)
    if as_json:
        _tell(found)
        return
    for each in found:
        typer.echo(f"{each.reached_at:%Y-%m-%d}  {each.title}" + (f" ({each.evidence})" if each.evidence else ""))


@app.command()
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
        _tell(found)
        return
    typer.echo(found.text)


@app.command()
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
        page = system.page(client, span_of(timeframe, zone, system), _zone(zone))
    write_private(out, to_pdf(page) if out.suffix == ".pdf" else page.encode())
    typer.echo(f"report: {out}")


@app.command()
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


# --- shared --------------------------------------------------------------------------------------------


@contextmanager
def journal(
    action: str, recipe: Path | None, overrides: list[str] | None, client: str | None = None
) -> Iterator[ProgressTrackingSystem]:
    """The journal as the local operator sees it; its alarms go into the review queue of the same store."""
    from attunement.serving.journals import journal as over
    from attunement.serving.reviews import ClinicalReviews

    with acting(action, recipe, overrides, client) as (vault, act):
        yield over(vault, ClinicalReviews(vault.audit, vault.cipher)).by(act)


def span_of(text: str, zone: str, system: ProgressTrackingSystem) -> Any:
    from attunement.progress.timeframes import parse

    return parse(text, system.vault.audit.clock(), _zone(zone))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise DataError(f"there is no time zone '{name}': name one as Europe/Berlin") from None


def _time(text: str) -> datetime:
    from attunement.security.clock import utc_now

    if not text:
        return utc_now()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"'{text}' is no time: write it as 2026-03-02T10:00+01:00") from None
    if found.utcoffset() is None:
        raise DataError(f"'{text}' needs its time zone: {text}+01:00, or {text}Z")
    return found


def _answers(text: str) -> tuple[str, Any]:
    """`phq9=1,0,,2` as code and answers, `phq9=7` as code and total."""
    code, sign, given = text.partition("=")
    try:
        if not sign or not given.strip():
            raise ValueError
        if "," not in given:
            return code, float(given)
        return code, [int(each) if each.strip() else None for each in given.split(",")]
    except ValueError:
        raise DataError(f"'{text}' should be CODE=ANSWERS: phq9=2,1,1,0,1,1,0,1,0, or phq9=7 for a total") from None


def _turns(path: Path) -> Any:
    from attunement.readers.files import ReadFailure, discover, read

    found = [each for file in discover([path]) for each in read(file, max_record_bytes=MOST_BYTES)]
    if failed := [each for each in found if isinstance(each, ReadFailure)]:
        raise DataError(f"{path} cannot be read as a conversation: {failed[0].error}")
    talks = [each for each in found if not isinstance(each, ReadFailure)]
    if len(talks) != 1:
        raise DataError(f"{path} holds {len(talks)} conversations: a session is one")
    return talks[0].turns


def _tell(found: Any) -> None:
    from attunement.records import to_dict

    typer.echo(json.dumps(to_dict(found), ensure_ascii=False))
