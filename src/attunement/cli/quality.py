"""`attune quality`: the judges, trained, listed and tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import EXIT_PARTIAL

app = typer.Typer(help="Train, list and try the judges.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train, list and try the judges."""


@app.command("list")
def list_judges(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show which weights are in use, with their figures, data and licences.

    Example: `attune quality list`
    """
    from attunement.quality.panel import Judges
    from attunement.quality.training import summary

    settings = load_settings(recipe, overrides or ()).settings
    rows = Judges(home=settings.home.expanduser()).described()
    if as_json:
        typer.echo(json.dumps(rows))
        return
    console = Console(highlight=False)
    for row in rows:
        data = ", ".join(f"{name} ({licence})" for name, licence in row.get("data", {}).items())
        console.print(f"[bold]{row['judge']:<20}[/]{row['weights']:<9}{row['about']}", soft_wrap=True)
        if data:
            console.print(f"{'':<29}{summary(row)}\n{'':<29}of {data}", soft_wrap=True, markup=False)


@app.command()
def train(
    judge: Annotated[str, typer.Argument(metavar="JUDGE|all", help="A judge's name, or all of them.")],
    data: Annotated[Path, typer.Option(help="Folder with the public sets, one folder each.", exists=True, file_okay=False)],
    licence_allow: Annotated[str, typer.Option(help="Licence classes to learn from, with commas.")] = "R,SA,NC,N",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the weights (default: the home's judges/).")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train a judge on the sets that are there; its weights take the place of the shipped ones.

    Example: `attune quality train crisis --data data`
    """
    from attunement.embedding import Embedder
    from attunement.quality.training import summary, train_all

    settings = load_settings(recipe, overrides or ()).settings
    folder = out or settings.home.expanduser() / "judges"
    console, rows = Console(highlight=False), []
    for row in train_all(judge, data, licence_allow.split(","), folder, Embedder(settings.embedding)):
        rows.append(row)
        if not as_json:
            console.print(
                f"[bold]{row['judge']:<20}[/]{row.get('examples', 0):,} examples, {row['seconds']:.0f} s: {summary(row)}",
                soft_wrap=True,
            )
            if row["missing"]:
                console.print(f"{'':<20}[yellow]without[/] {', '.join(row['missing'])}: not below {data}", soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        console.print(f"weights: {folder}", soft_wrap=True)


@app.command()
def score(
    judge: Annotated[str, typer.Argument(help="A judge's name (`attune quality list` shows them), or phi: personal data.")],
    source: Annotated[Path, typer.Option("--input", help="JSON lines.", exists=True, dir_okay=False)],
    target: Annotated[Path, typer.Option("--output", help="JSON lines with the verdicts added.")],
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Judge every line of a file: adds score, label, labels, reasons and spans, a line for a line.

    `phi` finds protected health information: its spans, each with its type and the letter of its Safe Harbor identifier.

    Example: `attune quality score crisis --input in.jsonl --output out.jsonl`
    """
    from rich.progress import Progress

    from attunement.embedding import Embedder
    from attunement.quality.panel import Judges
    from attunement.quality.scoring import score_file

    settings = load_settings(recipe, overrides or ()).settings
    judges = Judges(Embedder(settings.embedding), settings.home.expanduser())
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(judge, total=None)
        lines, errors = score_file(judges, judge, source, target, lambda n: progress.advance(task, n))
    console.print(f"{lines:,} lines, {errors:,} of them could not be judged: {target}", soft_wrap=True)
    if errors:
        raise typer.Exit(EXIT_PARTIAL)
