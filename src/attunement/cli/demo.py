"""`attune demo`: the whole chain on the packaged samples, through the same stages as the other commands."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from attunement.cli.options import Overrides
from attunement.config import Settings, load_settings

SAID = {
    "conversation_context": ["I can't sleep lately.", "What goes through your mind at night?"],
    "user_input": "Mostly work. I keep going over the things I should have done.",
}
console = Console(highlight=False)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("demo"),
    overrides: Overrides = None,
) -> None:
    """Curate the packaged samples, train, evaluate, serve, and ask over HTTP; a second run reuses what is there.

    Example: `attune demo --out demo`
    """
    started = time.monotonic()
    packaged = Path(str(resources.files("attunement")))
    settings = load_settings(packaged / "recipes" / "demo.toml", overrides or ()).settings
    dataset, run = out / "dataset", out / "runs" / "demo"
    _curate(packaged / "samples" / "conversations", dataset, settings)
    _train(dataset, run, settings)
    _evaluate(run, settings)
    _serve_and_ask(run, settings)
    command = _command()
    console.print(f"\n[bold]Done in {time.monotonic() - started:.0f} s.[/]")
    console.print(f"  dataset  {dataset}  (its report: {dataset / 'quality_report.html'})", soft_wrap=True)
    console.print(f"  model    {run}", soft_wrap=True)
    console.print("\nGo on with")
    console.print(
        f"  {command} serve --model {run}    # then open http://{settings.serving.host}:{settings.serving.port}/docs",
        soft_wrap=True,
    )
    console.print(f"  {command} chat --model {run}", soft_wrap=True)
    console.print(f"and read the report: {run / 'report.html'}", soft_wrap=True)


def _step(number: int, title: str) -> None:
    console.print(f"\n[bold]{number}. {title}[/]")


def _curate(samples: Path, out: Path, settings: Settings) -> None:
    from attunement.curation.pipeline import DataPipeline
    from attunement.storage.files import read_json

    _step(1, f"Curate the packaged samples -> {out}")
    before = read_json(out / "manifest.json")["dataset_sha256"] if (out / "manifest.json").is_file() else None
    DataPipeline(settings, out, quiet=False).process_datasets([samples])
    report = read_json(out / "quality_report.json")
    talks, pairs = report["conversations"], report["pairs"]
    console.print(
        f"   {talks['in']} conversations in, {talks['kept']} kept, {talks['rejected']} left out, {talks['failed']} unreadable"
    )
    console.print(f"   {pairs['in']:,} pairs in, {pairs['kept']:,} kept, each traceable to its record")
    if before == read_json(out / "manifest.json")["dataset_sha256"]:
        console.print("   [dim]reused: the dataset was there already[/]")


def _train(dataset: Path, run: Path, settings: Settings) -> None:
    from attunement.training.data import dataset_of
    from attunement.training.system import TrainingSystem

    config = settings.model
    _step(2, f"Train {config.num_experts} LoRA experts over {config.base} -> {run}")
    there = (run / "run.json").is_file()
    system = TrainingSystem(run, quiet=False)
    system.initialize_model(config.build())
    trained = system.train(dataset_of(dataset), settings.training.build())
    figures = trained.metrics
    held_out = figures.get("validation_perplexity")
    told = "no validation data" if held_out is None else f"validation perplexity {held_out:.1f}"
    console.print(f"   {figures['steps']:.0f} steps in {figures['seconds']:.0f} s, {told}")
    if there:
        console.print("   [dim]reused: the run was there already[/]")


def _evaluate(run: Path, settings: Settings) -> None:
    from attunement.evaluation.suite import EvaluationSuite

    _step(3, f"Evaluate -> {run / 'report.html'}")
    suite = EvaluationSuite(settings, quiet=False)
    earlier = suite.earlier(run)
    found = (earlier or suite.evaluate(run))["perplexity"]
    console.print(f"   held-out perplexity {found['before']['value']:.1f} before, {found['after']['value']:.1f} after")
    if earlier:
        console.print("   [dim]reused: the evaluation was there already[/]")


def _serve_and_ask(run: Path, settings: Settings) -> None:
    import httpx

    from attunement.serving.app import create_app
    from attunement.serving.run import listen, running
    from attunement.serving.service import DeploymentService

    _step(4, "Serve it, and ask over HTTP")
    with (
        closing(DeploymentService(settings)) as service,
        listen("127.0.0.1", 0) as socket,
        running(create_app(service), socket),
    ):
        service.load_model(run)
        address = f"http://127.0.0.1:{socket.getsockname()[1]}"
        asked = time.monotonic()
        answer = httpx.post(f"{address}/api/v1/inference", json=SAID, timeout=60, trust_env=False).raise_for_status()
        took = time.monotonic() - asked
    _show(answer.json(), took)


def _show(answer: dict[str, Any], seconds: float) -> None:
    console.print("   POST /api/v1/inference")
    console.print(f"   client:  {SAID['user_input']}", markup=False, soft_wrap=True)
    console.print(f"   reply:   {answer['response']}", markup=False, soft_wrap=True)
    console.print(f"   [dim]bias {answer['bias_score']:.2f}, confidence {answer['confidence']:.2f}, {seconds:.2f} s[/]")


def _command() -> str:
    """How the user calls this program from here."""
    path = Path(sys.argv[0])
    return (
        "attune"
        if path.name != "attune" or str(path.parent) in os.environ.get("PATH", "").split(os.pathsep)
        else os.path.relpath(path)
    )
