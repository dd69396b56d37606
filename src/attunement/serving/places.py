"""Where a person is: whom they can call in danger (`help_lines.toml`), and what the law there asks (`jurisdictions.toml`).

Both are data with sources and the day of their last review; a deployment reviews its own entries and may name files of its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attunement.errors import ConfigError, ServiceError

ELSEWHERE, DEFAULT = "INT", "default"
REVIEW_DAYS = 183
"""An entry that nobody reviewed for longer is told of at the start of the service."""


class Line(BaseModel):
    """A service to talk with. `hours` is empty for around the clock."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    how: str
    source: str
    hours: str = ""


class Region(BaseModel):
    """Whom to call in a region."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    emergency: str
    lines: list[Line]
    reviewed: date

    @property
    def told(self) -> str:
        """As it stands in a message."""
        lines = "; ".join(f"{x.name}{f': {x.how}' if x.how else ''}{f' ({x.hours})' if x.hours else ''}" for x in self.lines)
        return f"In danger to life call {self.emergency}. To talk with someone{' at any hour' if self._always else ''}: {lines}."

    @property
    def _always(self) -> bool:
        return all(not line.hours for line in self.lines)


class Disclosure(BaseModel):
    """When a person is told that this is no human."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: bool = True
    asked: bool = True
    idle_days: float | None = Field(None, gt=0)
    hours: float | None = Field(None, gt=0)


class Jurisdiction(BaseModel):
    """What the law of a place asks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    mode: Literal["supervised", "refused"]
    disclose: Disclosure
    law: str
    source: str
    reviewed: date
    report: list[Literal["crisis_referrals"]] = []


class _Regions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    regions: dict[str, Region]


class _Jurisdictions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    places: dict[str, Jurisdiction]


@dataclass(frozen=True)
class Places:
    """The two files. Regions are ISO 3166 codes: `US`, `US-IL`; a part of a country without an entry is as its country."""

    regions: Mapping[str, Region]
    jurisdictions: Mapping[str, Jurisdiction]

    @classmethod
    def load(cls, help_lines: Path | None = None, jurisdictions: Path | None = None) -> Places:
        """The files given, or the packaged ones. Raises `ConfigError`."""
        regions = _read(_Regions, help_lines, "help_lines.toml", "serving.help_lines").regions
        places = _read(_Jurisdictions, jurisdictions, "jurisdictions.toml", "serving.jurisdictions").places
        for there, needed, name in ((regions, ELSEWHERE, "regions"), (places, DEFAULT, "places")):
            if needed not in there:
                raise ConfigError(f"the file of {name} has no [{name}.{needed}], for those who are in none of the others")
        return cls(regions, places)

    def check(self, region: str) -> str:
        """A code as the files write it. Raises `ServiceError` for what is no code of a country or its part."""
        code = region.strip().upper()
        country, _, part = code.partition("-")
        if code and not (len(country) == 2 and country.isascii() and country.isalpha() and len(part) <= 3 and code.isascii()):
            raise ServiceError("region must be a code of ISO 3166, as US or US-IL")
        return code

    def region(self, code: str) -> Region:
        """Whom to call there."""
        return self.regions.get(code) or self.regions.get(code.partition("-")[0]) or self.regions[ELSEWHERE]

    def jurisdiction(self, code: str) -> Jurisdiction:
        """What the law there asks."""
        return self.jurisdictions.get(code) or self.jurisdictions.get(code.partition("-")[0]) or self.jurisdictions[DEFAULT]

    def overdue(self, today: date, codes: Sequence[str]) -> list[str]:
        """Of the entries for `codes` those that were reviewed more than `REVIEW_DAYS` ago, in words."""
        found: dict[str, date] = {}
        for code in codes:
            region, law = self.region(code), self.jurisdiction(code)
            found[f"the help lines of {region.name}"] = region.reviewed
            found[f"the law of {law.name}"] = law.reviewed
        return [
            f"{what} were last reviewed on {day}: check them" if what.startswith("the help") else f"{what} was last reviewed on {day}: check it"
            for what, day in found.items()
            if today - day > timedelta(days=REVIEW_DAYS)
        ]  # fmt: skip

    @cached_property
    def everywhere(self) -> str:
        """For a person of whom nobody knows where they are: the emergency numbers and lines of the most asked regions."""
        chosen = [self.regions[code] for code in ("US", "GB", "AU") if code in self.regions]
        numbers = ", ".join(["112 (Europe)", *(f"{region.emergency} ({region.name})" for region in chosen)])
        lines = ", ".join(f"{region.lines[0].how} ({region.name})" for region in chosen)
        rest = self.regions[ELSEWHERE].lines[0].name
        return f"Emergency: {numbers}. To talk with someone: {lines}; elsewhere {rest}."


def _read(form: Any, path: Path | None, packaged: str, setting: str) -> Any:
    try:
        if path is None:
            text = resources.files("attunement.serving").joinpath(packaged).read_text(encoding="utf-8")
        else:
            text = path.expanduser().read_text(encoding="utf-8")
        return form(**tomllib.loads(text))
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({setting}): {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ConfigError(f"{path} ({setting}) cannot be used: {' '.join(str(error).splitlines()[:3])}") from error
