"""`attune train`: run, resume, list and show training runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from attunement.cli.options import AsJson, Overrides, Recipe, Runs
from attunement.config import load_settings
from attunement.errors import DataError
from attunement.storage.files import read_json

app = typer.Typer(no_args_is_help=True, help="Fine-tune a base model into a Mixture of LoRA experts.")


@app.command()
def run(
    data: Annotated[Path, typer.Option("--data", help="Folder of a dataset (`attune data build`).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/latest"),
    base: Annotated[str | None, typer.Option(help="Base model: `attunement-base`, a folder, or a Hugging Face name.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train; a run that was interrupted goes on from its last checkpoint.

    Example: `attune train run --data out/dataset --out runs/first --base Qwen/Qwen3-1.7B`
    """
    settings = load_settings(recipe, [*(overrides or ()), *([f"model.base={base}"] if base else ())]).settings
    _train(data, out, settings, as_json)


@app.command()
def resume(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")],
    as_json: AsJson = False,
) -> None:
    """Go on with a run from its last checkpoint, with its own settings and data.

    Example: `attune train resume runs/first`
    """
    from attunement.records import TrainingDataset

    if not (run_dir / "run.json").is_file():
        raise DataError(f"{run_dir} holds no run: start one with  attune train run --data DIR --out {run_dir}")
    seen = read_json(run_dir / "dataset.json")
    kept = read_json(run_dir / "config.json")
    settings = load_settings().settings
    sections = {"model": settings.model.__class__(**kept["model"]), "training": settings.training.__class__(**kept["training"])}
    test = Path(seen["test"]) if "test" in seen else None
    dataset = TrainingDataset(Path(seen["train"]), Path(seen["validation"]), test, seen["dataset_sha256"])
    _train(dataset, run_dir, settings.model_copy(update=sections), as_json)


def _train(data: Any, out: Path, settings: Any, as_json: bool) -> None:
    from attunement.training.data import dataset_of
    from attunement.training.system import TrainingSystem

    dataset = dataset_of(data) if isinstance(data, Path) else data
    system = TrainingSystem(out, quiet=as_json)
    system.initialize_model(settings.model.build())
    trained = system.train(dataset, settings.training.build())
    if as_json:
        typer.echo(json.dumps({"run": str(out), "checkpoint": str(trained.checkpoint), "metrics": dict(trained.metrics)}))
        return
    console, figures = Console(highlight=False), trained.metrics
    console.print(f"      run: {out}, {figures['steps']:,.0f} steps in {figures['seconds']:,.0f} s", soft_wrap=True)
    found = figures.get("validation_perplexity")
    console.print(f"validation: {'n/a, there is no validation data' if found is None else f'perplexity {found:.1f}'}")
    console.print(f"checkpoint: {trained.checkpoint}", soft_wrap=True)


@app.command("list")
def list_runs(runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """List the runs in a folder.

    Example: `attune train list --runs runs`
    """
    rows = [{"run": path.parent.name, **read_json(path)} for path in sorted(runs.glob("*/run.json"))]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("run", "status", "steps", "validation perplexity", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        found = row["metrics"].get("validation_perplexity")
        table.add_row(row["run"], row["status"], f"{row['step']:,}", f"{found:.1f}" if found else "-")
    Console(highlight=False).print(table if rows else f"no runs in {runs}")


@app.command()
def show(run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")], as_json: AsJson = False) -> None:
    """Show a run: settings, data, machine, status and figures.

    Example: `attune train show runs/first`
    """
    if not (run_dir / "run.json").is_file():
        raise DataError(f"{run_dir} holds no run: list them with  attune train list")
    parts = {name: read_json(run_dir / f"{name}.json") for name in ("run", "config", "dataset", "environment")}
    if as_json:
        typer.echo(json.dumps(parts))
        return
    console = Console(highlight=False)
    for name, part in parts.items():
        console.print(f"[bold]{name}[/]")
        for key, value in part.items():
            console.print(f"  {key:<22} {value if isinstance(value, str) else json.dumps(value)}", soft_wrap=True, markup=False)
