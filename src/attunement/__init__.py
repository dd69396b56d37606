"""Attunement: the open-source toolkit for therapeutic dialogue models.

The contract's public names, loaded when they are first used: `import attunement` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(
        (
            "BiasReport",
            "Conversation",
            "CrisisAssessment",
            "DeployedModel",
            "DialoguePair",
            "EdgeCaseExample",
            "EdgeCasePrompt",
            "EmotionalPattern",
            "EmotionalState",
            "EmotionalTrend",
            "HealthStatus",
            "InferenceRequest",
            "InferenceResponse",
            "Milestone",
            "ModelConfig",
            "PersonalityProfile",
            "ProcessedDataset",
            "ProgressReport",
            "PsychologyKnowledgeExample",
            "QAPair",
            "QualityMetrics",
            "QualityReport",
            "SessionLog",
            "SpokenSegment",
            "SpokenWord",
            "Timeframe",
            "TrainedModel",
            "TrainingConfig",
            "TrainingDataset",
            "TrainingMetrics",
            "Transcript",
            "Turn",
            "ValidationResult",
            "VoiceDataExample",
        ),
        "attunement.records",
    ),
    "Settings": "attunement.config",
    "load_settings": "attunement.config",
    "DataPipeline": "attunement.curation.pipeline",
    "EdgeCaseGenerator": "attunement.sources.edge_cases.generator",
    "KnowledgeBase": "attunement.sources.knowledge.base",
    "PsychologyKnowledgeIntegrator": "attunement.sources.knowledge.integrator",
    "PHIDetector": "attunement.security.phi.detector",
    "QualityValidator": "attunement.quality.validator",
    "DualPersonaTrainer": "attunement.sources.personas.trainer",
    "ConsistencyReport": "attunement.sources.personas.consistency",
    "DialogueSet": "attunement.sources.personas.dialogues",
    "Persona": "attunement.sources.personas.files",
    "Scenario": "attunement.sources.personas.scenarios",
    "PixelVoicePipeline": "attunement.sources.voice.pipeline",
    "MoEModel": "attunement.model.moe_lora",
    "TrainingSystem": "attunement.training.system",
    "DeploymentService": "attunement.serving.service",
    "ProgressTrackingSystem": "attunement.progress.tracking",
    "SessionData": "attunement.progress.journey",
    "TrendAnalysis": "attunement.progress.findings",
    "HistoricalContext": "attunement.progress.context",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attunement' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
