"""Persona, client, bridge and scenario files: the shipped ones are whole, and a fault gets one line that names its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.quality.appropriateness import blocked_by_rules
from attunement.sources.personas import files as persona_files
from attunement.sources.personas.files import NEEDS, WRITTEN, bridges, clients, load_persona, therapists
from attunement.sources.personas.scenarios import scenarios

LISTENER = WRITTEN / "therapists" / "empathic_listener.toml"


def test_the_shipped_personas_serve_every_need() -> None:
    found = therapists()
    assert set(found) == {"empathic_listener", "cognitive_restructurer", "crisis_interventionist"}
    assert {persona.serves for persona in found.values()} == set(NEEDS)
    assert all(len(persona.examples) >= 12 and persona.goals and persona.forbidden for persona in found.values())


def test_clients_are_varied_and_each_has_a_scenario() -> None:
    found = clients()
    assert len(found) >= 10 and {c.attachment for c in found.values()} == {"secure", "anxious", "avoidant", "disorganised"}
    assert {c.age_band for c in found.values()} == {"adolescent", "young_adult", "adult", "older_adult"}
    assert len({c.culture for c in found.values()}) == len(found) and len({c.gender for c in found.values()}) == 3
    assert {s.client for s in scenarios(None, found).values()} == set(found)


def test_every_switch_has_many_bridges() -> None:
    pairs = {(a, b) for a in NEEDS for b in NEEDS if a != b}
    assert set(bridges()) == pairs and all(len(set(wordings)) >= 6 for wordings in bridges().values())
    assert all(not wording.endswith("?") for wordings in bridges().values() for wording in wordings), "a bridge asks nothing"


def test_scenarios_are_written_twice_and_say_nothing_that_must_never_be_said() -> None:
    found = list(scenarios().values())
    assert len(found) >= 12
    for scenario in found:
        played = {name for course in scenario.courses for name in course}
        assert played == set(scenario.phases) and {p.need for p in scenario.phases.values()} >= set(NEEDS)
        for phase in scenario.phases.values():
            for beat in phase.beats:
                assert len(set(beat.client)) >= 2 and len(set(beat.therapist)) >= 2
                assert not [t for t in beat.therapist if blocked_by_rules(t)], scenario.id
                assert not re.search(r"\d{3}|\d ?mg\b|https?:", " ".join([*beat.client, *beat.therapist])), scenario.id


def broken(tmp_path: Path, old: str, new: str) -> Path:
    text = LISTENER.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return tmp_path / "mine.toml"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("serves =", "servs =", "there is no key 'servs'; did you mean 'serves'?"),
        ('serves = "listening"', 'serves = "listning"', "serves: Input should be 'listening'"),
        ("validation = {", "validaton = {", "there is no group of techniques 'validaton'; did you mean 'validation'?"),
        ("target = 0.62", "target = 0.92", "add up to 1.30, not to 1"),
        ("low = 0.3, high = 1.0", "low = 0.7, high = 1.0", "low, target and high must rise"),
        ('technique = "advice"', 'technique = "advise"', "there is no technique 'advise'; did you mean 'advice'?"),
        ('"dismisses"', '"dismises"', "there is no rule of appropriateness 'dismises'; did you mean 'dismisses'?"),
        ("[turn_words]", "[turn_words", "is not valid TOML"),
        ("at_most = 0.15", "at_mos = 0.15", "there is no key 'forbidden.0.at_mos'; did you mean 'at_most'?"),
    ],
)
def test_a_typo_gets_one_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(DataError) as error:
        load_persona(broken(tmp_path, old, new))
    assert told in str(error.value) and "mine.toml" in str(error.value) and "\n" not in str(error.value)


def test_own_files_add_and_replace(tmp_path: Path) -> None:
    (tmp_path / "therapists").mkdir()
    text = LISTENER.read_text(encoding="utf-8")
    (tmp_path / "therapists" / "a.toml").write_text(
        text.replace('id = "empathic_listener"', 'id = "quiet_one"'), encoding="utf-8"
    )
    (tmp_path / "therapists" / "b.toml").write_text(text.replace("Empathic listener", "Ours"), encoding="utf-8")
    found = therapists(tmp_path)
    assert set(found) == {*therapists(), "quiet_one"} and found["empathic_listener"].name == "Ours"
    with pytest.raises(DataError, match="is no folder"):
        therapists(tmp_path / "nowhere")


def test_a_scenario_that_cannot_be_walked_is_told(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    source = json.loads((WRITTEN / "scenarios" / "tom-farm.json").read_text(encoding="utf-8"))
    path = tmp_path / "scenarios" / "mine.json"
    for change, told in (
        ({"courses": [["listening", "thougth_work"]]}, "names the phase 'thougth_work', which is not there"),
        ({"courses": [["calm"]]}, "must begin with a phase that has a need"),
        ({"client": "tim"}, "there is no client 'tim'"),
    ):
        path.write_text(json.dumps({**source, **change}), encoding="utf-8")
        with pytest.raises(DataError, match=told):
            scenarios(tmp_path, clients())
    path.write_text('{"id": ', encoding="utf-8")
    with pytest.raises(DataError, match="not valid JSON"):
        scenarios(tmp_path)


def test_every_group_has_its_techniques() -> None:
    assert set(persona_files.GROUP_OF.values()) == set(persona_files.GROUPS)
