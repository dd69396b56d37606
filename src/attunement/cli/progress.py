"""`attune progress`: a client's journal - sessions, questionnaires, goals - and what it shows over weeks, months and years."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attunement.cli import progress_journeys, progress_views
from attunement.cli.journal import At, Client, Session, Version, answers_of, journal, tell, time_of, turns_of
from attunement.cli.options import AsJson, Overrides, Recipe

app = typer.Typer(
    no_args_is_help=True, help="A client's journal over weeks, months and years, and whether the change in it is real."
)


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
    danger: Annotated[
        str,
        typer.Option(help="none, possible, elevated or imminent; default: judged from the transcript, not assessed without one."),
    ] = "",
    missed: Annotated[bool, typer.Option("--missed", help="The client did not come.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Log a session: what is not given is made of the transcript, here on this machine. The same again changes nothing.

    Example: `attune progress log c-1042 s-12 --transcript session.txt --measure phq9=1,1,2,1,0,1,1,0,0`
    """
    from attunement.progress.journey import SessionData

    answers = dict(answers_of(each) for each in measure or ())
    turns = turns_of(transcript) if transcript else ()
    with journal("client:write", recipe, overrides, client) as system:
        data = SessionData(
            session,
            turns,
            summary,
            None,
            (),
            notes,
            observations,
            focus,
            measures=answers,
            crisis_level=danger,
            attended=not missed,
        )
        found = system.logged(client, data, time_of(at))
    if as_json:
        tell(found)
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
    code, given = answers_of(answers)
    with journal("client:write", recipe, overrides, client) as system:
        score = system.add_measure(client, code, given, time_of(at))
        told = system.measure(code)
        unknown = (told.score(given) if isinstance(given, list) else told.of_total(given)).critical_unknown
    if as_json:
        tell(score)
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
        typer.echo(system.set_goal(client, title, time_of(at), goal_id=goal_id))


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
        typer.echo(system.rate_goal(client, goal_id, time_of(at), attainment=attainment, percent=percent, note=note))


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
        typer.echo(system.add_event(client, kind, title, time_of(at)))


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
        typer.echo(system.set_milestone(client, title, time_of(at), note))


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


for _command in (
    progress_views.sessions, progress_views.show, progress_views.trends, progress_views.milestones, progress_views.context, progress_views.report,
    progress_views.measures, progress_journeys.simulate, progress_journeys.journeys,
):  # fmt: skip
    app.command()(_command)
