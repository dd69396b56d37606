"""`attune generate`: conversations that nobody has had, for the parts of a training set that real talk is too rare for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from attunement.cli.generate_personas import personas
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Write conversations, by language models or from written scenarios.")
app.command("personas")(personas)


@app.callback()
def _group() -> None:
    """Write conversations, by language models or from written scenarios."""


@app.command("edge-cases")
def edge_cases(
    out: Annotated[Path, typer.Option("--out", help="Folder for the conversations; the same command goes on with it.")],
    scenarios: Annotated[int, typer.Option(min=1, help="Scenarios for each category.")] = 20,
    provider: Annotated[
        str, typer.Option(metavar="NAME|URL", help="offline, openai, anthropic, ollama, or an OpenAI-compatible address.")
    ] = "offline",
    model: Annotated[str | None, typer.Option(help="The model's name (default: providers.model).")] = None,
    budget_usd: Annotated[float | None, typer.Option(min=0, help="Most that all answers in the folder may cost.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests at the same time (default: providers.concurrency).")
    ] = None,
    max_conversations: Annotated[int | None, typer.Option(min=1, help="At most so many, spread over the categories.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only this category; may be repeated.")] = None,
    categories: Annotated[Path | None, typer.Option(help="TOML file with categories of your own.", dir_okay=False)] = None,
    written: Annotated[Path | None, typer.Option(help="Folder with written scenarios of your own.", file_okay=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of scenarios and walks.")] = 17,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Generate challenging conversations over 25 categories, each read by the safety reviewer.

    Example: `attune generate edge-cases --scenarios 20 --provider offline --out out/edge-cases`
    """
    from rich.progress import Progress

    from attunement.providers.opening import ANSWERS, OFFLINE, open_provider
    from attunement.security.recording import agreements_of, incidents_of
    from attunement.sources.edge_cases.generator import EdgeCaseGenerator
    from attunement.sources.edge_cases.grammar import WRITTEN
    from attunement.sources.edge_cases.run import generate_folder

    given = {"model": model and json.dumps(model), "concurrency": concurrency}
    more = [f"providers.{name}={value}" for name, value in given.items() if value is not None]
    settings = load_settings(recipe, [*(overrides or ()), *more]).settings
    may, blocked = agreements_of(settings), incidents_of(settings)
    engine = (
        None
        if provider == OFFLINE
        else open_provider(provider, settings.providers, out / ANSWERS, budget_usd=budget_usd, in_force=may, blocked=blocked)
    )
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, disable=as_json) as progress:
        task = progress.add_task("conversations", total=None)
        generator = EdgeCaseGenerator(
            engine, settings, seed=seed, categories=categories, only=category or (), written=written or WRITTEN,
            tick=lambda: progress.advance(task),
        )  # fmt: skip
        prompts = generator.generate_prompts(scenarios)
        most = min(len(prompts), max_conversations or len(prompts))
        progress.update(task, total=most)
        report = generate_folder(generator, prompts, out, most=most, categories=categories)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print_edge_cases(report, out)


def _print_edge_cases(report: dict[str, Any], out: Path) -> None:
    console = Console(highlight=False)
    rejected = "".join(f", {count} {reason}" for reason, count in report["rejected"].items())
    cells = report["grid_cells"]
    console.print(
        f"conversations: {report['conversations']:,} of {report['wanted']:,} by {report['generated_by']}{rejected}",
        soft_wrap=True,
    )
    console.print(
        f"      variety: distinct-2 {report['distinct_2']:.3f}, dispersion {report['dispersion']:.3f}, grid {cells['covered']} of {cells['of']} cells"
    )
    console.print(f"       review: {report['clinical_review_required']:,} wait for a clinician once built (attune review)")
    if "account" in report:
        account = report["account"]
        console.print(
            f"         cost: ${account['total_usd']:.4f}, {account['requests']:,} asked, {account['cached']:,} had before"
        )
    for name, row in report["categories"].items():
        if row["rejected"]:
            console.print(f"[yellow]   too few[/] {name}: {row['conversations']}, {row['rejected']}", soft_wrap=True)
    console.print(f"       folder: {out}", soft_wrap=True, markup=False)
