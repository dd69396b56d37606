"""Sentence vectors: what every judge of coherence rests on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attunement import embedding, onnx_encoder
from attunement.config import EmbeddingSettings
from attunement.embedding import Embedder
from attunement.errors import ModelError

TEXTS = [
    "I feel low.",
    "",
    "What is it about the winter that weighs on you the most, and since when?",
    "My daughter moved out in spring. I still lay the table for three, and then I sit there and wonder whom I am waiting for. "
    * 3,
    "lol \U0001f480 can't even",
]


def test_a_text_has_one_vector_whatever_stands_beside_it() -> None:
    together = Embedder().encode([*TEXTS, TEXTS[0]])
    assert together.shape == (6, 384) and together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, together, strict=False):
        assert np.allclose(Embedder().encode([text])[0], vector, atol=1e-6)
    assert np.allclose(Embedder(EmbeddingSettings(batch_size=1)).encode(TEXTS), together[:5], atol=1e-6)


def test_a_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "KEPT_VECTORS", 2)
    embedder = Embedder()
    first = embedder.encode([TEXTS[0], TEXTS[2], TEXTS[0]])
    assert embedder.encoded_texts == 2
    assert np.array_equal(embedder.encode([TEXTS[0]])[0], first[0])
    assert embedder.encoded_texts == 2
    embedder.encode([TEXTS[3]])  # the oldest makes room
    assert np.array_equal(embedder.encode([TEXTS[2]])[0], first[1])
    assert embedder.encoded_texts == 4
    assert embedder.encode([]).shape == (0, embedder.dimensions) == (0, 384)


def test_the_runtimes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Embedder(EmbeddingSettings(runtime="torch")).encode(TEXTS)
    assert np.allclose(Embedder(EmbeddingSettings(precision="fp32")).encode(TEXTS), exact, atol=1e-5)
    monkeypatch.setattr(onnx_encoder, "multiplies_in_8_bits", lambda: True)
    eight = Embedder(EmbeddingSettings(runtime="onnx")).encode(TEXTS)
    assert 0.97 < (eight * exact).sum(1).min() < 0.99999  # 8 bits, and not the 32-bit graph under another name
    monkeypatch.setattr(onnx_encoder, "multiplies_in_8_bits", lambda: False)
    assert np.allclose(Embedder(EmbeddingSettings(runtime="onnx")).encode(TEXTS), exact, atol=1e-5)


def test_ranges_are_those_of_the_inputs() -> None:
    packaged = embedding.Packaged(EmbeddingSettings())
    weights = onnx_encoder.load_tensors(packaged.folder / "model.safetensors")
    batches = [(ids, mask) for _, ids, mask in packaged.batches(TEXTS)]
    ranges = onnx_encoder.measure_ranges(weights, embedding.HEADS, batches)
    shipped = onnx_encoder.load_tensors(embedding.RANGES)
    assert {n: r.shape for n, r in ranges.items()} == {n: r.shape for n, r in shipped.items()}
    assert all((low <= high).all() for low, high in ranges.values())
    activated = shipped["encoder.layer.0.output"]
    assert activated[0].min() > -0.2  # GELU's least value is -0.17


def test_rounding_to_8_bits_is_within_half_a_step() -> None:
    rng = np.random.default_rng(3)
    matrix, x = rng.normal(size=(7, 40)).astype(np.float32), rng.normal(size=(100, 40)) * np.geomspace(0.01, 30, 40)
    for wide in (False, True):
        found = onnx_encoder.quantise(matrix, x.min(0), x.max(0), wide=wide)
        codes = np.clip(np.rint(x / found.channel / found.step) + found.zero, 0, 255) - found.zero
        near = codes @ found.codes.T.astype(np.float64) * found.step * found.columns
        error = np.linalg.norm(near - x @ matrix.T) / np.linalg.norm(x @ matrix.T)
        assert error < 0.03
        assert codes.min() + found.zero >= 0 and codes.max() + found.zero <= 255


def test_an_unknown_model_is_told() -> None:
    with pytest.raises(ModelError, match=r"\(embedding\.model\)"):
        Embedder(EmbeddingSettings(model="nobody/no-such-model")).encode(["a"])


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="install the package again"):
        onnx_encoder.load_tensors(tmp_path / "w.safetensors")


def test_a_fine_tuned_folder_changes_the_vectors_alike_in_both_runtimes(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    name = "encoder.layer.5.output.dense.weight"
    plain = embedding.Packaged(EmbeddingSettings()).weights()[name]
    codes = np.random.default_rng(0).integers(-127, 128, plain.shape).astype(np.int8)
    scale = np.full(len(plain), 0.002, dtype=np.float32)
    save_file({name: codes, f"{name}.scale": scale}, tmp_path / embedding.TUNED)
    settings = {"model": str(tmp_path), "precision": "fp32"}
    texts = ["I feel low today.", "What keeps you awake?"]
    by_onnx = Embedder(EmbeddingSettings(**settings, runtime="onnx")).encode(texts)
    by_torch = Embedder(EmbeddingSettings(**settings, runtime="torch", device="cpu")).encode(texts)
    assert (by_onnx * by_torch).sum(1) == pytest.approx(1, abs=1e-4)
    assert ((by_onnx * Embedder().encode(texts)).sum(1) < 0.99).all()
