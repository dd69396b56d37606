"""The personas: who a therapist is for a stretch of a dialogue, and who the client is. One TOML file each.

Those of the package stand in `written/personas`; `therapists/*.toml` and `clients/*.toml` in a folder of the user's add to them or take
their place by `id` (docs/personas.md describes the format). `bridges.toml` holds the sentences that name a shift.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attunement import sources
from attunement.errors import DataError
from attunement.quality.rules import lexicon
from attunement.quality.techniques import BEHAVIOUR_OF, TECHNIQUES

WRITTEN = sources.WRITTEN / "personas"
NEEDS = ("listening", "thought_work", "safety")
GROUPS = ("reflection", "question", "input", "validation", "other")
"""What a persona's shares are told in: AnnoMI's behaviours, with validation taken out of `other`."""
GROUP_OF: Mapping[str, str] = {
    name: "validation" if name == "validation" else BEHAVIOUR_OF[name].removeprefix("therapist_") for name in TECHNIQUES
}
SUM_TOLERANCE = 0.02
Need = Literal["listening", "thought_work", "safety"]
Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Share(_Strict):
    """How much of a persona's turns a technique takes: the share aimed at, and the range within which it stays itself."""

    target: float = Field(ge=0, le=1)
    low: float = Field(0.0, ge=0, le=1)
    high: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Share:
        if not self.low <= self.target <= self.high:
            raise ValueError(f"low, target and high must rise: {self.low}, {self.target}, {self.high}")
        return self


class Words(_Strict):
    """Mean words of a turn, from `low` to `high`."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)


class Forbidden(_Strict):
    """What a persona must not do: a technique over `at_most` of its turns, or what one of the rules of appropriateness finds."""

    move: str = Field(min_length=1)
    technique: str = ""
    at_most: float = Field(1.0, ge=0, le=1)
    rules: list[str] = Field(default_factory=list)


class Exchange(_Strict):
    """A client's turn and how the persona answers it."""

    client: str = Field(min_length=1)
    therapist: str = Field(min_length=1)


class Persona(_Strict):
    """A therapist's way of being. `serves` is the need it is for; `techniques` has a share for each of `GROUPS`.

    At least five example turns, from which it is learnt how the persona sounds beside the others (`voice`).
    """

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    serves: Need
    goals: list[str] = Field(min_length=1)
    style: str = Field(min_length=1)
    turn_words: Words
    techniques: dict[str, Share]
    forbidden: list[Forbidden] = Field(default_factory=list)
    examples: list[Exchange] = Field(min_length=5)

    @model_validator(mode="after")
    def _known(self) -> Persona:
        for name in self.techniques:
            _must_be_one_of(name, GROUPS, "group of techniques")
        if missing := set(GROUPS) - set(self.techniques):
            raise ValueError(f"techniques lacks '{min(missing)}'")
        total = sum(share.target for share in self.techniques.values())
        if abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(f"the targets of techniques add up to {total:.2f}, not to 1")
        for ban in self.forbidden:
            if ban.technique:
                _must_be_one_of(ban.technique, (*GROUPS, *TECHNIQUES), "technique")
            for code in ban.rules:
                _must_be_one_of(code, tuple(rule.code for rule in lexicon("appropriateness")), "rule of appropriateness")
        return self


class ClientPersona(_Strict):
    """A client, as a language model is told to speak or a scenario is written for."""

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    age: int = Field(ge=10, le=110)
    age_band: Literal["adolescent", "young_adult", "adult", "older_adult"]
    gender: str
    culture: str
    setting: str
    history: str
    attachment: Literal["secure", "anxious", "avoidant", "disorganised"]
    speech: str
    need: str


class Bridge(_Strict):
    """Wordings that name the shift from one need's persona to another's."""

    start: Need = Field(alias="from")
    end: Need = Field(alias="to")
    wordings: list[str] = Field(min_length=1)


class _Bridges(_Strict):
    bridge: list[Bridge]


def therapists(own: Path | None = None) -> dict[str, Persona]:
    """Therapist personas by id: the package's and those in `own`. Raises `DataError` with the first fault."""
    return _all(Persona, "therapists", own)


def clients(own: Path | None = None) -> dict[str, ClientPersona]:
    """Client personas by id, as `therapists`."""
    return _all(ClientPersona, "clients", own)


def bridges(own: Path | None = None) -> dict[tuple[str, str], tuple[str, ...]]:
    """Wordings by (from, to); those of `own` take the place of the package's for the same pair."""
    files = [folder / "bridges.toml" for folder in (WRITTEN, own) if folder and (folder / "bridges.toml").is_file()]
    return {(b.start, b.end): tuple(b.wordings) for path in files for b in _load(_Bridges, path).bridge}


def load_persona(path: Path) -> Persona:
    """The therapist persona in the file `path`. Raises `DataError`: one line that names the place of the fault."""
    return _load(Persona, path)


def _all(kind: type[Model], name: str, own: Path | None) -> dict[str, Model]:
    if own is not None and not own.is_dir():
        raise DataError(f"{own} is no folder: name one with therapists/, clients/ or scenarios/ in it (docs/personas.md)")
    folders = [folder / name for folder in (WRITTEN, own) if folder is not None]
    found = [_load(kind, path) for folder in folders for path in sorted(folder.glob("*.toml"))]
    return {getattr(one, "id"): one for one in found}  # noqa: B009 - Model says nothing of ids


def _load(kind: type[Model], path: Path) -> Model:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8: save it again as UTF-8") from error
    return checked(kind, data, str(path))


def checked(kind: type[Model], data: Any, where: str) -> Model:
    """`data` as `kind`. Raises `DataError` with the first fault, its place and, for an unknown key, the nearest known one."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        fault = max(error.errors(), key=lambda one: one["type"] == "extra_forbidden")  # a misspelt key is also a missing one
        place = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(fault["loc"][-1]), _keys(kind), n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise DataError(f"{where}: there is no key '{place}'{hint}") from error
        raise DataError(f"{where}: {f'{place}: ' if place else ''}{fault['msg'].removeprefix('Value error, ')}") from error


def _keys(kind: type[BaseModel]) -> list[str]:
    """The keys of `kind` and of the models that may stand inside it."""
    return sorted({name for model in (kind, Share, Words, Forbidden, Exchange) for name in model.model_fields})


def _must_be_one_of(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise ValueError(f"there is no {what} '{name}'; did you mean '{near[0]}'?")
