"""`attune export`: a trained model as files that other programs load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from attunement.cli.options import AsJson
from attunement.config import load_settings
from attunement.errors import ConfigError, ModelError

CHECKED_BELOW_BYTES = 4_000_000_000
"""Larger exports are compared with the run only when asked: both must fit into memory in float32."""
TOLERANCE = 1e-4


def export(
    run: Annotated[Path, typer.Option("--run", help="Folder of a run (its best checkpoint) or of a checkpoint.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the export.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="`hf-moe`: standard sparse model; `adapter`: ours, small; `merged-dense`: one expert only."
        ),
    ] = "hf-moe",
    base: Annotated[str | None, typer.Option(help="Where the base lies now, if elsewhere.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16; the base's own if not given.")] = "",
    encrypt_to: Annotated[
        list[str] | None,
        typer.Option(metavar="age1...", help="Encrypt the weights for this recipient (`adapter` alone); may be repeated."),
    ] = None,
    check: Annotated[
        bool | None, typer.Option("--check/--no-check", help="Compare the logits with the run's (default: below 4 GB).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a trained model.

    Example: `attune export --run runs/first --format hf-moe --out exports/first`
    """
    from attunement.model.export import FORMATS, largest_difference, write_adapter
    from attunement.model.sparse_export import plan_export
    from attunement.security.recording import note

    if form not in FORMATS:
        raise ConfigError(f"there is no format '{form}': take {', '.join(FORMATS)}")
    if encrypt_to and form != "adapter":
        raise ConfigError("only --format adapter can be encrypted: other programs read the others")
    console = Console(highlight=False, stderr=as_json)
    difference = None
    note(load_settings().settings, "model:export", "model:export", out.resolve().name)
    if form == "adapter":
        written = write_adapter(run, out, encrypt_to or ())
    else:
        plan = plan_export(run, base=base, dtype=dtype, dense=form == "merged-dense")
        count, size = plan.size()
        small = (plan.checkpoint / "adapter.safetensors").stat().st_size
        console.print(
            f"  becomes: {plan.config.architectures[0]}, {count:,} parameters in {str(plan.dtype)[6:]}, {size / 1e9:,.2f} GB"
        )
        console.print(f"           (as an adapter {small / 1e9:,.2f} GB beside the base: --format adapter)")
        columns = (TextColumn("export"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), disable=as_json) as bar:
            task = bar.add_task("export", total=size)
            written = plan.write(out, progress=lambda done, _: bar.update(task, completed=done))
        if check or (check is None and size < CHECKED_BELOW_BYTES):
            difference = largest_difference(run, out, base=base)
            if dtype in ("", "float32") and str(plan.dtype) == "torch.float32" and difference > TOLERANCE:
                raise ModelError(
                    f"the export's logits differ from the run's by {difference:.1e}, more than {TOLERANCE:.0e}: do not use {out}"
                )
    if as_json:
        told = {
            "folder": str(out),
            "architecture": written.architecture,
            "parameters": written.parameters,
            "bytes": written.bytes,
        }
        typer.echo(json.dumps({**told, "largest_logit_difference": difference}))
        return
    if difference is not None:
        console.print(f"  checked: logits differ from the run's by at most {difference:.1e}")
    console.print(f"  written: {out}", soft_wrap=True)
