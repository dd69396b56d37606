"""`attune store`: the databases, their revision, and what waits in them."""

from __future__ import annotations

import json

import typer

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings

app = typer.Typer(no_args_is_help=True, help="The databases: which answer, which revision the SQL store has, what waits.")


@app.command()
def upgrade(recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Bring the SQL store to the revision of this version, all or nothing; make a backup before.

    Example: `attune store upgrade`
    """
    from attunement.cli.tables import know_all
    from attunement.security.audit import Entry
    from attunement.security.entry import operator_act
    from attunement.security.vault import Vault, open_store
    from attunement.storage import revisions

    know_all()
    settings = load_settings(recipe, overrides or ()).settings
    act = operator_act(None, "store:upgrade")
    store = open_store(settings, behind=True)
    try:
        applied = revisions.upgrade(store)
    finally:
        store.close()
    with Vault.open(settings) as vault, vault.audit.begin() as connection:
        vault.audit.append(connection, Entry(act.actor, "store:upgrade", target=revisions.HEAD))
    typer.echo(f"applied: {', '.join(applied)}" if applied else f"nothing to do: the store has revision {revisions.HEAD}")


@app.command()
def drain(recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Move on what waits, now: the spool into the SQL store, the outbox into MongoDB, deletions in MongoDB. A service does it by itself.

    Example: `attune store drain`
    """
    from attunement.cli.acting import acting
    from attunement.storage.opening import opened_stores

    with acting("store:drain", recipe, overrides) as (vault, _), opened_stores(vault, drain=False) as stores:
        moved = 0
        while count := stores.transcripts.drain():
            moved += count
        waiting = stores.transcripts.waiting()
    typer.echo(f"{moved:,} moved on; waiting: {', '.join(f'{name} {count}' for name, count in waiting.items())}")


@app.command()
def status(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print which databases answer, the revision of the SQL store, and how many transcripts wait for another one.

    Example: `attune store status`
    """
    from attunement.cli.tables import know_all
    from attunement.security.entry import operator_act
    from attunement.security.vault import Vault, open_store
    from attunement.storage import revisions
    from attunement.storage.opening import opened_stores

    know_all()
    operator_act(None, "settings:read")
    settings = load_settings(recipe, overrides or ()).settings
    store = open_store(settings, behind=True)
    with store.snapshot() as connection:
        revision = revisions.of(connection)
    store.close()
    told: dict[str, object] = {"revision": revision, "pending": revisions.pending(revision)}
    if all(revisions.REVISIONS[each] for each in revisions.pending(revision)):
        with Vault.open(settings) as vault, opened_stores(vault, drain=False) as stores:
            told |= {"stores": stores.states(), "waiting": stores.transcripts.waiting()}
    if as_json:
        typer.echo(json.dumps(told))
        return
    for name, value in told.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{name}: {shown if shown else 'none'}")
