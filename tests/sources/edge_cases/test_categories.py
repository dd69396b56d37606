"""The 25 categories as the contract fixes them, and a file of the user's with a typo."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.sources.edge_cases.categories import load_categories

OWN = """
[[category]]
id = "suicidality"
title = "Our own"
difficulty_level = "high"
expected_challenges = ["a"]
clinical_review = "always"
good_practice = ["asks"]
never = ["argues"]
"""


def test_the_categories_are_the_contracts() -> None:
    found, _ = load_categories()
    assert len(found) == 25
    levels = {level: [c.id for c in found.values() if c.difficulty_level == level] for level in ("very_high", "high", "moderate")}
    assert {level: len(ids) for level, ids in levels.items()} == {"very_high": 5, "high": 10, "moderate": 10}
    reviewed = {c.id for c in found.values() if c.clinical_review == "always"}
    assert reviewed == {
        "suicidality", "homicidal_ideation", "psychotic_episode", "child_abuse_reporting", "substance_abuse_crisis",
        "borderline_crisis", "domestic_violence", "eating_disorder", "sexual_trauma_disclosure", "elder_abuse",
        "religious_delusions", "complicated_grief", "chronic_pain_despair",
    }  # fmt: skip
    assert found["stalking_harassment"].expected_challenges == ["safety_measures", "documentation", "legal_resources"]


def test_a_file_of_ones_own_replaces_and_adds(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN + OWN.replace('id = "suicidality"', 'id = "gambling"'), encoding="utf-8")
    found, _ = load_categories(path)
    assert len(found) == 26 and found["suicidality"].title == "Our own" and "gambling" in found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("difficulty_level", "dificulty_level"),
            "category 'suicidality': unknown key 'dificulty_level'; did you mean 'difficulty_level'?",
        ),
        (
            ('"high"', '"hihg"'),
            "category 'suicidality': 'difficulty_level': Input should be 'moderate', 'high' or 'very_high', got 'hihg'",
        ),
        (('never = ["argues"]\n', ""), "category 'suicidality': 'never' is missing"),
        (('never = ["argues"]', 'never = ["argues"]\nnever_patterns = ["("]'), "'(' is no regular expression"),
        (("[[category]]", "[[categry]]"), "unknown key 'categry'; did you mean 'category'?"),
        (("[[category]]", "[[category]"), "is not valid TOML"),
        (('id = "suicidality"', 'id = "Too Bad"'), "'id'"),
    ],
)
def test_a_typo_is_one_clear_line(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(*change), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_categories(path)
    assert told in str(caught.value) and "own.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN + OWN, encoding="utf-8")
    with pytest.raises(DataError, match="'suicidality' stands there twice"):
        load_categories(path)
