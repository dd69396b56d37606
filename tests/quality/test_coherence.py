from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from attunement.config import EmbeddingSettings
from attunement.embedding import Embedder
from attunement.errors import ModelError
from attunement.quality.coherence import coherence


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(EmbeddingSettings(batch_size=3))


@pytest.mark.parametrize(("precision", "within"), [("fp32", 2e-4), ("int8", 0.015)])
def test_vectors_are_those_of_the_model_card(precision: Literal["fp32", "int8"], within: float) -> None:
    vectors = Embedder(EmbeddingSettings(precision=precision)).encode(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0] @ vectors[1:].T, [0.6946, 0.9429, 0.2569], atol=within)  # as on the hub's page


def test_order_repeats_and_batches_do_not_matter(embedder: Embedder) -> None:
    texts = ["short", "a somewhat longer text than the first one", "", "short", "word " * 400]
    before = embedder.encoded_texts
    together = embedder.encode(texts)
    assert embedder.encoded_texts - before == 4
    alone = np.concatenate([embedder.encode([t]) for t in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert embedder.encode([]).shape == (0, 384)


def test_an_unknown_model_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match=r"no/such-model.*embedding\.model"):
        Embedder(EmbeddingSettings(model="no/such-model")).encode(["a"])


def test_an_answer_that_fits_scores_higher_than_one_that_does_not(embedder: Embedder) -> None:
    question, fitting, other = embedder.encode(
        [
            "I cannot sleep because I worry about my exams.",
            "Worrying at night is common before exams; what goes through your mind when you lie awake?",
            "Your dog needs two walks a day and fresh water.",
        ]
    )
    scores = coherence(np.stack([question, question]), np.stack([fitting, other]))
    assert scores[0] > scores[1] + 0.3


def test_context_rescues_an_answer_to_a_bare_yes(embedder: Embedder) -> None:
    question, answer, context = embedder.encode(
        ["Yes, I think so.", "Leaving your job is a big step; what does your wife say?", "So you want to leave your job?"]
    )
    without = coherence(question[None], answer[None], np.zeros((1, 384), dtype=np.float32))
    assert coherence(question[None], answer[None], context[None]) > without + 0.2
