"""`attune retention`: what is past its time is deleted; legal holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe

app = typer.Typer(no_args_is_help=True, help="How long data are kept; legal holds.")

Client = Annotated[str, typer.Argument(help="Id of the client.")]
Reason = Annotated[str, typer.Option("--reason-code", help="A code, such as the number of a case; no words of a person.")]


@app.command()
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is older than `security.retention` says, and record it; clients under a hold are passed over.

    Example: `attune retention run --dry-run`
    """
    from attunement.security.retention import Retention

    with acting("retention:run", recipe, overrides) as (vault, act):
        done = Retention(vault).run(act, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in done]))
        return
    verb = "would be deleted" if dry_run else "deleted"
    for each in done:
        held = f"; {each.held:,} clients under a hold" if each.held else ""
        typer.echo(f"{each.rows:,} {each.kind} of {each.clients:,} clients {verb}, older than {each.days:,} days{held}")
    if not done:
        typer.echo("no kind of a client's data has a policy: set security.retention; attune retention policies  lists the kinds")


@app.command()
def policies(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the kinds of data, how long each is kept, and how late its oldest row is.

    Example: `attune retention policies`
    """
    from attunement.security.clients import kinds
    from attunement.security.retention import AUDIT, Retention

    with acting("retention:run", recipe, overrides) as (vault, _):
        days, late = vault.settings.security.retention, Retention(vault).overdue_days()
        rows = [
            {"kind": kind, "about": data.about, "days": days.get(kind), "overdue_days": late.get(kind, 0.0)}
            for kind, data in kinds().items()
        ]
    rows.append({"kind": AUDIT, "about": "the audit log, which only grows", "days": days.get(AUDIT), "overdue_days": 0.0})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        kept = (
            "kept until deleted" if row["days"] is None else f"{row['days']:,} days{' at least' if row['kind'] == AUDIT else ''}"
        )
        over = f", {row['overdue_days']:,.1f} days overdue" if row["overdue_days"] else ""
        typer.echo(f"{row['kind']:>10}: {kept}{over} ({row['about']})")


@app.command()
def hold(client: Client, reason_code: Reason, recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Put a legal hold on a client: nothing of the client is deleted until it is released.

    Example: `attune retention hold c-1042 --reason-code case-2026-17`
    """
    from attunement.security.holds import Holds

    with acting("retention:hold", recipe, overrides, client) as (vault, act):
        Holds(vault.audit).set(client, reason_code, act)


@app.command()
def release(client: Client, reason_code: Reason, recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Lift the legal hold on a client.

    Example: `attune retention release c-1042 --reason-code case-closed`
    """
    from attunement.security.holds import Holds

    with acting("retention:hold", recipe, overrides, client) as (vault, act):
        Holds(vault.audit).release(client, reason_code, act)


@app.command()
def holds(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the legal holds, oldest first.

    Example: `attune retention holds`
    """
    from attunement.security.holds import Holds

    with acting("retention:hold", recipe, overrides) as (vault, _):
        found = Holds(vault.audit).all()
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        typer.echo(f"{each.client} since {each.since[:10]}: {each.reason}, by {each.set_by}")
    if not found:
        typer.echo("no client is under a hold")
