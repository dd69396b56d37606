"""Recipes for sources: what a data set is, under which licence, and how its files map to conversations.

One TOML file a set; the public sets stand in `sets/` beside this module, and a `source.toml` in a folder of the user's
describes the files below that folder in the same words (docs/sources.md). A public set's `match` names the set (its
folder, or a file name that nobody else has) and its `columns` are ones that nobody else has: a private file must never be
taken for a public one, least of all under a freer licence.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attunement.errors import DataError

OWN_RECIPE = "source.toml"


class FileRecipe(BaseModel):
    """How the files that `match` (a glob on the end of the path) or have all `columns` become conversations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field("", description="Glob on folder/name, the end of the path.")
    columns: list[str] = Field(default_factory=list, description="Columns or keys that the file must have; finds renamed copies.")
    skip: str = Field("", description="Why files like this are passed over.")
    shape: Literal["auto", "turn_rows", "exchange", "dialog", "transcript_columns", "pair_lines", "transcript"] = "auto"
    conversation: str = Field("", description="turn_rows: column that names the conversation.")
    key: str = Field("", description="turn_rows: column that is counted once per conversation (several annotators).")
    speaker: str = Field("", description="Column or key of the speaker.")
    text: str = Field("", description="Column or key of the text.")
    question: list[str] = Field(default_factory=list, description="exchange: columns of the question, joined.")
    answer: str = Field("", description="exchange: column of the answer.")
    turns: str = Field("", description="dialog: key of the list of turns.")
    nested: str = Field("", description="dialog: key of a string that holds the record as JSON.")
    answers: str = Field("", description="pair_lines: the file beside that holds the answers, line by line.")
    roles: dict[str, Literal["client", "therapist", "narrator", "system"]] = Field(default_factory=dict)
    group: str = Field("", description="Template of the group that may not be parted: 'name/{column}'.")
    metadata: list[str] = Field(default_factory=list, description="Columns or keys to keep.")
    markup: bool = Field(False, description="Text is HTML.")
    instruction: bool = Field(
        False,
        description="The system message tells a model who asks, and stays in the examples; otherwise it is another model's prompt.",
    )
    detokenise: bool = Field(False, description="Text was taken apart by a tokeniser.")
    share: Literal["", "standard", "edge_case", "voice", "knowledge", "dual_persona"] = Field(
        "", description="Share of these files, if not the set's."
    )
    source_type: str = Field("", description="Fixed kind of talk; otherwise it is classified.")


class Fetch(BaseModel):
    """Where a public set's files lie: `{base}/{path}`, with the SHA-256 of each where it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    files: dict[str, str] = Field(description="Path to SHA-256, or to an empty string where it is not known.")


class SourceSet(BaseModel):
    """A data set. `licence_class`: R may be redistributed, SA share-alike, NC not commercial, N none stated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    licence: str
    licence_class: Literal["R", "SA", "NC", "N", "unknown"]
    url: str = ""
    commit: str = ""
    share: Literal["standard", "edge_case", "voice", "knowledge", "dual_persona"] = "standard"
    examples: str = Field(
        "", description="File beside with the contract's own records of these conversations (`VoiceDataExample`)."
    )
    files: list[FileRecipe] = Field(default_factory=list)
    fetch: Fetch | None = None


def load_set(text: str, where: str) -> SourceSet:
    """The set that `text` describes. Raises `DataError` with the first fault."""
    try:
        return SourceSet(**tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where} is not valid TOML: {error}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(f"{where}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error


@cache
def catalogue() -> tuple[SourceSet, ...]:
    """The public sets that the package knows, by name."""
    folder = resources.files("attunement.readers").joinpath("sets")
    found = [load_set(f.read_text(encoding="utf-8"), f.name) for f in folder.iterdir() if f.name.endswith(".toml")]
    return tuple(sorted(found, key=lambda s: s.name))


def own_set(folder: Path) -> SourceSet | None:
    """The user's `source.toml` in `folder`, if there is one."""
    path = folder / OWN_RECIPE
    if not path.is_file():
        return None
    try:
        return load_set(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8: save it again as UTF-8") from error


def by_path(path: Path, sets: Sequence[SourceSet]) -> tuple[SourceSet, FileRecipe] | None:
    """The set and recipe whose `match` fits the end of the path, in any case."""
    tail = "/" + "/".join(path.parts[-4:]).casefold()
    for source in sets:
        for recipe in source.files:
            if recipe.match and fnmatch.fnmatchcase(tail, f"*/{recipe.match.casefold()}"):
                return source, recipe
    return None


def by_columns(columns: Sequence[str], sets: Sequence[SourceSet]) -> tuple[SourceSet, FileRecipe] | None:
    """The set and recipe whose `columns` are all there: most columns first."""
    best: tuple[SourceSet, FileRecipe] | None = None
    for source in sets:
        for recipe in source.files:
            wanted = set(recipe.columns)
            if wanted and wanted <= set(columns) and (best is None or len(wanted) > len(best[1].columns)):
                best = source, recipe
    return best


def fill(template: str, row: Mapping[str, object]) -> str:
    """`template` with `{column}` replaced; only plain names, so a template from outside can reach nothing else."""
    out = template
    for name in row:
        out = out.replace("{" + str(name) + "}", str(row[name]))
    return out
