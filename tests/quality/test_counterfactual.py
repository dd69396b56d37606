"""Counterfactual bias: terms change sensibly, chance counts as nothing, a biased model is found with its axis and direction."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunement.errors import DataError
from attunement.quality.counterfactual import METRICS, Reading, Reply, groups_named, measure, swaps, templates
from attunement.records import to_dict

AXES = {"gender", "race", "religion", "age", "orientation", "disability", "origin", "class"}


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
        ("Her late mother loved her very much.", "gender", "His late father loved him very much."),
        ("That coat is his, not hers.", "gender", "That coat is hers, not his."),
        ("He told HIS mother.", "gender", "She told HER father."),
        ("He is an aunt's boy's friend.", "gender", "She is an uncle's girl's friend."),
        ("I am an old teacher.", "age", "I am a young teacher."),
        ("A muslim friend.", "religion", "An atheist friend."),
        ("I am a Muslim and the mosque is far.", "religion", "I am a Jewish person and the synagogue is far."),
        ("An atheist friend, and Atheist groups.", "religion", "A Muslim friend, and Muslim groups."),
        ("I am a black man.", "race", "I am an Asian man."),
        ("AN ASIAN MAN", "race", "A WHITE MAN"),
        ("I am an African American woman.", "race", "I am a European American woman."),
        ("I'm an unemployed cook.", "class", "I'm a self-employed cook."),
        ("A working-class cleaner.", "class", "An upper-class lawyer."),
        ("The Mexican neighbours.", "origin", "The American neighbours."),
        ("Our black and Asian friends.", "race", "Our Asian and black friends."),
    ],
)
def test_terms_are_exchanged_with_their_grammar(text: str, axis: str, expected: str) -> None:
    assert expected in by_axis(text)[axis]


@pytest.mark.parametrize(
    "text",
    [
        "I drank black coffee with an old friend.", "Heather ate the theme.", "", "I cannot think straight.", "I polish shoes.",
        "The black dress and my old job.", "I need a cleaner room.", "It took nineteen messages.", "I am 34 years old.", "A white lie.",
        "Poor sleep, blind rage.", "The she-wolf howls.",
    ],
)  # fmt: skip
def test_other_words_stay(text: str) -> None:
    assert swaps(text) == [] and groups_named(text) == {}


def test_a_compound_name_is_of_one_axis() -> None:
    assert set(by_axis("An African American person.")) == {"race"}


def test_a_group_without_a_word_for_a_term_is_left_out() -> None:
    others = {s.other for s in swaps("I am a Muslim and I asked our imam.") if s.axis == "religion"}
    assert others == {"christian", "jewish"}


@pytest.mark.parametrize("text", ["It was hıs.", "BEİ mır", "ſhe said"])
def test_letters_that_only_look_alike_are_no_terms(text: str) -> None:
    assert swaps(text) == []


def test_spans_point_at_the_first_term_and_order_is_fixed() -> None:
    text = "Well, my Sister is a gay immigrant."
    found = swaps(text)
    assert {text[a:b].casefold() for a, b in (s.span for s in found)} == {"sister", "gay", "immigrant"}
    assert found == swaps(text) and all(s.text != text for s in found)
    assert groups_named(text) == {"gender": "sister", "orientation": "gay", "origin": "immigrant"}


def test_the_templates_name_all_axes_three_times_and_each_swap_can_be_undone() -> None:
    assert len(set(templates())) == 24
    assert {s.axis for t in templates()[:8] for s in swaps(t)} == AXES
    assert all(sum(axis in by_axis(t) for t in templates()) >= 3 for axis in AXES)
    for text in templates():
        for swap in swaps(text):
            back = text.replace("a Christian and", "a Christian person and") if "Jewish person" in swap.text else text
            assert back in by_axis(swap.text)[swap.axis]


words = st.lists(
    st.sampled_from(
        [
            "he",
            "ran",
            "Boys",
            "and",
            "girl",
            "uncle",
            "MEN",
            "far",
            ".",
            "homosexual",
            "heterosexual",
            "autistic",
            "Quran",
            "Bible",
        ]
    ),
    max_size=8,
).map(" ".join)


@given(words)
def test_exchanging_twice_gives_the_text_back(text: str) -> None:
    for swap in swaps(text):
        assert text in by_axis(swap.text)[swap.axis]


@given(words, st.sampled_from(["ran", "far", "zzz"]))
def test_what_is_no_term_stays(text: str, word: str) -> None:
    for swap in swaps(f"{word} {text} {word}"):
        assert swap.text.startswith(f"{word} ") and swap.text.endswith(f" {word}")
        assert swap.text.split().count(word) == text.split().count(word) + 2


@given(st.text(max_size=60))
def test_any_text_is_taken(text: str) -> None:
    assert all(text[slice(*swap.span)].casefold() == swap.term for swap in swaps(text))


def test_a_long_text_takes_no_time() -> None:
    start = time.perf_counter()
    swaps("I am a black man and my old neighbour saw her. " * 500 + " " * 5000 + "a" * 5000)
    assert time.perf_counter() - start < 2


def read_of(noise: float) -> Callable[[Sequence[str]], list[Reading]]:
    """Readings that the fake replies spell out: 'words empathy seed'."""

    def read(replies: Sequence[str]) -> list[Reading]:
        out = []
        for text in replies:
            words, empathy, seed = text.split()
            chance = np.random.default_rng(int(seed))
            vector = np.ones(8) + noise * chance.normal(size=8)
            out.append(Reading((vector / np.linalg.norm(vector)).astype(np.float32), int(words), 0.1, float(empathy), 0.2, 0.0))
        return out

    return read


def by_chance(seed: int) -> Reply:
    def reply(prompt: str, sample: int) -> str:
        chance = random.Random(f"{prompt}{sample}{seed}")
        return f"{chance.randint(10, 60)} {chance.random():.3f} {chance.randrange(10**6)}"

    return reply


WOMEN = {"woman", "wife", "sister", "daughter", "girlfriend", "she", "her"}


def colder_to_women(prompt: str, sample: int) -> str:
    cold = bool(WOMEN & set(prompt.lower().replace(".", "").replace(",", "").split()))
    chance = random.Random(f"{prompt}{sample}")
    return f"{(10 if cold else 20) + chance.randint(0, 3)} {(0.2 if cold else 0.8) + chance.random() / 20} {sample}"


def test_chance_is_not_bias() -> None:
    reports = [measure(templates(), by_chance(seed), read_of(0.3)) for seed in range(60)]
    assert sum(r.biased for r in reports) <= 6  # at most 5 % by construction; 2-3 % measured
    assert all((r.score == 0) == (not r.biased) for r in reports)
    assert np.mean([r.overall["length"].null for r in reports]) > 0.3
    assert abs(np.mean([r.overall["empathy"].excess for r in reports])) < 0.01


def test_a_seed_that_replies_share_does_not_hide_bias() -> None:
    report = measure(templates(), lambda prompt, seed: by_chance(0)("", seed), read_of(0.3))
    assert all(abs(e.excess) < 1e-5 for e in report.overall.values()) and not report.biased


def test_a_model_that_is_colder_to_women_is_found_with_axis_and_direction() -> None:
    report = measure(templates(), colder_to_women, read_of(0.0))
    assert report.biased and report.by_axis["gender"]["empathy"].low > 0.3 and report.score == 1.0
    assert not any(e.low > 0 for axis in AXES - {"gender"} for e in report.by_axis[axis].values())
    assert {f["axis"] for f in report.findings[:7]} == {"gender"} and report.findings[0]["metric"] == "empathy"
    terms = report.by_term["gender"]
    assert all(
        (terms[term]["empathy"] < -0.3) == (term in WOMEN) and (terms[term]["length"] < 0) == (term in WOMEN) for term in terms
    )
    assert measure(templates(), colder_to_women, read_of(0.0)) == report


def test_the_order_of_prompts_and_repeats_change_nothing() -> None:
    there, back = (measure(p, colder_to_women, read_of(0.1)) for p in (templates(), [*templates()[::-1], templates()[0]]))
    assert (there.biased, there.score, there.prompts, there.swaps) == (back.biased, back.score, back.prompts, back.swaps)
    for name, one in there.overall.items():
        assert to_dict(back.overall[name]) == pytest.approx(to_dict(one), abs=2e-6)
    assert [{**f, "prompt": 23 - f["prompt"]} for f in back.findings] == list(there.findings)


def test_an_echoed_term_is_no_difference() -> None:
    seen: list[str] = []

    def read(replies: Sequence[str]) -> list[Reading]:
        seen.extend(replies)
        return [Reading(np.eye(2, dtype=np.float32)[0], len(text), 0.0, 0.5, 0.5, 0.0) for text in replies]

    report = measure(["My wife left.", "I am an old teacher."], lambda prompt, seed: f"So you say: {prompt}", read)
    assert len(set(seen)) == 2 and report.score == 0 and not report.biased


def test_a_model_that_answers_alike_scores_nothing() -> None:
    report = measure(templates(), lambda prompt, seed: "20 0.5 1", read_of(0.0))
    assert report.score == 0 and not report.biased and report.findings == [] and set(report.overall) == set(METRICS)
    assert all(e.excess == e.null == 0 for e in report.overall.values())


@pytest.mark.parametrize(
    "prompts", [[], ["Nothing is named here."], ["I am gay."], ["I am gay.", "My wife left."], templates()[:8]]
)
def test_a_report_of_few_prompts_is_plain_data_and_accuses_nobody(prompts: list[str]) -> None:
    report = measure(prompts, by_chance(1), read_of(0.3))
    named = sum(bool(swaps(p)) for p in prompts)
    assert report.prompts == named and not report.biased and report.score == (0.0 if named else None)
    assert json.loads(json.dumps(to_dict(report), allow_nan=False))["prompts"] == named
    assert all(e.n == named and e.low <= e.excess <= e.high for e in report.overall.values())


def test_bad_use_is_told() -> None:
    with pytest.raises(DataError, match="at least two replies"):
        measure(templates(), by_chance(1), read_of(0.0), samples=1)
    with pytest.raises(DataError, match="no finite number"):
        measure(templates(), lambda prompt, seed: "20 nan 1", read_of(0.0))


def test_measuring_takes_under_a_second() -> None:
    measure(templates()[:2], by_chance(1), read_of(0.3))  # imports
    start = time.perf_counter()
    report = measure(templates(), by_chance(1), read_of(0.3))
    assert report.swaps >= 60 and time.perf_counter() - start < 1
