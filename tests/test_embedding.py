"""Sentence vectors: what every judge of coherence rests on."""

from __future__ import annotations

import numpy as np
import pytest

from attunement.config import EmbeddingSettings
from attunement.embedding import Embedder
from attunement.errors import ModelError


def test_a_text_has_one_vector_whatever_stands_beside_it() -> None:
    embedder = Embedder()
    texts = ["I feel low.", "", "What is it about the winter that weighs on you the most, and since when?", "I feel low."]
    together = embedder.encode(texts)
    assert together.shape == (4, embedder.dimensions) == (4, 384) and together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert embedder.encoded_texts == 3
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose(embedder.encode([text])[0], vector, atol=1e-5)
    assert embedder.encode([]).shape == (0, 384)


def test_an_unknown_model_is_told() -> None:
    with pytest.raises(ModelError, match=r"\(embedding\.model\)"):
        Embedder(EmbeddingSettings(model="nobody/no-such-model")).encode(["a"])
