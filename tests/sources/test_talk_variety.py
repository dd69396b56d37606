"""Figures of variety on conversations that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from attunement.embedding import Embedder
from attunement.sources.talk_variety import dispersion, nearest, spread_of, talk_vectors, variety_of

FIRST = ["I can't sleep any more, not one night.", "What keeps you awake?"]
SECOND = ["I can't sleep any more, not one night.", "Who is awake with you?"]
OTHER = ["My brother sold the boat.", "And you had no say in it."]


def test_each_conversation_has_its_nearest() -> None:
    first, second, other = nearest([FIRST, SECOND, OTHER])
    assert first == second and 0.2 < first < 0.8 and other == 0
    assert nearest([FIRST, FIRST]) == [1.0, 1.0] and nearest([FIRST]) == [0.0] and nearest([]) == []


def test_the_spread_tells_what_a_build_would_drop() -> None:
    assert spread_of([0.1, 0.2, 0.3, 0.9], 0.7) == {"median": 0.25, "p90": 0.72, "highest": 0.9, "near_duplicates": 0.25}
    assert spread_of([], 0.7)["highest"] == 0


def test_dispersion_is_one_minus_the_mean_cosine_of_two() -> None:
    across = np.eye(3, dtype=np.float32)
    assert dispersion(across) == 1 and dispersion(across[:1]) == 0 and dispersion(across[[0, 0]]) == 0
    assert dispersion(across[[0, 0, 1]]) == pytest.approx(2 / 3, abs=1e-4)


def test_words_and_vectors_of_talks() -> None:
    vectors = talk_vectors([FIRST, SECOND, OTHER], Embedder())
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    found = variety_of([FIRST, SECOND, OTHER], vectors)
    assert (found["turns"], found["mean_turns"], found["different_texts"]) == (6, 2.0, 0.8333)
    assert 0 < found["distinct_1"] < found["distinct_2"] < 1 and 0 < found["dispersion"] < 1
    assert variety_of([], talk_vectors([], Embedder()))["turns"] == 0
