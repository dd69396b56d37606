"""`attune config`: what the settings are, where each came from, and their reference."""

from __future__ import annotations

import json
import re
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.cli.reference import configuration
from attunement.config import fields, load_settings

app = typer.Typer(no_args_is_help=True, help="The settings: their values, their origins, their reference.")


@app.command()
def show(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print every setting with its value and where that came from.

    Example: `attune config show --recipe recipes/h100-12h.toml --set training.epochs=2`
    """
    loaded = load_settings(recipe, overrides or ())
    values = loaded.settings.model_dump(mode="json")
    rows = {key: {"value": _value(values, key), "origin": loaded.origins[key]} for key, _ in fields()}
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("setting", "value", "origin", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    table.columns[1].overflow = "fold"
    for key, row in rows.items():
        origin = str(row["origin"])
        table.add_row(key, json.dumps(row["value"]), origin, style="dim" if origin == "default" else None)
    console = Console(highlight=False)
    console.print(table, width=console.width if console.is_terminal else 200)


@app.command()
def docs() -> None:
    """Print the reference of all settings as Markdown.

    Example: `attune config docs | less`
    """
    typer.echo(configuration(), nl=False)


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return re.sub(r"(?<=://)([^/@]*:)[^/]*(?=@)", r"\1***", tree) if isinstance(tree, str) else tree  # no password of an address
