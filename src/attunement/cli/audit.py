"""`attune audit`: hold the audit log against itself, take it out, sign where it stands."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import EXIT_USER_ERROR

app = typer.Typer(no_args_is_help=True, help="The audit log: verify it, export it, sign where it stands.")

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@app.command()
def verify(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Walk the whole chain; exit code 3 when a record was edited, removed, re-ordered or cut off, naming the first.

    That a whole log was verified is recorded; to one that is not whole nothing is added, it is evidence.

    Example: `attune audit verify`
    """
    from attunement.security.audit import Entry

    with acting("audit:verify", recipe, overrides) as (vault, act):
        verdict = vault.audit.verify()
        if verdict.whole:
            with vault.audit.begin() as connection:
                vault.audit.append(connection, Entry(act.actor, "audit:verify"))
    if as_json:
        typer.echo(json.dumps({"whole": verdict.whole, **asdict(verdict)}))
    elif verdict.whole:
        newer = verdict.records - verdict.last_checkpoint
        typer.echo(
            f"{verdict.records:,} records, whole; {verdict.checkpoints:,} signed checkpoints, {newer:,} records after the last"
        )
    else:
        typer.echo(f"NOT whole: {verdict.reason} at record {verdict.first_bad}; the {verdict.records:,} before it are whole")
    if not verdict.whole:
        raise typer.Exit(EXIT_USER_ERROR)


@app.command()
def export(
    out: Annotated[Path | None, typer.Option("--out", help="File of JSON lines (0600); without it, standard output.")] = None,
    client: Annotated[str | None, typer.Option(help="Records about this client alone.")] = None,
    actor: Annotated[str | None, typer.Option(help="Records of this account alone.")] = None,
    action: Annotated[str | None, typer.Option(help="Records of this action alone.")] = None,
    since: Annotated[datetime | None, typer.Option(formats=FORMATS, help="From this day or moment on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(formats=FORMATS, help="Before this day or moment (UTC).")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Write the records as JSON lines, oldest first; that they were taken out is recorded, as the last of them.

    Example: `attune audit export --client c-1042 --since 2026-11-01 --out audit.jsonl`
    """
    from datetime import UTC

    from attunement.security.audit import AuditLog, Entry
    from attunement.security.entry import operator_act
    from attunement.security.vault import open_store
    from attunement.storage.files import atomic_write

    since, until = (when and when.replace(tzinfo=UTC) for when in (since, until))
    log = AuditLog(open_store(load_settings(recipe, overrides or ()).settings))
    act = operator_act(log, "audit:read")
    with log.begin() as connection:
        log.append(connection, Entry(act.actor, "audit:read", client or ""))
    lines = log.export(client=client, actor=actor, action=action, since=since, until=until)
    if out is None:
        for line in lines:
            typer.echo(line)
        return
    with atomic_write(out, private=True) as file:
        file.writelines(line + "\n" for line in lines)
    typer.echo(f"written to {out}")


@app.command()
def checkpoint(recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Sign where the log stands now, and print the line and the public key, to keep on paper or elsewhere.

    Example: `attune audit checkpoint`
    """
    with acting("audit:verify", recipe, overrides) as (vault, _):
        point, points = vault.audit.checkpoint(), vault.audit.checkpoints
        typer.echo("the audit log is empty" if point is None else f"record {point.number}, hash {point.hash}, {point.at}")
        if points is not None:
            typer.echo(f"public key {points.public_key()}")
