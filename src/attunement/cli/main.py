"""The `attune` command: nouns and verbs. One file per noun; a command is about 15 lines and imports its stage inside."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from attunement import __version__
from attunement.cli import (
    accounts,
    agreements,
    audit,
    backup,
    chat,
    clients,
    compliance,
    config,
    data,
    demo,
    evaluate,
    export,
    generate,
    incidents,
    keys,
    knowledge,
    progress,
    quality,
    retention,
    review,
    serve,
    store,
    tls,
    train,
    voice,
)
from attunement.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError

app = typer.Typer(
    name="attune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="The toolkit for therapeutic dialogue models: curate, fine-tune, prove, serve, follow.",
)
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.add_typer(quality.app, name="quality")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(voice.app, name="voice")
app.add_typer(review.app, name="review")
app.add_typer(generate.app, name="generate")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.add_typer(clients.app, name="clients")
app.add_typer(progress.app, name="progress")
app.add_typer(retention.app, name="retention")
app.add_typer(agreements.app, name="agreements")
app.add_typer(audit.app, name="audit")
app.add_typer(tls.app, name="tls")
app.add_typer(backup.app, name="backup")
app.add_typer(store.app, name="store")
app.add_typer(incidents.app, name="incidents")
app.add_typer(compliance.app, name="compliance")
app.add_typer(config.app, name="config")
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("chat")(chat.chat)
app.command("demo")(demo.demo)

RESUMABLE = {
    ("data", "build"), ("generate", "edge-cases"), ("knowledge", "import"), ("voice", "ingest"), ("train", "run"), ("train", "resume"), ("demo",), ("keys", "rotate"), ("clients", "delete"), ("retention", "run"),
}  # fmt: skip
"""The long commands of which an interruption loses next to nothing; the user is told so."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attune {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Errors are one line that says what to do; `--debug` (before the noun) shows where they came from."""


def main() -> None:
    """Entry point: maps errors and Ctrl-C to one line and an exit code (see `attunement.errors`)."""
    try:
        app()
    except (UserError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        told = error if isinstance(error, UserError) else f"{error.filename or 'a file'}: {error.strerror or error}"
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(told))}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_USER_ERROR)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not _is_interrupt(stop):
            raise
        words = tuple(word for word in sys.argv[1:] if not word.startswith("-"))
        goes_on = words[:1] in RESUMABLE or words[:2] in RESUMABLE
        told = "interrupted: the same command goes on where it was" if goes_on else "interrupted"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        sys.exit(EXIT_INTERRUPTED)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind `error`: Typer and Lightning catch it and exit in their own way."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
