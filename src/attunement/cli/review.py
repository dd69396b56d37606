"""`attune review`: what builds hold back, looked at and decided."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import DataError

if TYPE_CHECKING:
    from attunement.curation.review import Entry, ReviewQueue

app = typer.Typer(help="Decide on what builds hold back for clinical review.", no_args_is_help=True)

Identifiers = Annotated[
    str, typer.Argument(metavar="ID", help="An entry's id or its first characters, or a conversation's (c-...): all its pairs.")
]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="An entry's id, or its first characters.")]
Why = Annotated[
    str,
    typer.Option(
        "--why", help="The reason, for whoever reads the decision later; no words of a client, as it is kept beside hashes."
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by", help="Who decides, as the queue shows it (default: the user at this machine, who is on record in any case)."
    ),
]
Again = Annotated[bool, typer.Option("--again", help="Decide anew over an earlier decision.")]


def _queue(recipe: Path | None, overrides: list[str] | None, action: str = "review:read") -> ReviewQueue:
    """The queue for who may do `action`; decisions are recorded by the operating system's user, whatever --by says."""
    from attunement.curation.review import ReviewQueue
    from attunement.security.age_files import use_identity
    from attunement.security.recording import recorder
    from attunement.storage.sql import Store

    settings = load_settings(recipe, overrides or ()).settings
    use_identity(settings.security.age_identity)
    store = Store.at_home(settings.home)
    return ReviewQueue(store, recorder(settings, store, action, "review:decide"))


@app.command("list")
def list_entries(
    status: Annotated[str, typer.Option(help="pending, accepted, edited, rejected or all.")] = "pending",
    reason: Annotated[str | None, typer.Option(help="Only entries with this reason code.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the queue, oldest first.

    Example: `attune review list --reason risk_ignorance`
    """
    from rich.table import Table

    from attunement.curation.review import STATUSES

    if status not in (*STATUSES, "all"):
        raise DataError(f"there is no status '{status}': they are {', '.join(STATUSES)} and all")
    entries = _queue(recipe, overrides).list(None if status == "all" else status, reason)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries]))
        return
    table = Table("id", "status", "reasons", "source", "held since", box=None)
    for entry in entries:
        table.add_row(entry.id, entry.status, escape(", ".join(entry.reasons)), escape(_safe(entry.source)), entry.created[:10])
    console = Console(highlight=False)
    if entries:
        console.print(table)
    console.print(f"{len(entries):,} entries; look at one with  attune review show ID", soft_wrap=True)


@app.command()
def show(identifier: Identifier, recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show an entry with its text, the judges' reasons and what was decided.

    Example: `attune review show 3fa9`
    """
    from attunement.security.recording import note

    queue = _queue(recipe, overrides)
    entry = queue.find(identifier)
    note(load_settings(recipe, overrides or ()).settings, "review:read", "review:read", entry.id)
    held = queue.text(entry)
    if as_json:
        typer.echo(json.dumps({**asdict(entry), "text": None if held is None else asdict(held)}))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{entry.id}[/] {entry.status}: {escape(', '.join(entry.reasons))}", soft_wrap=True)
    scores = ", ".join(f"{name} {value}" for name, value in sorted(entry.scores.items()))
    talk = f" in {held.conversation_id}" if held is not None and held.conversation_id else ""
    where = _safe(f"pair {entry.pair_id}{talk} of {entry.source}, {', '.join(entry.datasets) or 'in no dataset any longer'}")
    console.print(f"{scores}\n{where}\n", soft_wrap=True, markup=False)
    if held is None:
        console.print("the text is no longer in the dataset's folder", soft_wrap=True)
    else:
        for name, text in (*(("before", t) for t in held.context), ("question", held.question), ("answer", held.answer)):
            console.print(f"{name:>9}  {_safe(text)}", soft_wrap=True, markup=False)
    for decision in entry.decisions:
        console.print(
            f"\n{decision.when[:16]} {decision.decision} by {_safe(decision.who)}: {_safe(decision.why)}",
            soft_wrap=True,
            markup=False,
        )
        if decision.answer is not None:
            console.print(f"{'new':>9}  {_safe(decision.answer)}", soft_wrap=True, markup=False)


@app.command()
def accept(
    identifier: Identifiers, why: Why, by: By = None, again: Again = False, recipe: Recipe = None, overrides: Overrides = None
) -> None:
    """Let a pair, or all pairs of a conversation, into the next build as they are.

    Example: `attune review accept 3fa9 --why "asks for safety, calm tone"`
    """
    _decide(_queue(recipe, overrides, "review:decide"), identifier, "accepted", who=by or _user(), why=why, again=again)


@app.command()
def reject(
    identifier: Identifiers, why: Why, by: By = None, again: Again = False, recipe: Recipe = None, overrides: Overrides = None
) -> None:
    """Keep a pair, or all pairs of a conversation, out of every build.

    Example: `attune review reject 3fa9 --why "argues with the delusion"`
    """
    _decide(_queue(recipe, overrides, "review:decide"), identifier, "rejected", who=by or _user(), why=why, again=again)


@app.command()
def edit(
    identifier: Identifier,
    why: Why,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="The new answer (default: opens $EDITOR on the old one).", exists=True, dir_okay=False),
    ] = None,
    by: By = None,
    again: Again = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Give a pair another answer, which the next build takes.

    Example: `attune review edit 3fa9 --file answer.txt --why "named the help line"`
    """
    queue = _queue(recipe, overrides, "review:decide")
    if file is None:
        held = queue.text(queue.open_to_decide(identifier, again))  # before words are written that would be refused
        if held is None:
            raise DataError("the text is no longer in the dataset's folder: build the dataset again, then edit")
        answer = _in_editor(held.answer)
        if answer.strip() == held.answer.strip():
            raise DataError("the answer is as it was and nothing was decided: to take it so, use  attune review accept")
    else:
        try:
            answer = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8: save it as such") from error
    _decided(queue.decide(identifier, "edited", who=by or _user(), why=why, answer=answer.strip(), again=again))


def _decide(queue: ReviewQueue, identifier: str, decision: str, *, who: str, why: str, again: bool) -> None:
    if not identifier.startswith("c-"):  # an entry's id is a hash: it has no dash
        _decided(queue.decide(identifier, decision, who=who, why=why, again=again))
        return
    entries = queue.decide_conversation(identifier, decision, who=who, why=why, again=again)
    for entry in entries:
        _decided(entry)
    typer.echo(f"{len(entries)} pairs of {identifier} {decision}")


def _decided(entry: Entry) -> None:
    last = entry.decisions[-1]
    typer.echo(f"{entry.id} {last.decision} by {_safe(last.who)}; the next build of its dataset follows it")


def _in_editor(text: str) -> str:
    """`text` as the user's editor leaves it; it lies in a folder of its own, closed to others, and is gone afterwards."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise DataError("there is no editor: set EDITOR, or give the new answer with --file")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.txt"
        path.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)  # noqa: S603
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:  # ValueError: a lone quote in it; no UTF-8 from it
            raise DataError(f"the editor '{editor}' failed: nothing was decided; give the new answer with --file") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container's user may have no name
        raise DataError("this user has no name: say who decides with --by") from error


def _safe(text: str) -> str:
    """`text` without what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
