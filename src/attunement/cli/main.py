"""The `attune` command: nouns and verbs. One file per noun; a command is about 15 lines and imports its stage inside."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from attunement import __version__
from attunement.cli import chat, config, data, demo, evaluate, serve, train
from attunement.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError

app = typer.Typer(
    name="attune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="The toolkit for therapeutic dialogue models: curate, fine-tune, prove, serve.",
)
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.add_typer(config.app, name="config")
app.command("serve")(serve.serve)
app.command("chat")(chat.chat)
app.command("demo")(demo.demo)


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
    """Entry point: maps errors to one line and an exit code (see `attunement.errors`)."""
    try:
        app()
    except (UserError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        told = error if isinstance(error, UserError) else f"{error.filename or 'a file'}: {error.strerror or error}"
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(told))}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command goes on from here", highlight=False)
        sys.exit(EXIT_INTERRUPTED)
