"""`attune generate personas`: dialogues of a therapist in several personas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attunement.cli.options import Overrides, Recipe
from attunement.config import load_settings


def personas(
    out: Annotated[Path, typer.Option("--out", help="Folder for the dialogues and the report; `attune data build` reads it.")],
    count: Annotated[int, typer.Option(min=1, help="Dialogues that are wanted.")] = 100,
    provider: Annotated[
        str, typer.Option(metavar="NAME|URL", help="offline, openai, anthropic, ollama, or an OpenAI-compatible address.")
    ] = "offline",
    model: Annotated[str | None, typer.Option(help="The model's name (default: providers.model).")] = None,
    budget_usd: Annotated[float | None, typer.Option(min=0, help="Most that all answers in the folder may cost.")] = None,
    persona: Annotated[list[str] | None, typer.Option(help="Only these personas; may be repeated.")] = None,
    files: Annotated[Path | None, typer.Option(help="Folder with personas, clients and scenarios of your own.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dialogues.")] = 17,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Write dialogues in which the therapist changes persona as the client's need changes.

    Example: `attune generate personas --count 50 --out data/personas`
    """
    from rich.progress import Progress

    from attunement.providers.opening import ANSWERS, OFFLINE, open_provider
    from attunement.security.recording import agreements_of, incidents_of
    from attunement.sources.personas.run import run

    more = [f"providers.model={json.dumps(model)}"] if model else []
    settings = load_settings(recipe, [*(overrides or ()), *more]).settings
    may, blocked = agreements_of(settings), incidents_of(settings)
    engine = (
        None
        if provider == OFFLINE
        else open_provider(provider, settings.providers, out / ANSWERS, budget_usd=budget_usd, in_force=may, blocked=blocked)
    )
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("dialogues", total=count)
        report = run(
            settings, out, provider=engine, names=persona or (), own=files, count=count, seed=seed,
            told=lambda: progress.advance(task),
        )  # fmt: skip
    reasons = ", ".join(f"{name} {many}" for name, many in report["rejected_by_reason"].items())
    console.print(
        f"{report['kept']:,} dialogues, {report['rejected']:,} rejected{f' ({reasons})' if reasons else ''}: {out}",
        soft_wrap=True,
    )
