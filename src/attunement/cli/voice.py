"""`attune voice`: recordings made into dialogue, with known quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import EXIT_PARTIAL

app = typer.Typer(help="Make recordings and transcripts into dialogue.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make recordings and transcripts into dialogue."""


@app.command()
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="URL|FILE...", help="Addresses, sound or video files, SRT or VTT transcripts, folders of them."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for transcripts and dialogue; `attune data build` reads it.")],
    permission: Annotated[
        bool, typer.Option("--i-have-permission", help="You may use recordings whose licence does not allow it by itself.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 4 where a recording gave nothing.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Download, transcribe, tell speakers apart, and make dialogue pairs whose quality is known.

    What cannot be used is told in one line and the rest goes on; a run that was interrupted goes on where it was.

    Example: `attune voice ingest https://example.org/lecture session.mp3 --out data/voice`
    """
    from rich.progress import Progress, TaskID

    from attunement.sources.voice.run import ingest as run

    settings = load_settings(recipe, overrides or ()).settings
    errors = Console(stderr=True, highlight=False)
    with Progress(console=errors, transient=True, disable=as_json or not errors.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def tick(name: str, done: float, total: float) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name[:40])
            bar.update(tasks[name], completed=done, total=total)

        report = run(sources, out, settings, i_have_permission=permission, tick=tick, told=lambda line: _print(errors, line))
    if as_json:
        typer.echo(json.dumps(report))
    else:
        counts = report["pairs"]
        reasons = ", ".join(f"{name} {many:,}" for name, many in counts["rejected_by_reason"].items())
        typer.echo(
            f"{report['recordings']['kept']:,} recordings kept, {report['recordings']['failed']:,} failed; "
            f"{counts['kept']:,} pairs, {counts['rejected']:,} rejected{f' ({reasons})' if reasons else ''}: {out}"
        )
        if counts["kept"]:
            typer.echo(f"Next: attune data build {out} --out out/dataset")
    if strict and report["recordings"]["failed"]:
        raise typer.Exit(EXIT_PARTIAL)


@app.command()
def calibrate(
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Recordings with checked subtitles of the same name (.srt, .vtt) beside them."),
    ],
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Fit the confidence of the transcription engine on your own recordings; the shipped one knows synthetic speech only.

    Example: `attune voice calibrate sessions/*.mp3`
    """
    from attunement.sources.voice.calibrating import calibrate as run

    settings = load_settings(recipe, overrides or ()).settings
    errors = Console(stderr=True, highlight=False)
    found = run(recordings, settings, told=lambda line: _print(errors, line))
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(
        f"{found['engine']}: {found['segments']:,} stretches, {found['right_share']:.0%} of the words right; calibration error "
        f"{found['calibration_error']:.3f} held out ({found['calibration_error_before']:.3f} of the engine's own): {found['written']}"
    )


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)
