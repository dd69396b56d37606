"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[Path | None, typer.Option("--recipe", help="TOML file with settings.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set one setting; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on standard output.")]
Model = Annotated[Path, typer.Option("--model", help="Folder of a run (its best checkpoint) or of a checkpoint.")]
Runs = Annotated[Path, typer.Option(help="Folder with training runs.")]
