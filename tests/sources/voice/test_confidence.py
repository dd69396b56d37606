"""Confidence that says the share of right words: fitted, saved, not fitted for other engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attunement.errors import DataError
from attunement.records import SpokenWord
from attunement.sources.voice import confidence
from attunement.sources.voice.confidence import FEATURES, Confidence, calibration_error, features_of, fit, right_share, snr_db


def spoken(*sure: float) -> list[SpokenWord]:
    return [SpokenWord("word", n * 0.4, n * 0.4 + 0.35, s) for n, s in enumerate(sure)]


def too_sure(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An engine whose words are right half as often as it says."""
    rng = np.random.default_rng(seed)
    said = rng.uniform(0.1, 1.0, count)
    features = np.stack([features_of(spoken(*np.clip(s + rng.normal(0, 0.05, 10), 0.01, 1)), 20.0) for s in said])
    return features, rng.binomial(10, said / 2) / 10


def test_a_fitted_model_mends_an_engine_that_is_too_sure() -> None:
    features, right = too_sure(300, 1)
    model = fit("mine", features, right)
    unseen, truth = too_sure(300, 2)
    before = calibration_error(unseen[:, FEATURES.index("mean_posterior")], truth)
    after = calibration_error(model.expected(unseen), truth)
    assert before > 0.2 and after < 0.05


def test_calibration_error_is_zero_for_true_shares_and_the_distance_for_wrong_ones() -> None:
    assert calibration_error(np.asarray([0.25, 0.25, 0.75]), np.asarray([0.0, 0.5, 0.75])) == 0
    assert calibration_error(np.asarray([1.0, 1.0]), np.asarray([0.5, 0.0])) == pytest.approx(0.75)


def test_the_shipped_model_trusts_sure_words_in_quiet_more_than_doubtful_ones_in_noise() -> None:
    judge = Confidence("pocketsphinx")
    sure, doubtful = judge.of(spoken(*[0.95] * 8), 45.0), judge.of(spoken(*[0.05] * 8), 8.0)
    assert judge.calibrated and sure > 0.7 > 0.4 > doubtful >= 0
    assert judge.of([]) == 0 and 0 <= judge.of(spoken(0.5)) <= 1


def test_an_engine_without_a_model_says_so() -> None:
    judge = Confidence("whisper")
    assert not judge.calibrated and judge.of(spoken(0.5, 0.7)) == pytest.approx(0.6)


def test_models_are_saved_and_read_again_and_other_files_are_told(tmp_path: Path) -> None:
    model = fit("mine", *too_sure(60, 3), made={"speech": "ours"})
    confidence.save(tmp_path / "mine.json", [model])
    read = confidence.load(tmp_path / "mine.json")["mine"]
    unseen = too_sure(5, 4)[0]
    assert np.allclose(read.expected(unseen), model.expected(unseen), atol=1e-3) and read.made == {"speech": "ours"}
    for text in ("[]", "{", '{"mine": {"weights": [1]}}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(DataError, match="no calibration"):
            confidence.load(tmp_path / "other.json")
    with pytest.raises(DataError, match="too few"):
        fit("mine", *too_sure(10, 5))


def test_right_share_is_one_minus_word_errors_without_case_and_signs() -> None:
    assert right_share("A b, it\u2019s d.", "a b x d") == pytest.approx(0.75)
    assert right_share("Well-known: it's d?", "well known it's d") == 1
    assert right_share("a", "x y z") == 0 and right_share("", "") == 1 and right_share("", "x") == 0


def test_snr_falls_with_noise() -> None:
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(32000) * 0.1) * (np.arange(32000) % 8000 < 6000)
    found = [snr_db((tone + rng.standard_normal(32000) * 10 ** (-db / 20)).astype(np.float32)) for db in (40, 20, 10)]
    assert found[0] > found[1] > found[2] > 3
    assert np.isnan(snr_db(np.zeros(100, dtype=np.float32)))
