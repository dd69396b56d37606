"""`attune train pairs` and `attune train prefer`: the second stage, on pairs of replies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import DataError
from attunement.storage.files import read_json

NOT_COMMERCIAL = "not for commercial use, nor is a model that is tuned on these pairs"


def pairs(
    out: Annotated[Path, typer.Option("--out", help="JSON lines file of the pairs.")],
    feedback: Annotated[
        Path | None,
        typer.Option("--feedback", metavar="FILE", help="counseling-feedback's feedback_train.json (not commercial)."),
    ] = None,
    review: Annotated[
        list[Path] | None,
        typer.Option("--review", metavar="DATASET", help="A built dataset whose edits in `attune review` are taken; repeatable."),
    ] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make preference pairs of experts' feedback and of edits in clinical review.

    Example: `attune train pairs --feedback feedback_train.json --review out/dataset --out out/pairs.jsonl`
    """
    from attunement.curation.preferences import write_pairs

    if feedback is None and not review:
        raise DataError("there is nothing to make pairs of: give --feedback FILE, --review DATASET, or both")
    home = load_settings(recipe, overrides or ()).settings.home
    told = write_pairs(out, _found(feedback, review or [], home))
    figures = {
        "pairs": sum(told.sources.values()),
        "conversations": told.conversations,
        "sources": dict(told.sources),
        "licences": sorted(told.licences),
        "left_out": dict(told.left_out),
    }
    if as_json:
        typer.echo(json.dumps({"file": str(out), **figures}))
        return
    console = Console(highlight=False)
    sources = ", ".join(f"{count:,} of {name}" for name, count in sorted(told.sources.items()))
    console.print(f"   pairs: {figures['pairs']:,} from {told.conversations:,} conversations ({sources})", soft_wrap=True)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in told.left_out.most_common())
    console.print(f"left out: {reasons or 'none'}", soft_wrap=True)
    if "NC" in told.licences:
        console.print(f" licence: NC, {NOT_COMMERCIAL}", soft_wrap=True)
    console.print(f" written: {out}", soft_wrap=True)


def _found(feedback: Path | None, review: list[Path], home: Path) -> Iterator[dict[str, Any] | str]:
    from attunement.curation.preferences import feedback_pairs, review_pairs
    from attunement.curation.review import ReviewQueue
    from attunement.storage.sql import Store

    if feedback is not None:
        yield from feedback_pairs(feedback)
    if review:
        queue = ReviewQueue(Store.at_home(home))
        for dataset in review:
            yield from review_pairs(queue, dataset)


def prefer(
    run: Annotated[Path, typer.Option("--run", help="Folder of the trained run whose best checkpoint is tuned.")],
    pairs: Annotated[Path, typer.Option("--pairs", help="JSON lines file of `attune train pairs`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new run.")],
    method: Annotated[str | None, typer.Option(help="dpo or orpo.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Tune a trained run on preference pairs; the same command goes on where it was. Needs the extra `prefer`.

    Example: `attune train prefer --run runs/first --pairs out/pairs.jsonl --out runs/preferred`
    """
    settings = load_settings(recipe, [*(overrides or ()), *([f"preference.method={method}"] if method else ())]).settings

    from attunement.security.recording import noted
    from attunement.training.preference import PreferenceTuning

    begins = "training:resume" if (out / "run.json").is_file() else "training:start"
    with noted(settings, "training:run", begins, "training:end", out.resolve().name):
        trained = PreferenceTuning(run, out, settings.preference, quiet=as_json).tune(pairs)
    found = read_json(out / "preference.json")
    licences = read_json(out / "dataset.json")["pairs_licences"]
    if as_json:
        told = {"run": str(out), "checkpoint": str(trained.checkpoint), "metrics": dict(trained.metrics)}
        typer.echo(json.dumps({**told, "held_out": found, "licences": licences}))
        return
    console, metrics = Console(highlight=False), trained.metrics
    console.print(f"       run: {out}, {metrics['steps']:,.0f} steps in {metrics['seconds']:,.0f} s", soft_wrap=True)
    _print_held_out(console, found)
    if "NC" in licences:
        console.print(f"   licence: NC, {NOT_COMMERCIAL}", soft_wrap=True)
    console.print(f"checkpoint: {trained.checkpoint}", soft_wrap=True)


def _print_held_out(console: Console, found: dict[str, Any]) -> None:
    if not found["pairs"]:
        console.print("  held out: no pairs, so nothing was measured")
    else:
        console.print(f"  held out: {found['pairs']:,} pairs of {found['conversations']:,} conversations")
    for kind in ("reward", "likelihood"):
        if kind in found:
            (before, after), (gain, low, high) = found[kind]["accuracy"], found[kind]["accuracy_gain"]
            old, new = found[kind]["margin"]
            told = f"accuracy {before:.3f} -> {after:.3f} (gain {gain:+.3f}, 95 % {low:+.3f} to {high:+.3f}), margin {old:.3f} -> {new:.3f}"
            console.print(f"{kind:>10}: {told}", soft_wrap=True)
    before, after = found["validation_loss"]
    if before is not None:
        console.print(f"validation: loss {before:.3f} -> {after:.3f} nats a token on the first stage's split", soft_wrap=True)
