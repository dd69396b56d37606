"""`attune keys`: the master key and the data keys that it wraps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings

app = typer.Typer(no_args_is_help=True, help="The master key, and the data keys that it wraps.")


@app.command()
def init(recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Make the master key: a new file that only you may read. Keep a copy of it offline: without it nothing opens.

    Example: `attune keys init`
    """
    from attunement.security.master_key import FileMasterKey
    from attunement.security.vault import master_path

    made = FileMasterKey.create(master_path(load_settings(recipe, overrides or ()).settings))
    typer.echo(f"master key {made.key_id} made at {made.path}: keep a copy offline, apart from all backups")


@app.command()
def identity(path: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the identity (0600).")]) -> None:
    """Make an age identity, and print its recipient, for which datasets, checkpoints and backups can be encrypted.

    Example: `attune keys identity ~/.attunement/age.key`
    """
    from attunement.security.age_files import new_identity

    typer.echo(new_identity(path.expanduser()))


@app.command()
def status(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Count the data keys: live, shredded, and still wrapped by a former master key.

    Example: `attune keys status`
    """
    from attunement.security.vault import open_ring

    ring = open_ring(load_settings(recipe, overrides or ()).settings)
    found = {"master_key": ring.master.key_id, **ring.counts()}
    typer.echo(
        json.dumps(found) if as_json else "\n".join(f"{name.replace('_', ' '):>12}: {value}" for name, value in found.items())
    )


@app.command()
def rotate(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Wrap all data keys by a new master key while the service runs; stopped, the same command goes on where it was.

    Example: `attune keys rotate`
    """
    from rich.progress import Progress

    errors = Console(stderr=True, highlight=False)
    bar = Progress(console=errors, transient=True, disable=as_json or not errors.is_terminal)
    with acting("keys:rotate", recipe, overrides) as (vault, act), bar:
        task = bar.add_task("rotate")
        count = vault.rotate(actor=act.actor, progress=lambda done, total: bar.update(task, completed=done, total=total))
        told = {"re_wrapped": count, "master_key": vault.ring.master.key_id}
    typer.echo(
        json.dumps(told) if as_json else f"{count:,} data keys wrapped by the master key {told['master_key']}: renew its copy"
    )


@app.command()
def shred(
    client: Annotated[str, typer.Argument(help="Id of the client.")],
    confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Destroy a client's data key: nothing that was encrypted for the client opens again, in no backup either.

    `attune clients delete` does this too, deletes the rows, and gives a certificate.

    Example: `attune keys shred c-1042`
    """
    if not confirmed:
        typer.confirm(f"Destroy the key of {client} for good?", abort=True)
    with acting("client:delete", recipe, overrides, client) as (vault, act):
        gone = vault.shred(client, actor=act.actor)
    typer.echo(f"the key of {client} is destroyed")
    if not gone:
        typer.echo("the key store's log may hold it, wrapped, for a while: attune keys rotate  closes that for good", err=True)


@app.command()
def escrow(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; what is there is wiped and replaced.")],
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Write the second copy of the data keys, which the master key opens. Set security.escrow to have it kept up to date.

    Example: `attune keys escrow /mnt/escrow/keys.escrow`
    """
    from attunement.security.audit import Entry
    from attunement.security.escrow import write_escrow

    with acting("keys:rotate", recipe, overrides) as (vault, act):
        count = write_escrow(vault.ring, path.expanduser())
        with vault.audit.begin() as connection:
            vault.audit.append(connection, Entry(act.actor, "keys:escrow"))
    typer.echo(f"{count:,} data keys in {path}")
