"""`attune incidents`: open one, add the steps of the procedure, see which notice is due when, close it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings

if TYPE_CHECKING:
    from attunement.security.acting import Act
    from attunement.security.incidents import Incident, Incidents

app = typer.Typer(no_args_is_help=True, help="Incidents: the procedure's steps, and the clocks of the notices that are due.")

Id = Annotated[str, typer.Argument(metavar="INCIDENT", help="Its id, as `list` shows it.")]
Told = Annotated[str, typer.Option("--told", help="What happened, in words; - reads them from standard input.")]
Day = Annotated[datetime | None, typer.Option("--discovered", formats=["%Y-%m-%d"], help="Day of discovery (default: today).")]
Persons = Annotated[int | None, typer.Option("--persons", min=0, help="How many persons it concerns, when it is known.")]


@contextmanager
def _book(recipe: Any, overrides: Any) -> Iterator[tuple[Incidents, Act]]:
    from attunement.security.entry import operator_act
    from attunement.security.incidents import Incidents
    from attunement.security.vault import Vault

    with Vault.open(load_settings(recipe, overrides or ()).settings) as vault:
        yield Incidents(vault), operator_act(vault.audit, "incident:manage")


def _words(told: str) -> str:
    return sys.stdin.read().strip() if told == "-" else told


@app.command("open")
def open_incident(
    kind: Annotated[
        str, typer.Argument(help="disclosure, blocked, access, loss, integrity, availability, malware, associate or other.")
    ],
    told: Told,
    discovered: Day = None,
    persons: Persons = None,
    client: Annotated[str, typer.Option("--client", help="Whose data it is about, where it is one client's.")] = "",
    as_associate: Annotated[
        bool, typer.Option("--as-associate", help="We are the business associate: the notice goes to the covered entity.")
    ] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Open an incident. The clocks run from the day of discovery, whether or not it turns out to be a breach.

    Example: `attune incidents open loss --discovered 2026-11-27 --told "notebook left in a train, disk encrypted"`
    """
    with _book(recipe, overrides) as (book, act):
        day = discovered.date() if discovered else None
        _show(book.open(kind, _words(told), act, discovered=day, persons=persons, client=client, as_associate=as_associate))


@app.command()
def step(
    incident: Id,
    what: Annotated[
        str,
        typer.Argument(
            metavar="STEP",
            help="note, contain, preserve, count, factor, decide, delay, notify_individuals, notify_secretary, notify_media, notify_entity, recover or review.",
        ),
    ],
    told: Told = "",
    persons: Persons = None,
    residents: Annotated[int | None, typer.Option(min=0, help="With count: how many of them live in one state.")] = None,
    factor: Annotated[str | None, typer.Option(help="With factor: information, recipient, acquired or mitigated.")] = None,
    decision: Annotated[
        str | None, typer.Option(help="With decide: breach, low_probability, excluded, secured, stopped or no_phi.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="With delay: the day that the official named.")
    ] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Add a step of the procedure. Nothing that was added can be changed; add another step to correct it.

    Example: `attune incidents step i0123456789abcde contain --told "the account was disabled"`
    """
    given = {"persons": persons, "residents": residents, "factor": factor, "decision": decision}
    with _book(recipe, overrides) as (book, act):
        _show(book.step(incident, what, _words(told), act, **given, until=until.date() if until else None))


@app.command("list")
def list_incidents(
    everything: Annotated[bool, typer.Option("--all", help="Closed ones, too.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the open incidents with the next notice that is due.

    Example: `attune incidents list`
    """
    with _book(recipe, overrides) as (book, _):
        found = [i for i in book.all() if everything or i.is_open]
    if as_json:
        typer.echo(json.dumps([_as_dict(i, words=False) for i in found]))
        return
    for incident in found:
        due = min((c for c in incident.clocks() if c.state == "runs" and incident.is_open), key=lambda c: c.due, default=None)
        state = "closed" if not incident.is_open else f"{due.name} by {due.due}" if due else "no notice due"
        typer.echo(f"{incident.id}  {incident.kind:12}  discovered {incident.discovered}  {len(incident.steps)} steps  {state}")
    if not found:
        typer.echo("no incidents" if everything else "no open incidents")


@app.command()
def show(incident: Id, recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show an incident: its steps with what was told, its clocks, what is missing.

    Example: `attune incidents show i0123456789abcde`
    """
    with _book(recipe, overrides) as (book, act):
        found = book.get(incident)
        book.was_read(found, act)
    if as_json:
        typer.echo(json.dumps(_as_dict(found, words=True)))
        return
    _show(found)
    for s in found.steps:
        rest = {k: v for k, v in s.data.items() if k != "text" and v not in (None, "", False)}
        typer.echo(f"  {s.number:3}  {s.at[:16]}  {s.actor}  {s.step}  {json.dumps(rest) if rest else ''}")
        typer.echo("".join(f"       {line}\n" for line in str(s.data.get("text", "")).splitlines()), nl=False)


@app.command()
def close(incident: Id, told: Told = "", recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Close an incident; refused while steps of the procedure or notices that are due are missing.

    Example: `attune incidents close i0123456789abcde --told "reviewed with the board"`
    """
    with _book(recipe, overrides) as (book, act):
        _show(book.close(incident, _words(told), act))


def _show(incident: Incident) -> None:
    today = datetime.now(UTC).date()
    typer.echo(f"{incident.id}: {incident.kind}, discovered {incident.discovered}, {'open' if incident.is_open else 'closed'}")
    for clock in incident.clocks():
        left = f", {clock.days_left(today)} days left" if clock.state == "runs" and incident.is_open else ""
        typer.echo(f"  {clock.name} (45 CFR {clock.paragraph}): {clock.state}, by {clock.due}{left}")
    if incident.is_open and (missing := incident.missing()):
        typer.echo(f"  before it can be closed: {', '.join(missing)}")


def _as_dict(incident: Incident, *, words: bool) -> dict[str, Any]:
    clocks = [{"name": c.name, "paragraph": c.paragraph, "due": str(c.due), "state": c.state} for c in incident.clocks()]
    steps = [
        {"number": s.number, "at": s.at, "actor": s.actor, "step": s.step, **({"data": dict(s.data)} if words else {})}
        for s in incident.steps
    ]
    return {
        "id": incident.id, "kind": incident.kind, "discovered": str(incident.discovered), "open": incident.is_open, "persons": incident.persons,
        "decision": incident.decision, "factors": sorted(incident.factors), "missing": incident.missing(), "clocks": clocks, "steps": steps,
    }  # fmt: skip
