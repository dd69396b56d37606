"""`attune data`: build a training set, trace an example, withdraw a source, fetch a public set."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import EXIT_PARTIAL
from attunement.records import SHARES

app = typer.Typer(no_args_is_help=True, help="Curate conversations into a training set, with provenance.")

TOLD = ("conversations", "pairs", "personal_data", "processing_success_rate", "splits", "questions", "balance")
"""Of the quality report, what `--json` prints."""
DatasetDir = Annotated[Path, typer.Option("--out", help="Folder of the dataset.")]


@app.command()
def build(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Files or folders with conversations.")],
    out: DatasetDir,
    preset: Annotated[
        str | None,
        typer.Option(
            help="'full': makes what SOURCE leaves short of edge cases, dual personas and knowledge, and keeps the balance; "
            "'pixelated': the contract's four source folders below each SOURCE."
        ),
    ] = None,
    licence_allow: Annotated[
        list[str] | None, typer.Option(help="Licence class to build from (R, SA, NC, N); may be repeated.")
    ] = None,
    encrypt_to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="age1...", help="Leave what holds text as age files that this recipient opens; may be repeated. No resume."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 4 when something could not be read, or a balance is not met.")
    ] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Turn raw conversations into train, validation and test splits with a quality report.

    Example: `attune data build ../shared/data --out out/dataset`
    """
    from attunement.curation.parts import FULL
    from attunement.curation.pipeline import DataPipeline
    from attunement.curation.sealing import seal_dataset, sealed_for
    from attunement.security.age_files import recipients_of, use_identity
    from attunement.security.recording import noted
    from attunement.sources.full_parts import FullParts

    encrypt_to = encrypt_to or sealed_for(out)
    recipients_of(encrypt_to)  # a wrong one is told before the work is done
    enforced = ["data.balance=enforce"] if preset == FULL else []  # an override of the user's comes after it
    allowed = [f"data.licence_allow={json.dumps(licence_allow)}"] if licence_allow else []
    settings = load_settings(recipe, [*enforced, *(overrides or ()), *allowed]).settings
    use_identity(settings.security.age_identity)  # for edits of a build before that was sealed
    pipeline = DataPipeline(settings, out, preset=preset, quiet=as_json)
    if preset == FULL:
        pipeline.parts = FullParts(settings, pipeline.judges)
    with noted(settings, "data:build", "data:start", "data:build", out.resolve().name):
        pipeline.process_datasets(sources)
    if encrypt_to:
        seal_dataset(out, encrypt_to)
    report = json.loads((out / "quality_report.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps({key: report[key] for key in TOLD}))
    else:
        _print_summary(report, out)
    unmet = report["balance"]["mode"] == "enforce" and not report["balance"]["met"]
    if strict and (report["conversations"]["failed"] or unmet):
        raise typer.Exit(EXIT_PARTIAL)


def _print_summary(report: dict[str, Any], out: Path) -> None:
    console = Console(highlight=False)
    for what in ("conversations", "pairs"):
        row = report[what]
        failed = f", {row['failed']:,} failed" if "failed" in row else ""
        console.print(f"{what:>14}: {row['in']:,} in, {row['kept']:,} kept, {row['rejected']:,} left out{failed}")
    console.print(f"     processed: {report['processing_success_rate']:.2%}")
    console.print("        splits: " + ", ".join(f"{name} {count:,}" for name, count in report["splits"].items()))
    if (personal := report["personal_data"])["conversations"]:
        done = {"redact": "redacted", "pseudonymise": "pseudonymised", "report": "[bold]still there[/]"}[personal["mode"]]
        console.print(
            f" personal data: {sum(personal['found'].values()):,} in {personal['conversations']:,} conversations, {done}"
        )
    if report["balance"]["mode"] == "enforce":
        _print_balance(report["balance"], console)
    for failure in report["failures"][:5]:
        told = escape(f"{failure['file']} ({failure['locator']}): {failure['error']}")
        console.print(f"[yellow]   not read:[/] {told}", soft_wrap=True)
    for file in report.get("skipped_files", ())[:5]:
        console.print(f"[yellow]passed over:[/] {escape(file['file'])}: {escape(file['reason'])}", soft_wrap=True)
    console.print(f"        report: {out / 'quality_report.html'}\n       dataset: {out}", soft_wrap=True, markup=False)


def _print_balance(balance: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    table = Table("share", box=None)
    for head in ("target", "reached", "in train", "available", "kept", "left out", "wait for review", "made"):
        table.add_column(head, justify="right", no_wrap=True)
    for share in SHARES:
        row = balance["shares"][share]
        counts = (f"{row[key]:,}" for key in ("available", "kept", "left_out", "waits_for_review"))
        made = f"{row['generated']['conversations']:,}" if "generated" in row else ""
        shares = (f"{row['target']:.1%}", f"{row['share']:.1%}", f"{row['train_share']:.1%}")
        table.add_row(share, *shares, *counts, made)
    console.print(table)
    for number, note in enumerate(balance["notes"]):
        warn = number == 0 and not balance["met"]
        console.print(f"[yellow]     not met:[/] {escape(note)}" if warn else f"     balance: {escape(note)}", soft_wrap=True)


@app.command()
def trace(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="An example (x-...) or a conversation (c-...).")],
    out: DatasetDir,
    as_json: AsJson = False,
) -> None:
    """Tell an example's whole story: file, record, each step, split.

    Example: `attune data trace x-00ff00ff00ff00ff --out out/dataset`
    """
    from attunement.curation.provenance import trace as find

    story = find(out, identifier)
    if as_json:
        typer.echo(json.dumps(story, ensure_ascii=False))
        return
    console, origin = Console(highlight=False), story["origin"]
    console.print(f"[bold]{identifier}[/]")
    console.print(f"  source   {origin['source']} ({origin.get('licence_class', '?')}: {origin.get('licence', '?')})")
    console.print(f"  file     {origin['file']}, sha256 {origin['file_sha256']}", soft_wrap=True, markup=False)
    record = f"  record   {origin.get('locator', 'withdrawn')}, sha256 {origin.get('record_sha256', '-')}"
    console.print(record, soft_wrap=True, markup=False)
    for name, value in story.get("made_of", {}).items():
        console.print(f"  made of  {name} {value}", soft_wrap=True, markup=False)
    if found := story.get("personal_data"):
        console.print(f"  personal {', '.join(f'{count} {kind}' for kind, count in found.items())}")
    console.print(f"  read     conversation {story['conversation_id']} in shard {story['read_shard_sha256'][:16]}")
    console.print(f"  select   {_outcome(story)}, group {story['group']}")
    for pair in [story["pair"]] if "pair" in story else story["pairs"]:
        score = "-" if pair["score"] is None else f"{pair['score']:.3f}"
        console.print(
            f"  pair     {pair['id']} of turn {pair['turn']}, {pair['question_type']}, coherence {score}: {_outcome(pair)}",
            soft_wrap=True,
        )
    for message in (story.get("example") or {}).get("messages", ()):
        console.print(f"  {message['role']:<10} {message['content']}", soft_wrap=True, markup=False)


def _outcome(row: dict[str, str]) -> str:
    if row["outcome"] == "kept":
        return f"kept, split {row['split']}"
    other = f" of {row['duplicate_of']}" if "duplicate_of" in row else ""
    return f"left out at step {row['step']}: {row['reason']}{other}"


@app.command()
def withdraw(
    wanted: Annotated[
        str, typer.Argument(metavar="SOURCE|CONVERSATION", help="A source's name, a file of it, or a conversation's id (c-...).")
    ],
    out: DatasetDir,
    runs: Annotated[Path, typer.Option(help="Where training runs lie, to name those that have seen it.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Take something out (consent withdrawn), rebuild, and name what was made from it.

    Example: `attune data withdraw c-00ff00ff00ff00ff --out out/dataset`
    """
    from attunement.curation.manifest import Manifest
    from attunement.curation.pipeline import DataPipeline
    from attunement.curation.provenance import kept_examples, plan_withdrawal, record_withdrawal, runs_made_from, side_effects
    from attunement.curation.sealing import seal_dataset, sealed_for
    from attunement.security.recording import note

    plan = plan_withdrawal(out, wanted)
    note(load_settings().settings, "data:build", "data:withdraw", out.resolve().name)
    before = kept_examples(out)
    record_withdrawal(out, plan["entries"])
    manifest = Manifest.load(out)
    paths, preset = manifest.sources()
    settings = load_settings().settings.model_copy(update=manifest.settings())
    DataPipeline(settings, out, preset=preset, quiet=as_json).process_datasets(paths)
    if sealed := sealed_for(out):
        seal_dataset(out, sealed)
    answer = {
        "withdrawn": [e["value"] for e in plan["entries"] if e["kind"] != "record"],
        "examples_removed": plan["examples"],
        "examples_changed": side_effects(before, kept_examples(out), plan["examples"]),
        "runs": runs_made_from(plan["datasets"], runs),
        "dataset_sha256": Manifest.load(out).data["dataset_sha256"],
    }
    if as_json:
        typer.echo(json.dumps(answer))
        return
    console = Console(highlight=False)
    console.print(f"withdrawn: {', '.join(answer['withdrawn'])}", soft_wrap=True)
    for split, ids in answer["examples_removed"].items():
        console.print(f"  {len(ids)} examples left {split}{': ' + ', '.join(ids) if 0 < len(ids) <= 10 else ''}", soft_wrap=True)
    for what, ids in answer["examples_changed"].items():
        if ids:
            console.print(
                f"  {len(ids)} other examples {what}: {', '.join(ids[:10])}{' ...' if len(ids) > 10 else ''}", soft_wrap=True
            )
    seen = ", ".join(answer["runs"]) or "none found"
    console.print(
        f"  runs trained on the dataset before: {seen}{' (train them again)' if answer['runs'] else ''}", soft_wrap=True
    )


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="A public data set; without it, the list of those known.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to (default: the home's data/NAME).")] = None,
    accept: Annotated[bool, typer.Option("--accept-licence", help="Accept the licence without being asked.")] = False,
    base_url: Annotated[str | None, typer.Option(help="Fetch from a mirror instead of the set's own address.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download a public data set, its licence shown and its checksum verified; or list the sets, and which can be fetched.

    Example: `attune data fetch counselchat`
    """
    from attunement.readers import fetch as stage

    if name is None:
        _list_sets(as_json)
        return
    folder = out or load_settings().settings.home.expanduser() / "data" / name
    ask = partial(typer.confirm, err=True) if sys.stdin.isatty() else None
    files = stage.fetch(name, folder, base_url=base_url, accept=accept, ask=ask)
    if as_json:
        got = [{"path": str(f.path), "sha256": f.sha256, "pinned": f.pinned} for f in files]
        typer.echo(json.dumps({**_described(stage.find(name)), "folder": str(folder), "files": got}, ensure_ascii=False))
        return
    for file in files:
        Console().print(str(file.path), soft_wrap=True, markup=False, highlight=False)


def _described(source: Any) -> dict[str, str]:
    return {key: getattr(source, key) for key in ("name", "title", "licence", "licence_class", "url", "commit")}


def _list_sets(as_json: bool) -> None:
    from attunement.readers.sets import catalogue

    sets = catalogue()
    if as_json:
        rows = [{**_described(s), "fetchable": bool(s.fetch), "files": s.fetch.files if s.fetch else {}} for s in sets]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    console, row = Console(highlight=False), "{:<28}{:<11}{:<7}{:<42}{}"
    console.print(row.format("set", "get it", "class", "licence", "what"), style="dim", soft_wrap=True)
    for s in sets:
        where = "fetch" if s.fetch else "publisher"
        console.print(row.format(s.name, where, s.licence_class, s.licence, s.title), soft_wrap=True, markup=False)
    console.print(
        "fetch: attune data fetch NAME downloads it. publisher: only from its own address, which attune data fetch NAME tells.\n"
        "class: R may be redistributed, SA share-alike, NC not commercial, N no licence stated.",
        style="dim",
        soft_wrap=True,
    )
