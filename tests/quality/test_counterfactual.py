"""Counterfactual bias: terms change sensibly, chance counts as nothing, a biased model is found with its axis and direction."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunement.errors import DataError
from attunement.quality.counterfactual import METRICS, Reading, measure, swaps, templates


def by_axis(text: str) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for swap in swaps(text):
        out.setdefault(swap.axis, []).append(swap.text)
    return out


@pytest.mark.parametrize(
    ("text", "axis", "expected"),
    [
        ("My husband said he hurt himself.", "gender", "My wife said she hurt herself."),
        ("I saw her yesterday and took her coat.", "gender", "I saw him yesterday and took his coat."),
        ("He told HIS mother.", "gender", "She told HER father."),
        ("I am an old teacher.", "age", "I am a young teacher."),
        ("A muslim friend.", "religion", "An atheist friend."),
        ("I'm an unemployed cook.", "class", "I'm a self-employed cook."),
        ("The Mexican neighbours.", "origin", "The American neighbours."),
    ],
)
def test_terms_are_exchanged_with_their_grammar(text: str, axis: str, expected: str) -> None:
    assert expected in by_axis(text)[axis]


@pytest.mark.parametrize(
    "text", ["I drank black coffee with an old friend.", "Heather ate the theme.", "", "I cannot think straight."]
)
def test_other_words_stay(text: str) -> None:
    assert swaps(text) == []


def test_spans_point_at_the_first_term_and_order_is_fixed() -> None:
    text = "Well, my Sister is a gay immigrant."
    found = swaps(text)
    assert {text[a:b].casefold() for a, b in (s.span for s in found)} == {"sister", "gay", "immigrant"}
    assert found == swaps(text) and all(s.text != text for s in found)
    assert len({s.axis for t in templates() for s in swaps(t)}) == 8 and len(templates()) == 24


@given(st.lists(st.sampled_from(["he", "ran", "Boys", "and", "girl", "uncle", "MEN", "far", "."]), max_size=8).map(" ".join))
def test_exchanging_twice_gives_the_text_back(text: str) -> None:
    for swap in swaps(text):
        assert text in by_axis(swap.text)["gender"]


@given(st.text(max_size=60))
def test_any_text_is_taken(text: str) -> None:
    swaps(text)


def read_of(noise: float) -> object:
    """Readings that the fake replies spell out: 'words empathy seed'."""

    def read(replies: list[str]) -> list[Reading]:
        out = []
        for text in replies:
            words, empathy, seed = text.split()
            chance = np.random.default_rng(int(seed))
            vector = np.ones(8) + noise * chance.normal(size=8)
            out.append(Reading(vector / np.linalg.norm(vector), int(words), 0.1, float(empathy), 0.2, 0.0))
        return out

    return read


@pytest.mark.parametrize("seed", range(20))
def test_chance_is_not_bias(seed: int) -> None:
    def reply(prompt: str, sample: int) -> str:
        chance = random.Random(f"{prompt}{sample}{seed}")
        return f"{chance.randint(10, 60)} {chance.random():.3f} {chance.randrange(10**6)}"

    report = measure(templates(), reply, read_of(0.3), samples=4)  # type: ignore[arg-type]
    assert not report.biased and report.prompts == 24 and report.overall["length"].null > 0.3


def test_a_model_that_is_colder_to_women_is_found_with_axis_and_direction() -> None:
    prompts = [t for t in templates() if "gender" in by_axis(t)]
    assert len(prompts) >= 8

    def reply(prompt: str, sample: int) -> str:
        words = set(prompt.lower().replace(".", "").split())
        cold = bool(words & {"woman", "wife", "mother", "sister", "daughter", "girlfriend", "she", "her"})
        chance = random.Random(f"{prompt}{sample}")
        return f"{20 + chance.randint(0, 3)} {0.2 if cold else 0.8 + chance.random() / 20} {sample}"

    report = measure(prompts, reply, read_of(0.0))  # type: ignore[arg-type]
    assert report.biased and report.by_axis["gender"]["empathy"].low > 0.3 and report.score == 1.0
    assert {f["axis"] for f in report.findings[:8]} == {"gender"} and report.findings[0]["metric"] == "empathy"
    to_women = [f for f in report.findings if f["metric"] == "empathy" and f["term"] in ("father", "brother", "son", "husband")]
    assert to_women and all(f["signed"] < 0 for f in to_women)
    assert measure(prompts, reply, read_of(0.0)) == report  # type: ignore[arg-type]


def test_a_model_that_answers_alike_scores_nothing_and_bad_use_is_told() -> None:
    report = measure(templates(), lambda prompt, seed: "20 0.5 1", read_of(0.0))  # type: ignore[arg-type]
    assert report.score == 0 and not report.biased and report.findings == [] and set(report.overall) == set(METRICS)
    empty = measure(["Nothing is named here."], lambda prompt, seed: "20 0.5 1", read_of(0.0))  # type: ignore[arg-type]
    assert empty.prompts == 0 and empty.score is None and not empty.biased
    with pytest.raises(DataError, match="at least two replies"):
        measure(templates(), lambda prompt, seed: "20 0.5 1", read_of(0.0), samples=1)  # type: ignore[arg-type]
