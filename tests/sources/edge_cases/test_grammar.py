"""The written scenarios: what a file must hold, and walks that read as they were written."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from attunement.errors import DataError
from attunement.sources.edge_cases.categories import COURSES, packaged
from attunement.sources.edge_cases.grammar import STAGES, WRITTEN, Grammar, faults, load_grammar, shortcomings

SMALL = Path(__file__).parent / "written" / "suicidality.json"
SHIPPED = sorted(WRITTEN.glob("*.json"))


def test_a_walk_goes_from_an_opening_to_a_closing() -> None:
    grammar = load_grammar(SMALL)
    for person in grammar.profiles:
        for course in COURSES:
            for draw in range(10):
                steps = grammar.walk(person.id, course, Random(draw))
                assert steps[0].beat.stage == "opening" and steps[-1].beat.stage == "closing"
                assert all(step.beat.fits(person.id, course) for step in steps)
                assert all(b.beat.id in a.beat.after for a, b in itertools.pairwise(steps))
                assert steps == grammar.walk(person.id, course, Random(draw))


def test_facts_of_the_person_stand_in_their_places() -> None:
    grammar = load_grammar(SMALL)
    texts = [
        text
        for draw in range(30)
        for role, text in grammar.spoken("p2", grammar.walk("p2", "escalates", Random(draw)))
        if role == "client"
    ]
    assert any("Name's Idris." in text for text in texts) and not any("{" in text for text in texts)


def beat(grammar: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(b for b in grammar["beats"] if b["id"] == name)
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda g: beat(g, "e1")["after"].append("nowhere"), "beat e1 names the beat nowhere in `after`"),
        (lambda g: beat(g, "e1").update(profiles=["p9"]), "beat e1 names the profile p9"),
        (lambda g: beat(g, "e1")["client"].append("I am {weight} today."), "the slot {weight}, which nothing fills"),
        (lambda g: beat(g, "e1")["client"].append(" "), "beat e1 has an empty wording"),
        (lambda g: beat(g, "d1")["after"].append("e1"), "d1 (course) goes back to e1 (exploring)"),
        (lambda g: beat(g, "z1")["after"].append("z2"), "z1 is a closing and goes on"),
        (lambda g: (beat(g, "e1")["after"].append("e2"), beat(g, "e2")["after"].append("e1")), "go in a circle"),
        (lambda g: beat(g, "s1").update(after=[]), "no walk from an opening to a closing in the course escalates"),
        (lambda g: beat(g, "s1").update(profiles=["p1"]), "profile p2 has no walk"),
        (lambda g: [beat(g, n).update(after=["e2"]) for n in ("o1", "o2")], "beat e1 is never reached"),
        (lambda g: g["beats"].append(beat(g, "z1")), "the beat z1 stands there twice"),
        (lambda g: beat(g, "e1").update(stage="middle"), "stage"),
        (lambda g: g["profiles"][0].pop("age"), "profiles.0.age: Field required"),
    ],
)
def test_a_fault_is_one_line(change: Callable[[dict[str, Any]], Any], told: str, tmp_path: Path) -> None:
    broken = copy.deepcopy(json.loads(SMALL.read_text(encoding="utf-8")))
    change(broken)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_grammar(path)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"category": ', encoding="utf-8")
    with pytest.raises(DataError, match="not valid JSON"):
        load_grammar(path)


def test_a_small_file_is_told_to_be_small() -> None:
    told = list(shortcomings(load_grammar(SMALL)))
    assert "has 3 profiles, at least 6 are wanted" in told and "has 13 beats, at least 16 are wanted" in told


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_file_is_whole(path: Path) -> None:
    grammar = Grammar.model_validate(json.loads(path.read_text(encoding="utf-8")))
    assert grammar.category == path.stem and list(faults(grammar)) == [] and list(shortcomings(grammar)) == []
    assert {stage for b in grammar.beats for stage in [b.stage]} == set(STAGES)
    assert len({p.age_band for p in grammar.profiles}) > 1 or grammar.category in ("adolescent_defiance", "elder_abuse")


def test_every_category_is_written() -> None:
    if not SHIPPED:
        pytest.skip("no written scenarios are in this tree yet")
    assert {path.stem for path in SHIPPED} == {category.id for category in packaged().category}
