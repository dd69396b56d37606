"""`attune clients documents`: letters, forms and pictures of a client's record, encrypted for the client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.errors import DataError, DocumentError

if TYPE_CHECKING:
    from attunement.security.acting import Act
    from attunement.storage.transcripts.filing import Documents

app = typer.Typer(no_args_is_help=True, help="Letters, forms and pictures of a client's record: add, list, get.")

Client = Annotated[str, typer.Argument(help="Id of the client.")]


@contextmanager
def _documents(action: str, recipe: Path | None, overrides: list[str] | None, client: str) -> Iterator[tuple[Documents, Act]]:
    from attunement.storage.opening import opened_stores

    with acting(action, recipe, overrides, client) as (vault, act), opened_stores(vault, drain=False) as stores:
        yield stores.documents, act


@app.command()
def add(
    client: Client,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The document.")],
    title: Annotated[str, typer.Option(help="What it is, in one line.")],
    media_type: Annotated[
        str, typer.Option("--type", metavar="MEDIA_TYPE", help="As text/plain; default: by the file's suffix.")
    ] = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Add a document to a client's record; prints its id. The same again changes nothing.

    Example: `attune clients documents add c-1042 letter.pdf --title "Referral of 2 March"`
    """
    from attunement.storage.transcripts.documents import MEDIA_TYPES

    suffix = {".jpeg": ".jpg", ".markdown": ".md"}.get(file.suffix.lower(), file.suffix.lower())
    kind = media_type or next((kind for kind, (own, _) in MEDIA_TYPES.items() if own == suffix), "")
    with _documents("client:write", recipe, overrides, client) as (documents, act):
        if file.is_file() and file.stat().st_size > documents.most_bytes:  # before it is read
            raise DocumentError("too_large", f"{file} is longer than {documents.most_bytes:,} bytes: add it in parts")
        typer.echo(documents.add(client, title, kind, _read(file), act).id)


@app.command("list")
def show(client: Client, recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List a client's documents, in the order in which they were added.

    Example: `attune clients documents list c-1042`
    """
    with _documents("client:read", recipe, overrides, client) as (documents, act):
        found = documents.of(client, act)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        typer.echo(f"{each.id}  {each.added_at[:10]}  {each.media_type}  {each.bytes:,} bytes  {each.title}")
    if not found:
        typer.echo(f"{client} has no documents")


@app.command()
def get(
    client: Client,
    document: Annotated[str, typer.Argument(help="Id of the document, as `list` prints it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="New file (0600).")],
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Write a document's bytes into a new file.

    Example: `attune clients documents get c-1042 d0123456789abcde --out letter.pdf`
    """
    from attunement.storage.files import atomic_write

    if out.exists():
        raise DataError(f"{out} exists already: a document is not written over another file")
    with _documents("client:read", recipe, overrides, client) as (documents, act):
        found, content = documents.get(client, document, act)
    with atomic_write(out, binary=True, private=True) as file:
        file.write(content)
    typer.echo(f"{found.bytes:,} bytes ({found.media_type}) written to {out}")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
