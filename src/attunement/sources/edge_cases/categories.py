"""The categories of edge cases and the grid of scenarios, from `edge_cases.toml` and from files of the user's in the same form."""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from attunement.errors import DataError

AGE_BANDS = ("adolescent", "young_adult", "adult", "older_adult")
COURSES = ("de_escalates", "escalates", "ruptures_and_repairs")
ATTACHMENTS = ("secure", "anxious", "avoidant", "disorganised")
AgeBand = Literal["adolescent", "young_adult", "adult", "older_adult"]
Course = Literal["de_escalates", "escalates", "ruptures_and_repairs"]
Attachment = Literal["secure", "anxious", "avoidant", "disorganised"]


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Category(_Read):
    """One kind of hard conversation; the fields are told in `edge_cases.toml`."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    difficulty_level: Literal["moderate", "high", "very_high"]
    expected_challenges: list[str] = Field(min_length=1)
    clinical_review: Literal["always", "when_flagged"]
    good_practice: list[str] = Field(min_length=1)
    never: list[str] = Field(min_length=1)
    never_patterns: list[str] = []
    age_bands: list[AgeBand] = []
    settings: list[str] = []

    @field_validator("never_patterns")
    @classmethod
    def _compiles(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from error
        return patterns


class Grid(_Read):
    """What scenarios vary over."""

    courses: list[Course]
    attachments: list[Attachment]
    genders: list[str]
    settings: list[str]
    cultures: list[str]
    histories: list[str]
    speech: list[str]
    ages: dict[AgeBand, list[int]]


class Categories(_Read):
    """A whole file. A file of the user's needs no grid: then the packaged one serves."""

    category: list[Category] = Field(min_length=1)
    grid: Grid | None = None


@cache
def packaged() -> Categories:
    """The 25 categories."""
    text = resources.files("attunement.sources.edge_cases").joinpath("categories.toml").read_text(encoding="utf-8")
    return _parse(text, "edge_cases.toml")


def load_categories(path: Path | None = None) -> tuple[dict[str, Category], Grid]:
    """The packaged categories by id, those of `path` over them, and the grid. Raises `DataError` with one clear line."""
    base = packaged()
    found = {category.id: category for category in base.category}
    assert base.grid is not None
    if path is None:
        return found, base.grid
    try:
        own = _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise DataError(f"cannot read the categories {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8: save it again as UTF-8") from error
    return found | {category.id: category for category in own.category}, own.grid or base.grid


def _parse(text: str, where: str) -> Categories:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where} is not valid TOML: {error}") from error
    try:
        found = Categories.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{where}: {_told(error, raw)}") from error
    ids = [category.id for category in found.category]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise DataError(f"{where}: the category '{twice}' stands there twice")
    return found


def _told(error: ValidationError, raw: dict[str, Any]) -> str:
    """The first fault: in which category, which key, what is wrong, and the nearest right word."""
    fault = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a typo explains the key that is missing
    place = [str(part) for part in fault["loc"]]
    kind: type[BaseModel] = Categories
    where = ""
    if place[0] == "category" and len(place) > 1:
        kind, row = Category, raw["category"][int(place[1])]
        name = row.get("id") if isinstance(row, dict) else None
        where, place = (f"category '{name}': " if name else f"category number {int(place[1]) + 1}: "), place[2:]
    elif place[0] == "grid" and len(place) > 1:
        kind, where, place = Grid, "grid: ", place[1:]
    key = ".".join(place)
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, kind.model_fields, n=1, cutoff=0.0)
        return f"{where}unknown key '{key}'; did you mean '{near[0]}'?"
    if fault["type"] == "missing":
        return f"{where}'{key}' is missing"
    return f"{where}'{key}': {fault['msg']}, got {fault['input']!r}"[:400]
