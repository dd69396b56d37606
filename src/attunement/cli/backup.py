"""`attune backup`: of the SQL store; create, verify, rehearse, restore."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.cli.tables import know_all
from attunement.config import Settings, load_settings
from attunement.errors import ConfigError

if TYPE_CHECKING:
    from attunement.security.backup import Facts, Opener

app = typer.Typer(no_args_is_help=True, help="Backups of the SQL store: encrypted, checksummed, restorable elsewhere.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
Variable = Annotated[
    str, typer.Option("--passphrase-variable", metavar="NAME", help="Environment variable that holds the passphrase.")
]


@app.command()
def create(
    path: File,
    encrypt_to: Annotated[
        list[str] | None, typer.Option(metavar="age1...", help="Recipient who can open it; may be repeated.")
    ] = None,
    passphrase_variable: Variable = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write an encrypted backup while others go on; without a recipient or passphrase the master key opens it.

    Example: `attune backup create backups/2026-11-27.backup --encrypt-to age1...`
    """
    from attunement.security.audit import Entry
    from attunement.security.backup import create_backup
    from attunement.security.entry import operator_act
    from attunement.security.vault import Vault

    know_all()
    settings = load_settings(recipe, overrides or ()).settings
    with Vault.open(settings, behind=True) as vault:
        act = operator_act(vault.audit, "backup:create")
        facts = create_backup(vault.store, vault.ring, path, _opener(settings, passphrase_variable, encrypt_to or ()))
        vault.write_escrow()  # after the data: each key that they need is in it
        with vault.audit.begin() as connection:
            vault.audit.append(connection, Entry(act.actor, "backup:create"))
    if settings.security.escrow is None:
        typer.echo("the data keys are in no backup: set security.escrow, or keep  attune keys escrow FILE  beside it", err=True)
    _tell(facts, as_json, f"written to {path}")


@app.command()
def verify(
    path: File,
    passphrase_variable: Variable = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read a backup to its end and check every byte of it.

    Example: `attune backup verify backups/2026-11-27.backup`
    """
    from attunement.security.backup import verify_backup
    from attunement.security.vault import open_ring

    settings = load_settings(recipe, overrides or ()).settings
    with _on_record(settings, "backup:verify"):
        facts = verify_backup(path, open_ring(settings), _opener(settings, passphrase_variable))
    _tell(facts, as_json, "whole" if facts.sealed else "whole, but sealed by a master key that is not here")


@app.command()
def rehearse(
    path: File,
    scratch_store: Annotated[
        str, typer.Option(metavar="URL", help="Of PostgreSQL: an empty database to restore into; drop it afterwards.")
    ] = "",
    passphrase_variable: Variable = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Restore a backup into a store that is thrown away, and look at it: rows, and the chain of its audit log.

    Example: `attune backup rehearse backups/2026-11-27.backup`
    """
    from attunement.security.rehearsal import rehearse as tried
    from attunement.security.vault import open_ring

    know_all()
    settings = load_settings(recipe, overrides or ()).settings
    with _on_record(settings, "backup:rehearse") as told:
        found = tried(path, open_ring(settings), _opener(settings, passphrase_variable), settings.home, scratch_store)
        told.append(f"seconds:{found.seconds:.0f}")
    _tell(found.facts, False, f"restored and thrown away in {found.seconds:.1f} s, {found.audit_records:,} audit records whole")


@contextmanager
def _on_record(settings: Settings, action: str) -> Iterator[list[str]]:
    """Records whether what is inside could be done, where there is a store: on a new machine one must not be made. Its list takes the target."""
    from attunement.security.audit import Entry
    from attunement.security.entry import operator_act
    from attunement.security.vault import Vault
    from attunement.storage.sql import FILE

    act, target = operator_act(None, "backup:create"), list[str]()
    outcome = "failed"
    try:
        yield target
        outcome = "done"
    finally:
        if settings.security.store or (settings.home.expanduser() / FILE).exists():
            with Vault.open(settings, behind=True) as vault, vault.audit.begin() as connection:
                vault.audit.append(connection, Entry(act.actor, action, outcome=outcome, target="".join(target)))


@app.command()
def restore(
    path: File,
    escrow: Annotated[Path | None, typer.Option(help="Escrow of the data keys, where the key store is lost, too.")] = None,
    trust_unsealed: Annotated[
        bool, typer.Option("--trust-unsealed", help="Restore what a master key sealed that is not here.")
    ] = False,
    passphrase_variable: Variable = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into an empty store; clients that were deleted since stay deleted.

    Example: `attune backup restore backups/2026-11-27.backup --escrow /mnt/escrow/keys.escrow`
    """
    from attunement.security.audit import Entry
    from attunement.security.backup import restore_postgres, restore_sqlite
    from attunement.security.clock import utc_now
    from attunement.security.entry import operator_act
    from attunement.security.escrow import read_escrow
    from attunement.security.vault import Vault, open_ring, open_store

    know_all()
    settings = load_settings(recipe, overrides or ()).settings
    act = operator_act(None, "backup:restore")  # the record of it goes into what is restored
    ring, opener = open_ring(settings), _opener(settings, passphrase_variable)
    if escrow is not None:
        ring.take_in(read_escrow(ring, escrow.expanduser()))
    if settings.security.store:
        facts = restore_postgres(path, ring, opener, open_store(settings), trust_unsealed=trust_unsealed)
    else:
        facts = restore_sqlite(path, ring, opener, settings.home, trust_unsealed=trust_unsealed)
    with Vault.open(settings, behind=True) as vault:
        points = vault.audit.checkpoints
        if points is not None and (aside := points.set_aside(utc_now())):
            typer.echo(f"the signed checkpoints of before are kept in {aside}: they say how far the audit log had come", err=True)
        with vault.audit.begin() as connection:
            vault.audit.append(connection, Entry(act.actor, "backup:restore"))
    _tell(facts, as_json, "restored")


def _opener(settings: Settings, variable: str, recipients: list[str] | tuple[str, ...] = ()) -> Opener:
    from attunement.security.backup import Opener

    passphrase = os.environ.get(variable, "") if variable else ""
    if variable and not passphrase:
        raise ConfigError(f"the environment variable {variable} is to hold the passphrase, and is empty")
    return Opener(recipients, passphrase, settings.security.age_identity)


def _tell(facts: Facts, as_json: bool, what: str) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(facts)))
        return
    typer.echo(f"{what}: {facts.kind} as of {facts.made_at}, {sum(facts.tables.values()):,} rows in {len(facts.tables)} tables")
    if facts.left_out:
        typer.echo(f"left out, for they are not ours: {', '.join(facts.left_out)}", err=True)
