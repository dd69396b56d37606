"""`QualityValidator`: the contract's judge of one pair, one reply, one text. Knows nothing of who asks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import Embedder
from attunement.quality import appropriateness, bias
from attunement.quality.coherence import coherence_of
from attunement.quality.crisis import assess_crisis
from attunement.records import BiasReport, CrisisAssessment, QAPair, ValidationResult


class QualityValidator:
    """One object for curation, evaluation and the service. The sentence model loads when coherence is first asked for."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder = embedder or Embedder()

    def score_semantic_coherence(self, qa_pair: QAPair) -> float:
        """0-1: how well the answer fits question and context."""
        return float(self.score_many([qa_pair])[0])

    def score_many(self, pairs: Sequence[QAPair]) -> NDArray[np.float32]:
        """`score_semantic_coherence` of many pairs, `[n]`, each text encoded once."""
        return coherence_of(self.embedder, [(pair.question, pair.answer, list(pair.context)) for pair in pairs])

    def validate_therapeutic_appropriateness(self, response: str) -> ValidationResult:
        """Whether a helper may say this, with reason codes."""
        return appropriateness.validate(response)

    def detect_bias(self, text: str) -> BiasReport:
        """What the text says about groups of people."""
        return bias.detect(text)

    def assess_crisis(self, texts: Sequence[str]) -> CrisisAssessment:
        """Whether the client's words, oldest first, show danger."""
        return assess_crisis(texts)
