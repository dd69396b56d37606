"""`attune clients`: a client's whole record exported, corrected, deleted with a certificate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attunement.cli import documents
from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import EXIT_USER_ERROR, DataError
from attunement.storage.files import read_json, write_json

app = typer.Typer(no_args_is_help=True, help="A client's whole record: export, correct, delete with a certificate.")
app.add_typer(documents.app, name="documents")

Client = Annotated[str, typer.Argument(help="Id of the client.")]


@app.command()
def note(
    client: Client,
    title: Annotated[str, typer.Option(help="What the entry is, in a few words.")],
    file: Annotated[str, typer.Option(help="File with the text; - is standard input.")] = "-",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Add an entry to a client's record, encrypted for the client; prints its id.

    Example: `attune clients note c-1042 --title intake --file intake.txt`
    """
    from attunement.security.client_records import ClientRecords

    text = _read(file)
    with acting("client:write", recipe, overrides, client) as (vault, act):
        typer.echo(ClientRecords(vault).add(client, title, text, act))


@app.command()
def export(
    client: Client,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.zip", help="New file (0600).")],
    encrypt_to: Annotated[
        list[str] | None, typer.Option(metavar="age1...", help="Encrypt the file for this recipient; may be repeated.")
    ] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write all that is held about a client: JSON for programs, a page to read, hashes.

    Example: `attune clients export c-1042 --out c-1042.zip --encrypt-to age1...`
    """
    from attunement.security.rights import export_client

    with acting("client:export", recipe, overrides, client) as (vault, act):
        counts = export_client(vault, client, out, act, encrypt_to or ())
    told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    typer.echo(json.dumps({"file": str(out), "rows": counts}) if as_json else f"{told} written to {out}")


@app.command()
def correct(
    client: Client,
    row: Annotated[str, typer.Argument(help="Id of the entry, as it stands in an export.")],
    changes: Annotated[
        str, typer.Option("--changes", help='File with the new fields as JSON, as {"text": "..."}; - is standard input.')
    ] = "-",
    kind: Annotated[str, typer.Option(help="Kind of data.")] = "records",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Correct an entry of a client's record; what it said before is kept with it.

    Example: `attune clients correct c-1042 r0123456789abcde --changes new.json`
    """
    from attunement.security.rights import correct_client

    try:
        fields: Any = json.loads(_read(changes))
    except ValueError as error:
        raise DataError("the changes are no JSON object with the new fields") from error
    if not isinstance(fields, dict):
        raise DataError("the changes are no JSON object with the new fields")
    with acting("client:write", recipe, overrides, client) as (vault, act):
        correct_client(vault, client, kind, row, fields, act)


@app.command()
def delete(
    client: Client,
    certificate: Annotated[Path, typer.Option(metavar="FILE.json", help="Where the signed certificate goes.")],
    confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Delete all there is about a client and destroy the key, for good; a legal hold forbids it. Stopped, it goes on.

    Example: `attune clients delete c-1042 --certificate c-1042-deleted.json`
    """
    from attunement.security.rights import delete_client

    if not confirmed:
        typer.confirm(f"Delete all data of {client} for good?", abort=True)
    with acting("client:delete", recipe, overrides, client) as (vault, act):
        made = delete_client(vault, client, act)
    write_json(certificate, made)
    told = ", ".join(f"{count:,} {kind}" for kind, count in made["rows_deleted"].items())
    typer.echo(f"{client} is deleted: {told}, {len(made['keys_destroyed'])} keys destroyed; certificate in {certificate}")
    for left in made["remains"]:
        typer.echo(f"  remains: {left['what']} ({left['why']})")


@app.command("verify-certificate")
def verify_certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="The certificate.")],
    public_key: Annotated[
        str, typer.Option(metavar="HEX", help="Key that `attune audit checkpoint` printed; without it, this home's.")
    ] = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Check a deletion certificate's signature; exit code 3 when it does not hold.

    Example: `attune clients verify-certificate c-1042-deleted.json`
    """
    from attunement.security.rights import verify_certificate as holds
    from attunement.security.vault import Vault

    made = read_json(file)
    if not isinstance(made, dict):
        raise DataError(f"{file} is no deletion certificate")
    if not public_key:
        with Vault.open(load_settings(recipe, overrides or ()).settings) as vault:
            public_key = vault.audit.checkpoints.public_key() if vault.audit.checkpoints else ""
    if not holds(made, public_key):
        typer.echo("NOT as it was signed: it was changed, or another installation made it")
        raise typer.Exit(EXIT_USER_ERROR)
    typer.echo(f"as it was signed: {made['client']} was deleted on {made['deleted_at'][:10]}")


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: save it as such") from error
