"""Conversations that people have written: a file of beats for each category, and walks through them.

A beat is one client turn with the therapist turn that answers it, each in several wordings. A walk goes from an opening along
`after` to a closing, over beats that may stand in its course and that its person could say. `faults` tells what is wrong with a
file: a test holds every shipped one to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attunement import sources
from attunement.errors import DataError
from attunement.sources.edge_cases.categories import COURSES, AgeBand, Attachment, Course

STAGES = ("opening", "exploring", "crux", "course", "closing")
Stage = Literal["opening", "exploring", "crux", "course", "closing"]
SLOTS = {"name", "age"}
LEAST_PROFILES, LEAST_BEATS, LEAST_WORDINGS, LEAST_FOLLOWERS = 6, 16, 2, 2
WRITTEN = sources.WRITTEN / "edge_cases"


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Profile(_Read):
    """A person. All but `id` and `name` goes into the scenario."""

    id: str
    name: str
    age: str
    age_band: AgeBand
    gender: str
    culture: str
    setting: str
    history: str
    attachment: Attachment
    speech: str


class Beat(_Read):
    """A moment. Without `profiles` everybody could say it; without `learn` the therapist's turn is a slip that the talk mends."""

    id: str
    stage: Stage
    courses: list[Course] = Field(min_length=1)
    profiles: list[str] | None = None
    client: list[str] = Field(min_length=1)
    therapist: list[str] = Field(min_length=1)
    after: list[str] = []
    learn: bool = True

    def fits(self, profile: str, course: str) -> bool:
        return course in self.courses and (self.profiles is None or profile in self.profiles)


@dataclass(frozen=True)
class Step:
    """A beat with the wordings that were drawn."""

    beat: Beat
    client: int
    therapist: int


class Grammar(_Read):
    """The beats of one category and the people who speak them."""

    category: str
    profiles: list[Profile] = Field(min_length=1)
    beats: list[Beat] = Field(min_length=1)

    @cached_property
    def by_id(self) -> dict[str, Beat]:
        return {beat.id: beat for beat in self.beats}

    def profile(self, name: str) -> Profile:
        return next(profile for profile in self.profiles if profile.id == name)

    def followers(self, beat: Beat, profile: str, course: str) -> list[Beat]:
        """The beats that may come next and from which a closing can be reached."""
        return [self.by_id[name] for name in beat.after if name in self._leading(profile, course)]

    def openings(self, profile: str, course: str) -> list[Beat]:
        leading = self._leading(profile, course)
        return [beat for beat in self.beats if beat.stage == "opening" and beat.id in leading]

    def _leading(self, profile: str, course: str) -> set[str]:
        """The beats from which this person, in this course, reaches a closing."""
        fitting = [beat for beat in self.beats if beat.fits(profile, course)]
        found = {beat.id for beat in fitting if beat.stage == "closing"}
        while more := {beat.id for beat in fitting if beat.id not in found and found & set(beat.after)}:
            found |= more
        return found

    def walk(self, profile: str, course: str, rng: Random) -> list[Step]:
        """One walk, drawn at random; empty where there is none."""
        steps: list[Step] = []
        choices = self.openings(profile, course)
        while choices:
            beat = rng.choice(choices)
            steps.append(Step(beat, rng.randrange(len(beat.client)), rng.randrange(len(beat.therapist))))
            choices = self.followers(beat, profile, course)
        return steps

    def spoken(self, profile: str, steps: list[Step]) -> list[tuple[str, str]]:
        """(role, text) of a walk, with the person's facts in place."""
        person = self.profile(profile)
        facts = {"{name}": person.name, "{age}": person.age}
        turns = []
        for step in steps:
            for role, text in (("client", step.beat.client[step.client]), ("therapist", step.beat.therapist[step.therapist])):
                for slot, fact in facts.items():
                    text = text.replace(slot, fact)
                turns.append((role, text))
        return turns


def load_grammar(path: Path) -> Grammar:
    """The grammar in `path`. Raises `DataError` with one line that names the place."""
    try:
        found = Grammar.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"cannot read the written scenarios {path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}") from error
    if wrong := next(faults(found), None):
        raise DataError(f"{path}: {wrong}")
    return found


