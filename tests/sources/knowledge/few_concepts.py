"""A few concepts, and an embedder that needs no model: words hashed into a unit vector."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from attunement.embedding import DIMENSIONS, Embedder, Vectors
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing.cleaning import normalised


class WordVectors(Embedder):
    """The sum of a random vector a word: texts that share words are near."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        out = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in normalised(text).split() or ["-"]:
                seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
                out[row] += np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def concept(key: str, label: str, content: str, **more: object) -> Concept:
    facts = {"category": "symptom", "source": "ours", "licence": "Apache-2.0", **more}
    return Concept(concept_id=key, label=label, content=content, **facts)  # type: ignore[arg-type]


def few() -> list[Concept]:
    return [
        concept("a:flashback", "flashback", "Living through a trauma again as if it happened now.", synonyms=("re-experiencing",)),
        concept("a:ptsd", "post-traumatic stress disorder", "A disorder after a trauma, with flashbacks and avoidance.",
                category="clinical_diagnosis", therapeutic_approaches=("EMDR", "CPT"), evidence=({"approach": "CPT", "level": "high"},)),
        concept("a:insomnia", "insomnia", "Trouble in falling asleep or staying asleep.", parents=("a:sleep",)),
        concept("a:sleep", "sleep disorder", "A disorder of sleep.", licence="CC-BY-SA-3.0"),
        concept("b:insomnia", "Insomnia", "Too little sleep, night after night.", source="book", licence="CC-BY-NC-4.0"),
    ]  # fmt: skip
