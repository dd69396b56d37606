"""`QualityValidator`: the contract's judge of one pair, one reply, one text. Knows nothing of who asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import Embedder
from attunement.quality import appropriateness, bias, crisis
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item, Verdict
from attunement.records import BiasReport, CrisisAssessment, QAPair, Turn, ValidationResult


class QualityValidator:
    """One object for curation, evaluation and the service, over one set of judges. Weights load when they are first needed.

    `home` is where the user's own judges lie (`attune quality train`). Verdicts are kept by content hash (`Judges`).
    """

    def __init__(self, embedder: Embedder | None = None, home: Path | None = None, *, judges: Judges | None = None) -> None:
        self.judges = judges or Judges(embedder, home)
        self.embedder = self.judges.embedder
        self._turns = crisis.TurnMemory()

    def score_semantic_coherence(self, qa_pair: QAPair) -> float:
        """0-1: how probably the answer belongs to question and context."""
        return float(self.score_many([qa_pair])[0])

    def score_many(self, pairs: Sequence[QAPair]) -> NDArray[np.float32]:
        """`score_semantic_coherence` of many pairs, `[n]`, each text encoded once."""
        return np.asarray([verdict.score for verdict in self.judge_coherence(pairs)], dtype=np.float32)

    def judge_coherence(self, pairs: Sequence[QAPair]) -> list[Verdict]:
        """The same with its reason: `answers_another_question`, `generic_reply`."""
        return self.judges.judge("coherence", [Item(p.answer, (*p.context, p.question)) for p in pairs])

    def validate_therapeutic_appropriateness(self, response: str, context: Sequence[str] = ()) -> ValidationResult:
        """Whether a helper may say this after `context` (oldest first), with reason codes."""
        return self.validate_many([response], [context])[0]

    def validate_many(self, responses: Sequence[str], contexts: Sequence[Sequence[str]]) -> list[ValidationResult]:
        """`validate_therapeutic_appropriateness` of many replies."""
        return appropriateness.validate_many(self.judges, responses, contexts)

    def reasons_against(self, response: str, context: Sequence[str] = ()) -> tuple[str, ...]:
        """Why a helper may not say this: `validate_therapeutic_appropriateness`'s reasons, without its score and what that costs."""
        return appropriateness.reasons_many(self.judges, [response], [context])[0]

    def detect_bias(self, text: str) -> BiasReport:
        """What the text says about groups of people."""
        return bias.detect_many(self.judges, [text])[0]

    def assess_crisis(self, texts: Sequence[str]) -> CrisisAssessment:
        """The risk state after all that a client said, oldest first."""
        return crisis.assess_crisis(self.judges, texts)

    def risk_trail(self, texts: Sequence[str]) -> crisis.RiskTrail:
        """The same with the last turn by itself and the state before it; turns that were judged before are not judged again."""
        return self._turns.trail(self.judges, texts)

    def content_type(self, turns: Sequence[Turn]) -> str:
        """`interview`, `podcast`, `monologue` or `speech`."""
        (verdict,) = self.judges.judge("content_type", [Item(turns=tuple((t.speaker or t.role, t.text) for t in turns))])
        return verdict.label
