"""Where concepts come from and under which licence: the known sources, a file's own statement, or a `knowledge.toml` beside it.

A licence is never guessed: what nobody states is `unknown`, and stays out of every export.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.sources import WRITTEN
from attunement.sources.knowledge import licences

DESCRIPTION = "knowledge.toml"
KNOWN = WRITTEN / "knowledge_sources.toml"
_CC = re.compile(r"creativecommons\.org/(?:licenses/([a-z-]+)/(\d\.\d)|publicdomain/zero/1\.0)", re.I)


@dataclass(frozen=True)
class Source:
    """The facts that every concept of a file gets. `columns` maps our fields to a table's own names."""

    name: str
    prefix: str
    licence: str = licences.UNKNOWN
    category: str = "clinical_framework"
    columns: Mapping[str, str] = field(default_factory=dict)


@cache
def _known() -> Mapping[str, Any]:
    with open(KNOWN, "rb") as file:
        return tomllib.load(file)


def upper() -> frozenset[str]:
    """Prefixes of ontologies that others import for their own upper terms, chemistry, anatomy and genes."""
    return frozenset(_known()["upper"])


def ontology(prefix: str, stated: str, file: Path) -> Source:
    """The source of an ontology's term by its id's prefix. What the file itself states comes before our table."""
    known = _known()["ontology"].get(prefix, {})
    licence = known.get("licence") or stated or licences.UNKNOWN
    return Source(known.get("name", file.stem), prefix.lower(), licence, known.get("category", "clinical_framework"))


def chapter_category(title: str) -> str:
    """The category of a textbook's chapter."""
    return str(_known()["chapter"].get(title, "clinical_framework"))


def table(path: Path) -> Source:
    """The source of a table or JSON file: its folder's `knowledge.toml`, else a known file, else its own name."""
    for folder in (path.parent, *path.parents[1:2]):
        if (folder / DESCRIPTION).is_file():
            return _described(folder / DESCRIPTION)
    for row in _known()["table"]:
        if path.match(row["match"]):
            return Source(**{key: value for key, value in row.items() if key != "match"})
    stem = path.name.split(".")[0]
    return Source(name=stem, prefix=re.sub(r"\W+", "-", stem.lower()))


def _described(path: Path) -> Source:
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = set(rows) - {f.name for f in fields(Source)}
        if unknown or not {"name", "prefix"} <= set(rows):
            raise DataError(
                f"{path}: it takes name and prefix, and may have licence, category and [columns]; found {sorted(rows)}"
            )
        return Source(**rows)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}") from error


def stated_licence(text: str) -> str:
    """The licence behind a Creative Commons address in `text`, such as `CC-BY-4.0`; empty where there is none."""
    found = _CC.search(text)
    if found is None:
        return ""
    return f"CC-{found[1].upper()}-{found[2]}" if found[1] else "CC0-1.0"
