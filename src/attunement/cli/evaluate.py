"""`attune eval`: what a trained model is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings

app = typer.Typer(help="Measure what a trained model is worth.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure what a trained model is worth."""


@app.command()
def run(
    run_dir: Annotated[Path, typer.Option("--run", help="Folder of a training run.")],
    test: Annotated[Path | None, typer.Option(help="Chat JSONL to measure on; default: the test split of its dataset.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure held-out perplexity before and after, judge replies, and write the report.

    Example: `attune eval run --run runs/first`
    """
    from attunement.evaluation.suite import EvaluationSuite
    from attunement.security.age_files import use_identity

    settings = load_settings(recipe, overrides or ()).settings
    use_identity(settings.security.age_identity)
    results = EvaluationSuite(settings, quiet=as_json).evaluate(run_dir, test)
    found, means = results["perplexity"], results["replies"]["means"]
    if as_json:
        typer.echo(json.dumps({"perplexity": found, "replies": means, "report": str(run_dir / "report.html")}))
        return
    console = Console(highlight=False)
    before, after, ratio = found["before"], found["after"], found["ratio"]
    console.print(
        f"perplexity: {before['value']:.1f} before, {after['value']:.1f} after "
        f"(ratio {ratio['value']:.3f}, 95 % interval {ratio['low']:.3f} to {ratio['high']:.3f}, {found['examples']} examples)"
    )
    if means["model"]["coherence"] is not None:
        console.print(f"   replies: coherence {means['base']['coherence']:.2f} before, {means['model']['coherence']:.2f} after")
    console.print(f"    report: {run_dir / 'report.html'}", soft_wrap=True)
