"""`attune knowledge`: concepts of psychology, imported, searched and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings

app = typer.Typer(help="Import, search and count concepts of psychology.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Import, search and count concepts of psychology."""


@app.command("import")
def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files or folders: OBO, OWL, JSON, JSONL, CSV, XLSX, CNXML.")
    ],
    everything: Annotated[bool, typer.Option("--no-filter", help="Keep what the topic filter would leave out.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read concepts into the store; unchanged files are skipped, so the same command goes on after an interruption.

    Example: `attune knowledge import ontologies/ our-concepts.xlsx`
    """
    from rich.progress import Progress

    from attunement.sources.knowledge.integrator import PsychologyKnowledgeIntegrator

    settings = load_settings(recipe, overrides or ()).settings
    errors = Console(stderr=True, highlight=False)
    with Progress(console=errors, transient=True, disable=as_json or not errors.is_terminal) as bar:
        task = bar.add_task("import")
        integrator = PsychologyKnowledgeIntegrator(
            settings,
            filtered=not everything,
            progress=lambda done, total, path: bar.update(task, completed=done, total=total, description=path.name[:30]),
        )
        for path in paths:
            base, report = integrator.load_knowledge_base(path), integrator.report
            for problem in report.problems:
                errors.print(problem, style="yellow", soft_wrap=True, markup=False)
            counts = {"read": report.read, "unchanged": report.unchanged, "failed": report.failed}
            left_out = {reason: count for reason, count in report.left_out.items() if count}
            if as_json:
                told = {"path": str(path), **counts, "kept": report.kept, "left_out": left_out}
                typer.echo(json.dumps({**told, "problems": report.problems, "concepts": len(base)}))
                continue
            files = ", ".join(f"{count:,} {what}" for what, count in counts.items())
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "nothing"
            typer.echo(f"{path}: files {files}; {report.kept:,} concepts kept, {reasons} left out; the store holds {len(base):,}")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="Words, or a sentence as a client would say it.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most concepts to show.")] = 10,
    mode: Annotated[str, typer.Option(help="hybrid, words (BM25) or meaning (vectors).")] = "hybrid",
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Find concepts by words and by meaning.

    Example: `attune knowledge search "flashbacks after a car crash"`
    """
    from attunement.sources.knowledge.base import open_base
    from attunement.sources.knowledge.concepts import to_row

    base = open_base(load_settings(recipe, overrides or ()).settings)
    found = [(hit, base.approaches(hit.concept)) for hit in base.search(query, limit, mode)]
    if as_json:
        rows = [
            {**to_row(hit.concept), "score": hit.score, "also": hit.also, "therapeutic_approaches": names} for hit, names in found
        ]
        typer.echo(json.dumps(rows))
        return
    console = Console(highlight=False)
    for hit, names in found:
        concept, approaches = hit.concept, f" Approaches: {', '.join(names)}." if names else ""
        console.print(
            f"[bold]{concept.label}[/]  {concept.category}, {concept.source}, {concept.licence}  [dim]{concept.concept_id}[/]",
            soft_wrap=True,
        )
        console.print(f"  {concept.content}{approaches}", markup=False, soft_wrap=True)


@app.command()
def stats(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Count concepts by source, category and licence, with what each licence allows and what was left out.

    Example: `attune knowledge stats`
    """
    from attunement.sources.knowledge.base import open_base

    found = open_base(load_settings(recipe, overrides or ()).settings).stats()
    if as_json:
        typer.echo(json.dumps(found))
        return
    console = Console(highlight=False)
    console.print(f"{found['concepts']:,} concepts, {found['distinct_labels']:,} distinct names, from {found['files']:,} files")
    for title in ("sources", "categories", "left_out"):
        console.print(f"[bold]{title.replace('_', ' ')}[/]")
        for name, count in found[title].items():
            console.print(f"  {count:>6,}  {name}", markup=False)
    console.print("[bold]licences[/]")
    for name, row in found["licences"].items():
        console.print(f"  {row['concepts']:>6,}  {name}: {', '.join(row['uses'])}", markup=False)
