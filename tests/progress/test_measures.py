"""Questionnaires: their scoring, what is refused, and the reliable changes that they state."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.errors import DataError
from attunement.progress.measures import Measure, cutoff_between, measure_of, measures, reliable_change

INVENTED = Path(__file__).resolve().parents[2] / "docs" / "examples" / "measures" / "calm4.toml"


@pytest.mark.parametrize(
    ("code", "items", "high", "cutoff", "reliable", "clinical"),
    [("phq9", 9, 27, 10, 6.852, 10), ("gad7", 7, 21, 8, 5.587, 8), ("pcl5", 20, 80, 31, 14.582, 31)],
)
def test_a_built_in_measure_is_what_it_is(code: str, items: int, high: int, cutoff: int, reliable: float, clinical: int) -> None:
    measure = measure_of(code)
    assert (len(measure.items), measure.high, measure.cutoff) == (items, high, cutoff)
    assert measure.reliable == pytest.approx(reliable, abs=5e-4)
    assert measure.is_clinical(clinical) and not measure.is_clinical(clinical - 1)
    explained = measure.changes_explained()
    assert f"{measure.reliable:.2f}" in explained[0] and "Used here: " in explained[0]
    assert len(explained) == len(measure.reliabilities) + len(measure.published_changes)


def test_the_reliable_change_is_that_of_published_examples() -> None:
    # Jacobson and Truax 1991: SD 7.5, r .80: S_diff 4.74, so 9.3 points; the couple that goes from 32.5 to 47.5 has RC 3.16
    assert 15 / (reliable_change(7.5, 0.80) / 1.96) == pytest.approx(3.16, abs=0.005)
    assert reliable_change(12.4, 0.94) == pytest.approx(8.42, abs=0.005)
    assert cutoff_between(100, 15, 60, 15) == 80  # equal spread: half-way
    assert cutoff_between(3.3, 3.8, 17.1, 6.1) == pytest.approx(8.597, abs=5e-4)


def test_bands_and_cut_offs() -> None:
    phq9 = measure_of("phq9")
    names = [phq9.of_total(total).band for total in (0, 4, 5, 9, 10, 14, 15, 19, 20, 27)]
    assert names == [band.name for band in phq9.bands for _ in range(2)]
    pcl5 = measure_of("pcl5")
    assert pcl5.is_recovered(28) and not pcl5.is_recovered(29) and not pcl5.is_clinical(29)


def test_item_nine_of_the_phq9_is_a_crisis_and_its_silence_is_told() -> None:
    phq9 = measure_of("phq9")
    assert phq9.score([0] * 8 + [1]).critical == (9,)
    assert phq9.score([3] * 8 + [0]).critical == ()
    silent = phq9.score([1] * 8 + [None])
    assert silent.critical == () and silent.critical_unknown == (9,) and silent.prorated and silent.total == 9
    assert phq9.of_total(12).critical_unknown == (9,)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([1] * 8, "8 answers for 9 items"),
        ([1] * 8 + [4], "item 9 has the answer 4"),
        ([True] + [1] * 8, "item 1 has the answer True"),
        ([1.0] + [1] * 8, "item 1"),
        ([None] * 3 + [1] * 6, "3 of 9 items were left out"),
        ([None] * 9, "9 of 9"),
    ],
)
def test_answers_that_cannot_be_scored(answers: list[int | None], told: str) -> None:
    with pytest.raises(DataError, match=told):
        measure_of("phq9").score(answers)


@pytest.mark.parametrize("total", [-1, 28, math.nan, math.inf, True, "12"])
def test_totals_that_cannot_be(total: float) -> None:
    with pytest.raises(DataError, match="phq9"):
        measure_of("phq9").of_total(total)


@given(st.sampled_from(["phq9", "gad7", "pcl5"]), st.randoms(use_true_random=False), st.integers(0, 4))
@settings(deadline=None)
def test_a_total_is_in_range_and_leaving_out_changes_it_within_reason(code: str, random, left_out: int) -> None:
    measure = measure_of(code)
    values = [answer.value for answer in measure.answers]
    answers: list[int | None] = [random.choice(values) for _ in measure.items]
    whole = measure.score(answers)
    assert whole.total == sum(answers) and measure.low <= whole.total <= measure.high
    left_out = min(left_out, measure.missing.allowed)
    for place in random.sample(range(len(answers)), left_out):
        answers[place] = None
    part = measure.score(answers)
    assert part.prorated == bool(left_out) and measure.low <= part.total <= measure.high
    assert abs(part.total - whole.total) <= left_out * max(values) + 0.5


def test_an_unknown_measure_names_those_that_there_are() -> None:
    with pytest.raises(DataError, match=r"no measure 'who5'; there are: gad7, pcl5, phq9"):
        measure_of("who5")


def test_a_measure_of_ones_own_reverses_items_and_may_be_better_when_higher() -> None:
    found = measures(INVENTED.parent)
    assert set(found) == {"phq9", "gad7", "pcl5", "calm4"}
    calm = found["calm4"]
    assert not calm.higher_is_worse and calm.is_clinical(calm.cutoff) and calm.is_recovered(calm.cutoff + 1)
    assert calm.score([4, 4, 0, 4]).total == calm.high  # the third is reversed
    assert calm.score([None, 4, 0, 4]).total == calm.high
    assert calm.between is None


FAULTS = {
    "bad toml [": "is not TOML",
    'code = "Calm"': "code: ",
    "low = 1": "low and high: 4 items give 0 to 16",
    "cutoff = 40": "cutoff: 40 is not between",
    "surprise = 1": "surprise: Extra inputs",
    "important = nan": "important: ",
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_file_with_a_fault_is_one_line_with_file_and_field(line: str, tmp_path: Path) -> None:
    text = INVENTED.read_text(encoding="utf-8")
    key = line.split(" = ")[0]
    kept = [old for old in text.splitlines() if not old.startswith(f"{key} = ")]
    (tmp_path / "own.toml").write_text("\n".join([line, *kept]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"own.toml: .*{FAULTS[line]}") as error:
        measures(tmp_path)
    assert "\n" not in str(error.value)


CHANGES = {
    ('name = "troubled", low = 0, high = 7', 'name = "troubled", low = 0, high = 8'): r"bands.1: must begin at 9",
    ("default = true", "default = false"): "reliabilities: exactly one must have",
    ("value = 0.8\n", "value = 1.8\n"): r"reliabilities.0.value: ",
    ("allowed = 1", "allowed = 4"): r"missing.allowed: 4 of 4",
    ("value = 4", "value = 3"): "answers: two of them have the same value",
    ("[missing]", "[forgotten]"): "missing: Field required",
    ("cutoff = 7", "cutoff = 7\nrecovered = 6"): "recovered: 6 is in the clinical range",
    ("[missing]", "[[critical]]\nitem = 5\nabove = 0\n[missing]"): r"critical.0.item: there is no item 5",
}


@pytest.mark.parametrize("change", CHANGES)
def test_values_that_do_not_fit_together_are_refused(change: tuple[str, str], tmp_path: Path) -> None:
    text = INVENTED.read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "own.toml").write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(DataError, match=CHANGES[change]):
        measures(tmp_path)


def test_codes_are_unique_and_files_readable(tmp_path: Path) -> None:
    text = INVENTED.read_text(encoding="utf-8")
    with pytest.raises(DataError, match="is no folder"):
        measures(tmp_path / "none")
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    (tmp_path / "b.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"b.toml: code: 'calm4' is in another file"):
        measures(tmp_path)
    (tmp_path / "b.toml").write_text(text.replace("calm4", "phq9"), encoding="utf-8")
    with pytest.raises(DataError, match=r"b.toml: code: 'phq9' is built in"):
        measures(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"b.toml: is not UTF-8"):
        measures(tmp_path)
    (tmp_path / "b.toml").unlink()
    (tmp_path / "b.toml").mkdir()
    with pytest.raises(DataError, match=r"b.toml: cannot be read"):
        measures(tmp_path)


def test_a_measure_does_not_change() -> None:
    measure: Measure = measure_of("phq9")
    with pytest.raises(ValueError, match="frozen"):
        measure.cutoff = 3
