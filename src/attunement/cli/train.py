"""`attune train`: run, resume, list and show training runs."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from attunement.cli import prefer
from attunement.cli.options import AsJson, Overrides, Recipe, Runs
from attunement.config import load_settings
from attunement.errors import ConfigError, DataError
from attunement.storage.files import read_json

app = typer.Typer(no_args_is_help=True, help="Fine-tune a base model into a Mixture of LoRA experts.")
app.command("pairs")(prefer.pairs)
app.command("prefer")(prefer.prefer)


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
    hours: Annotated[float, typer.Option(help="Give a run whose training window is over this much more.")] = 0.0,
    devices: Annotated[str, typer.Option(help="Go on with another number of devices (`training.devices`).")] = "",
    as_json: AsJson = False,
) -> None:
    """Go on with a run from its newest whole checkpoint, with its own settings and data.

    Example: `attune train resume runs/first --hours 6`
    """
    from attunement.records import TrainingDataset
    from attunement.training.system import TrainingSystem

    if not (run_dir / "run.json").is_file():
        raise DataError(f"{run_dir} holds no run: start one with  attune train run --data DIR --out {run_dir}")
    kept = read_json(run_dir / "config.json")
    if "preference" in kept:
        raise DataError(f"{run_dir} is a finished tuning on preferences: to tune on, use  attune train prefer --run {run_dir}")
    if hours:
        TrainingSystem(run_dir).extend(hours)
    seen = read_json(run_dir / "dataset.json")
    settings = load_settings().settings
    if devices not in ("", "auto") and not (devices.isdigit() and int(devices)):
        raise ConfigError(f"--devices is a number from 1 or 'auto', not '{devices}'")
    places = {"devices": int(devices) if devices.isdigit() else devices} if devices else {}
    training = settings.training.__class__(**{**kept["training"], **places})
    sections = {"model": settings.model.__class__(**kept["model"]), "training": training}
    test = Path(seen["test"]) if "test" in seen else None
    dataset = TrainingDataset(Path(seen["train"]), Path(seen["validation"]), test, seen["dataset_sha256"])
    _train(dataset, run_dir, settings.model_copy(update=sections), as_json)


def _train(data: Any, out: Path, settings: Any, as_json: bool) -> None:
    from attunement.security.age_files import use_identity
    from attunement.security.recording import noted
    from attunement.training.data import dataset_of
    from attunement.training.system import TrainingSystem

    use_identity(settings.security.age_identity)
    dataset = dataset_of(data) if isinstance(data, Path) else data
    system = TrainingSystem(out, quiet=as_json)
    begins = "training:resume" if (out / "run.json").is_file() else "training:start"
    with noted(settings, "training:run", begins, "training:end", out.resolve().name) if system.processes.first else nullcontext():
        trained = system.run(settings.model.build(), dataset, settings.training.build())
    if not system.processes.first:
        return
    if as_json:
        typer.echo(json.dumps({"run": str(out), "checkpoint": str(trained.checkpoint), "metrics": dict(trained.metrics)}))
        return
    console, figures = Console(highlight=False), trained.metrics
    console.print(f"      run: {out}, {figures['steps']:,.0f} steps in {figures['seconds']:,.0f} s", soft_wrap=True)
    found = figures.get("validation_perplexity")
    console.print(f"validation: {'n/a, there is no validation data' if found is None else f'perplexity {found:.1f}'}")
    console.print(f"checkpoint: {trained.checkpoint}", soft_wrap=True)


@app.command()
def launch(
    data: Annotated[str, typer.Option("--data", help="Folder of the dataset on Lightning's drive.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the run there, such as /teamspace/runs/first.")],
    machine: Annotated[str, typer.Option(help="A machine of lightning_sdk.Machine.")] = "H100",
    name: Annotated[str, typer.Option(help="The job's name; the run's if not given.")] = "",
    teamspace: Annotated[str, typer.Option(help="OWNER/TEAMSPACE; the current one if not given.")] = "",
    studio: Annotated[str, typer.Option(help="Studio in which attunement is installed.")] = "",
    image: Annotated[str, typer.Option(help="Or a container image.")] = "",
    interruptible: Annotated[bool, typer.Option(help="A cheaper machine that may be taken away.")] = False,
    attempts: Annotated[int, typer.Option(help="How often a job that was taken away is tried.")] = 5,
    base: Annotated[str | None, typer.Option(help="Base model: a folder there, or a Hugging Face name.")] = None,
    recipe: Annotated[str | None, typer.Option(help="TOML file with settings, there.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train on Lightning.ai: submits the same run as a job, which goes on where it was when its machine is taken away.

    Example: `attune train launch --data /teamspace/data/first --out /teamspace/runs/first --studio attunement --interruptible`
    """
    import os

    from attunement.security.recording import note
    from attunement.training.launch import Launch

    given = [("--recipe", recipe), ("--base", base), *(("--set", each) for each in overrides or ())]
    arguments = ["--data", data, *(word for option, value in given if value for word in (option, value))]
    plan = Launch(name or Path(out).name, machine, out, arguments, teamspace, studio, image, interruptible, attempts)
    note(load_settings().settings, "training:run", "training:launch", plan.name)
    job = plan.submit(os.environ)
    if as_json:
        typer.echo(json.dumps({"job": plan.name, "machine": machine, "command": plan.command()}))
        return
    console = Console(highlight=False)
    console.print(f"    job: {getattr(job, 'name', plan.name)} on {machine}", soft_wrap=True)
    console.print(f"command: {plan.command()}", soft_wrap=True)


@app.command("list")
def list_runs(
    runs: Runs = Path("runs"),
    contains: Annotated[
        str, typer.Option(metavar="SOURCE|CONVERSATION|EXAMPLE", help="Only runs whose checkpoints may have seen this.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder.

    Example: `attune train list --runs runs --contains c-0123456789abcdef`
    """
    from attunement.training.runs import runs_in

    rows = runs_in(runs, contains)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("run", "status", "steps", "validation perplexity", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        found = row["metrics"].get("validation_perplexity")
        table.add_row(row["run"], row["status"], f"{row['step']:,}", f"{found:.1f}" if found else "-")
    none = f"no run in {runs} has seen {contains}" if contains else f"no runs in {runs}"
    Console(highlight=False).print(table if rows else none)


@app.command()
def compare(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of two runs or more.")],
    as_json: AsJson = False,
) -> None:
    """Compare runs: the settings in which they differ, and their figures.

    Example: `attune train compare runs/first runs/second`
    """
    from attunement.training.runs import differences

    rows = differences(run_dirs)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("", *(path.name for path in run_dirs), box=None, pad_edge=False, header_style="bold")
    for name, values in rows.items():
        table.add_row(name, *("-" if value is None else str(value) for value in values))
    Console(highlight=False).print(table)


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