def faults(grammar: Grammar) -> Iterator[str]:
    """What would make a walk break or read wrongly: one line a fault, the plainest first."""
    yield from _named_wrongly(grammar)
    if list(_named_wrongly(grammar)):  # what follows asks for beats by name
        return
    yield from _order(grammar)
    if cycle := _cycle(grammar):
        yield f"the beats {' -> '.join(cycle)} go in a circle"
        return
    yield from _unreached(grammar)


def shortcomings(grammar: Grammar) -> Iterator[str]:
    """Where a file is too small for twenty conversations that differ: no break, but less than a shipped one must have."""
    if len(grammar.profiles) < LEAST_PROFILES:
        yield f"has {len(grammar.profiles)} profiles, at least {LEAST_PROFILES} are wanted"
    if len(grammar.beats) < LEAST_BEATS:
        yield f"has {len(grammar.beats)} beats, at least {LEAST_BEATS} are wanted"
    for beat in grammar.beats:
        if min(len(beat.client), len(beat.therapist)) < LEAST_WORDINGS:
            yield f"beat {beat.id} has fewer than {LEAST_WORDINGS} wordings on a side"
        for course in beat.courses if beat.stage != "closing" else ():
            if sum(course in grammar.by_id[name].courses for name in beat.after) < LEAST_FOLLOWERS:
                yield f"beat {beat.id} has fewer than {LEAST_FOLLOWERS} followers in the course {course}"


def _named_wrongly(grammar: Grammar) -> Iterator[str]:
    people = [profile.id for profile in grammar.profiles]
    names = [beat.id for beat in grammar.beats]
    for kind, ids in (("profile", people), ("beat", names)):
        yield from (f"the {kind} {name} stands there twice" for name in sorted({n for n in ids if ids.count(n) > 1}))
    for beat in grammar.beats:
        yield from (f"beat {beat.id} names the profile {p}, which is not there" for p in beat.profiles or () if p not in people)
        yield from (
            f"beat {beat.id} names the beat {name} in `after`, which is not there" for name in beat.after if name not in names
        )
        for text in (*beat.client, *beat.therapist):
            if not text.strip():
                yield f"beat {beat.id} has an empty wording"
            yield from (
                f"beat {beat.id} has the slot {{{s}}}, which nothing fills"
                for s in re.findall(r"\{([^{}]*)\}", text)
                if s not in SLOTS
            )


def _order(grammar: Grammar) -> Iterator[str]:
    for beat in grammar.beats:
        if beat.stage == "closing" and beat.after:
            yield f"beat {beat.id} is a closing and goes on"
        for name in beat.after:
            if STAGES.index(grammar.by_id[name].stage) < STAGES.index(beat.stage):
                yield f"beat {beat.id} ({beat.stage}) goes back to {name} ({grammar.by_id[name].stage})"


def _cycle(grammar: Grammar) -> list[str]:
    """A circle of beats, if there is one."""
    state: dict[str, int] = {}

    def visit(name: str, trail: list[str]) -> list[str]:
        if state.get(name) == 1:
            return [*trail[trail.index(name) :], name]
        if name in state:
            return []
        state[name] = 1
        for other in grammar.by_id[name].after:
            if found := visit(other, [*trail, name]):
                return found
        state[name] = 2
        return []

    return next((found for beat in grammar.beats if (found := visit(beat.id, []))), [])


def _unreached(grammar: Grammar) -> Iterator[str]:
    """Each person has a walk in each course without a dead end, and each beat is said by somebody."""
    said: set[str] = set()
    for person in (profile.id for profile in grammar.profiles):
        for course in COURSES:
            leading, todo = grammar._leading(person, course), [b.id for b in grammar.openings(person, course)]
            if not todo:
                yield f"profile {person} has no walk from an opening to a closing in the course {course}"
            seen: set[str] = set()
            while todo:
                if (name := todo.pop()) not in seen:
                    seen.add(name)
                    todo += [b.id for b in grammar.followers(grammar.by_id[name], person, course)]
            said |= seen & leading
    yield from (f"beat {beat.id} is never reached" for beat in grammar.beats if beat.id not in said)
