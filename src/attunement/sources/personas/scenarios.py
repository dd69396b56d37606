"""Scenarios: what a client brings, in phases that each have a need, with beats that were written by hand.

A beat is a client's turn with the turn of the therapist persona that serves the phase's need, each in several wordings that may be
exchanged for one another. A course names the phases that one dialogue goes through. One JSON file a scenario.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from attunement.errors import DataError
from attunement.sources.personas.files import WRITTEN, ClientPersona, checked


class Beat(BaseModel):
    """One moment: what the client may say, and how it may be answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client: list[str] = Field(min_length=1)
    therapist: list[str] = Field(min_length=1)


class Phase(BaseModel):
    """A stretch with one need; `need` '' goes on with that of the phase before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    need: Literal["listening", "thought_work", "safety", ""] = ""
    beats: list[Beat] = Field(min_length=1)


class Scenario(BaseModel):
    """What one client brings: `client` is the id of a client persona."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    client: str = Field(min_length=1)
    title: str
    courses: list[list[str]] = Field(min_length=1)
    phases: dict[str, Phase]

    @model_validator(mode="after")
    def _courses_are_walkable(self) -> Scenario:
        for course in self.courses:
            for name in course:
                if name not in self.phases:
                    raise ValueError(f"a course names the phase '{name}', which is not there")
            if not course or not self.phases[course[0]].need:
                raise ValueError("a course must begin with a phase that has a need")
        return self

    def needs_of(self, course: list[str]) -> list[str]:
        """The need in force in each phase of `course`."""
        out: list[str] = []
        for name in course:
            out.append(self.phases[name].need or out[-1])
        return out


def scenarios(own: Path | None = None, clients: dict[str, ClientPersona] | None = None) -> dict[str, Scenario]:
    """Scenarios by id: the package's, and those in `own/scenarios`. Raises `DataError` with the first fault.

    With `clients`, each scenario's client must be one of them.
    """
    folders = [folder / "scenarios" for folder in (WRITTEN, own) if folder is not None]
    found = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not valid JSON: {error}") from error
        scenario = checked(Scenario, data, str(path))
        if clients is not None and scenario.client not in clients:
            raise DataError(f"{path}: there is no client '{scenario.client}': write clients/{scenario.client}.toml beside it")
        found[scenario.id] = scenario
    return found
