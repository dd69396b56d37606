"""The data models of the contract, field for field, and the few records that stages hand to each other.

All are frozen dataclasses: what enters is validated once, at the border (`sources`, `serving`, `config`),
and never changed after. `to_dict` and `from_dict` are the only (de)serialisation.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

SOURCE_TYPES = ("interview", "podcast", "monologue", "speech", "youtube", "edge_case", "expert_transcript")
SHARES = ("standard", "edge_case", "voice", "knowledge", "dual_persona")
"""The five parts of a training set; the target balance is 30/25/20/15/10 in this order."""
ROLES = ("client", "therapist", "narrator", "system")
"""Who speaks, as far as training cares: the one who seeks, the one who answers, one who only tells, instructions."""
SPEAKER_ROLES = ("therapist", "client", "host", "guest", "lecturer")
"""What somebody is in spoken material."""
CRISIS_LEVELS = (
    "none", "wish_to_be_dead", "thoughts", "method", "intent", "plan", "behaviour",
    "harm_to_others", "abuse", "psychosis", "medical",
)  # fmt: skip
"""Danger in a text: the steps of the C-SSRS screener, then the other kinds. `labelled` sets use these names."""

REVIEW_MARK, REVIEW_REASONS = "clinical_review_required", "review_reasons"
"""Metadata of a conversation that a clinician must see before any model learns from it, and why (codes, with spaces between)."""

T = TypeVar("T")


# --- conversations: what the sources give -------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One uninterrupted utterance. `role` is one of `ROLES`; `speaker` the name the source gave it.

    Without `learn` no model may learn to say it: a helper's slip that the talk then mends. What follows may still answer it.
    """

    role: str
    text: str
    speaker: str = ""
    start_seconds: float | None = None
    learn: bool = True


@dataclass(frozen=True)
class Origin:
    """Where a conversation came from: the first link of its provenance.

    `locator` finds the record in the file (line, row or key); `record_sha256` is the hash of the record as read.
    """

    source: str
    file: str
    file_sha256: str
    locator: str
    record_sha256: str
    licence: str
    licence_class: str


@dataclass(frozen=True)
class Conversation:
    """A dialogue, a talk or a single exchange, with its origin. `share` is one of `SHARES`."""

    conversation_id: str
    turns: Sequence[Turn]
    origin: Origin
    share: str = "standard"
    source_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SpokenWord:
    """A word as it was heard. Times in seconds from the start of the recording; `confidence` 0-1 is the engine's own."""

    text: str
    start_seconds: float
    end_seconds: float
    confidence: float = 1.0


@dataclass(frozen=True)
class SpokenSegment:
    """A stretch of speech by one speaker. Times in seconds from the start of the recording.

    `confidence` is calibrated: the share of its words that are expected to be right. `speaker` is a label within the recording
    (`S1`, or the name that subtitles give); `role` one of `SPEAKER_ROLES`, empty where it is not known. `prosody` holds
    figures by name (`pitch_hz`, `pitch_range_semitones`, `energy_db`, `words_per_second`, `pause_share`, ...), empty where there is no sound.
    """

    text: str
    start_seconds: float
    end_seconds: float
    confidence: float = 1.0
    words: Sequence[SpokenWord] = ()
    speaker: str = ""
    role: str = ""
    prosody: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording, or a talk as text. `licence` and `source` go into each example made of it.

    `text` is the whole of it; `segments` are its parts where times are known. `language` is a code of ISO 639-1. `metadata` may hold
    `url`, `channel`, `chapters`, `content_type`, `audio_sha256`, `rejected` (segments that were left out, with their reason codes), ...
    """

    transcript_id: str
    text: str
    title: str = ""
    speaker: str = ""
    source: str = ""
    licence: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    segments: Sequence[SpokenSegment] = ()
    engine: str = ""
    language: str = ""
    duration_seconds: float = 0.0


# --- training data (contract: Data Models) ------------------------------------------------------


@dataclass(frozen=True)
class QAPair:
    """A question with its answer. `context` holds the turns before, oldest first.

    `source_type` is one of `SOURCE_TYPES`; `semantic_score` is the coherence of question, context and answer, 0-1.
    `metadata` holds `id`, `question_type` (`extracted` or `contextual`), `context_roles` and `provenance`.
    """

    question: str
    answer: str
    context: Sequence[str]
    source_type: str
    semantic_score: float
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class EdgeCasePrompt:
    """A scenario that a conversation is wanted for. `scenario` holds age, gender, culture, setting, history, attachment, speech and

    course by name. `text` is what a language model is asked; it is empty where people have written the conversations.
    """

    prompt_id: str
    category: str
    difficulty_level: str
    expected_challenges: Sequence[str]
    clinical_review_required: bool
    scenario: Mapping[str, str]
    text: str
    seed: int


@dataclass(frozen=True)
class EdgeCaseExample:
    """A challenging client moment. `difficulty_level`: moderate, high or very_high."""

    prompt: str
    response: str
    purpose: str
    category: str
    difficulty_level: str
    expected_challenges: Sequence[str]
    source: str
    clinical_review_required: bool


@dataclass(frozen=True)
class EmotionalPattern:
    """An emotion over a stretch of speech. `intensity` 0-1; times in seconds from the start."""

    emotion: str
    intensity: float
    start_seconds: float = 0.0
    end_seconds: float = 0.0


@dataclass(frozen=True)
class PersonalityProfile:
    """Markers of how somebody speaks: name to value (0-1), with the number of words they rest on.

    A marker that the words are too few for is not there. `uncertainty` is the standard error of each, `evidence` what it rests on
    (words with their counts, figures with units). `style` is a vector of length 1 of how they speak, whatever it is about: rates of
    closed-class words against a norm (empty where nothing is said).
    """

    speaker: str
    markers: Mapping[str, float]
    words: int = 0
    evidence: Mapping[str, Sequence[str]] = field(default_factory=dict)
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    style: Sequence[float] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class DialoguePair:
    """A prompt and the response to it, from spoken material."""

    prompt: str
    response: str
    speaker: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VoiceDataExample:
    """A dialogue pair from voice. `source_type`: youtube, expert_lecture or clinical_demo; scores 0-1."""

    dialogue_pair: DialoguePair
    personality_markers: PersonalityProfile
    emotional_patterns: Sequence[EmotionalPattern]
    transcription_quality: float
    naturalness_score: float
    source_url: str
    source_type: str


@dataclass(frozen=True)
class PsychologyKnowledgeExample:
    """A concept of psychology. `category`: dsm5, therapeutic_technique, clinical_framework, ..."""

    concept_id: str
    category: str
    content: str
    source: str
    related_concepts: Sequence[str]
    therapeutic_approaches: Sequence[str]
    clinical_context: str


@dataclass(frozen=True)
class QualityMetrics:
    """Figures of a dataset: means over its pairs, shares 0-1."""

    mean_semantic_score: float = 0.0
    extracted_share: float = 0.0
    contextual_share: float = 0.0
    kept_pairs: int = 0
    rejected_pairs: int = 0


@dataclass(frozen=True)
class ProcessedDataset:
    """What `DataPipeline.process_datasets` gives. The lists may be lazy: any `Sequence` serves.

    `source_distribution` counts examples per share (see `SHARES`); `location` is the folder it was written to.
    """

    qa_pairs: Sequence[QAPair]
    edge_cases: Sequence[EdgeCaseExample]
    voice_data: Sequence[VoiceDataExample]
    psychology_knowledge: Sequence[PsychologyKnowledgeExample]
    total_conversations: int
    processing_success_rate: float
    quality_metrics: QualityMetrics
    source_distribution: Mapping[str, int]
    location: Path | None = None


@dataclass(frozen=True)
class QualityReport:
    """What `DataPipeline.validate_quality` gives: whether the dataset meets the contract, and why not if not."""

    passed: bool
    metrics: QualityMetrics
    processing_success_rate: float
    source_distribution: Mapping[str, int]
    issues: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationResult:
    """A judge's verdict on one text: `score` 0-1 (1 is appropriate), with reason codes."""

    appropriate: bool
    score: float
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class BiasReport:
    """What a bias judge found. `bias_score` 0-1; each finding names term, group, span and evidence."""

    bias_score: float
    findings: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class CrisisAssessment:
    """Danger in a client's words. `level` is none, possible, elevated or imminent, "" where nobody assessed it; `reasons` are codes, never text.

    `score` 0-1 is the judge's, `kind` one of `CRISIS_LEVELS`, `whose` nobody, self, third_person or past.
    """

    level: str = "none"
    reasons: Sequence[str] = ()
    score: float = 0.0
    kind: str = "none"
    whose: str = ""


# --- model and training (contract: Model Configuration, Training Configuration) ------------------


@dataclass(frozen=True)
class ModelConfig:
    """The Mixture of LoRA experts. Defaults are the contract's; below the line, what it leaves open.

    `lora_alpha / lora_rank` scales each adapter. `target_modules` are the attention projections that get plain LoRA;
    the feed-forward always becomes experts; a sparse base keeps its own number of them and `top_k`. `attention_rank` is theirs where
    it is not `lora_rank`; `shared_rank` gives the experts an adapter in common, which every token trains. `router_aux_loss` weighs load balancing (Fedus 2021: 0.01),
    `router_z_loss` small logits (Zoph 2022: 0.001), `router_domain_loss` what draws a domain's tokens to its experts.
    `rope_scaling` lengthens the context (as Transformers names it), `quantization` holds the frozen base in 8 or 4 bits.
    """

    architecture: str = "moe"
    num_experts: int = 8
    expert_domains: Sequence[str] = field(default_factory=lambda: ["psychology", "mental_health", "bias_detection"])
    context_length: int = 8192
    lora_rank: int = 16
    lora_alpha: int = 32
    dropout: float = 0.1
    # not in the contract
    base: str = "attunement-base"
    top_k: int = 2
    target_modules: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    attention_rank: int = 0
    shared_rank: int = 0
    router_aux_loss: float = 0.01
    router_z_loss: float = 0.001
    router_domain_loss: float = 0.01
    rope_scaling: Mapping[str, Any] = field(default_factory=dict)
    quantization: str = ""


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop. The contract's figures are upper limits: short runs derive smaller ones and say so."""

    max_duration_hours: float = 12.0
    batch_size: int = 32
    learning_rate: float = 3e-4
    warmup_steps: int = 1000
    weight_decay: float = 0.01
    early_stopping_patience: int = 3
    checkpoint_interval: int = 1000
    # not in the contract
    epochs: int = 3
    max_steps: int = 0
    micro_batch_size: int = 8
    micro_batch_tokens: int = 16384
    source_balance: Mapping[str, float] = field(
        default_factory=lambda: {"standard": 0.3, "edge_case": 0.25, "voice": 0.2, "knowledge": 0.15, "dual_persona": 0.1}
    )
    max_repeats: float = 2.0
    gradient_checkpointing: bool = False
    tensorboard: bool = False
    max_retries: int = 5
    gradient_clip: float = 1.0
    seed: int = 17
    devices: int | str = "auto"
    nodes: int = 1
    strategy: str = "auto"


@dataclass(frozen=True)
class GenerationConfig:
    """How a reply is drawn. `temperature` 0 is greedy; `deadline_seconds` 0 means none; lengths in tokens."""

    max_new_tokens: int = 96
    temperature: float = 0.7
    top_p: float = 0.9
    repetition_penalty: float = 1.15
    deadline_seconds: float = 0.0


@dataclass(frozen=True)
class TrainingDataset:
    """The files a run reads (chat JSONL, as `attune data build` writes them) and the hash that names the set."""

    train: Path
    validation: Path
    test: Path | None = None
    dataset_sha256: str = ""


@dataclass(frozen=True)
class TrainedModel:
    """What `TrainingSystem.train` gives: the run's folder, its best checkpoint and its figures."""

    run_dir: Path
    checkpoint: Path
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrainingMetrics:
    """One row of a run's log. Times in seconds, rates in tokens per second."""

    step: int
    loss: float
    learning_rate: float
    tokens_per_second: float = 0.0
    validation_loss: float | None = None
    perplexity: float | None = None


# --- serving (contract: API Endpoints) -----------------------------------------------------------


@dataclass(frozen=True)
class InferenceRequest:
    """`conversation_context` is the talk so far, oldest first: strings (client first, then in turn) or {role, content}."""

    conversation_context: Sequence[str | Mapping[str, str]]
    user_input: str


@dataclass(frozen=True)
class InferenceResponse:
    """The contract's answer; both scores are 0-1."""

    response: str
    bias_score: float
    confidence: float


@dataclass(frozen=True)
class HealthStatus:
    """`status` is healthy, degraded or unhealthy; `uptime` is written as 1d 02:03:04."""

    status: str
    model_version: str
    uptime: str


@dataclass(frozen=True)
class DeployedModel:
    """What `DeploymentService.load_model` gives."""

    model_version: str
    checkpoint: Path
    parameters: int
    device: str


# --- progress (contract: Progress Tracking System) ------------------------------------------------


@dataclass(frozen=True)
class Timeframe:
    """A span of time, start included, end not. `label`: daily, weekly, monthly, quarterly, yearly, multi_year, custom."""

    start: datetime
    end: datetime
    label: str = "custom"

    @property
    def length(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True)
class EmotionalState:
    """Emotions named with their strength, 0-1; `valence` -1 (unpleasant) to 1, `arousal` -1 (calm) to 1.

    `uncertainty` is the standard error of each figure by its name; `words` is how many words of the client it was estimated from, 0 where a
    person gave it.
    """

    emotions: Mapping[str, float]
    valence: float = 0.0
    arousal: float = 0.0
    # not in the contract
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    words: int = 0


@dataclass(frozen=True)
class EmotionalTrend:
    """How an emotion moved over a timeframe: slope per week with its interval."""

    emotion: str
    slope_per_week: float
    interval: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Milestone:
    """Something reached, and when. `kind` is a code (remission, first_after_crisis, set_by_hand, ...), `found_by` "rule" or who set it."""

    milestone_id: str
    title: str
    reached_at: datetime
    evidence: str = ""
    kind: str = ""
    found_by: str = "rule"


@dataclass(frozen=True)
class SessionLog:
    """One therapeutic session in the journal."""

    client_id: str
    session_id: str
    timestamp: datetime
    conversation_summary: str
    emotional_state: EmotionalState
    therapeutic_goals: Sequence[str]
    progress_notes: str
    therapist_observations: str
    next_session_focus: str


@dataclass(frozen=True)
class ProgressReport:
    """`goal_progress` maps goal id to completion in percent; `overall_trajectory` is improving, stable, regressing, or not_enough_data."""

    client_id: str
    timeframe: Timeframe
    sessions_count: int
    goal_progress: Mapping[str, float]
    emotional_trends: Sequence[EmotionalTrend]
    key_milestones: Sequence[Milestone]
    overall_trajectory: str
    recommendations: Sequence[str]


# --- to and from plain data -------------------------------------------------------------------------

_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


def to_dict(record: Any) -> Any:
    """`record` as plain JSON-ready data: dataclasses, mappings, sequences, paths, times and spans (seconds), all the way down."""
    if type(record) in _PLAIN:  # nearly all there is: the checks below take ten times as long
        return record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_dict(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {str(key): to_dict(value) for key, value in record.items()}
    if isinstance(record, Sequence) and not isinstance(record, str | bytes):
        return [to_dict(value) for value in record]
    if isinstance(record, Path | datetime):
        return record.isoformat() if isinstance(record, datetime) else str(record)
    return record.total_seconds() if isinstance(record, timedelta) else record


@cache
def _nested(kind: type) -> dict[str, tuple[type, bool]]:
    """Fields of `kind` that hold dataclasses: name to (class, whether a sequence of them)."""
    found: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(kind).items():
        inner = [a for a in typing.get_args(hint) if dataclasses.is_dataclass(a)]
        if dataclasses.is_dataclass(hint):
            found[name] = (typing.cast(type, hint), False)
        elif inner and typing.get_origin(hint) is not dict:
            found[name] = (typing.cast(type, inner[0]), True)
    return found


def from_dict(kind: type[T], data: Mapping[str, Any]) -> T:
    """The record of class `kind` in `data`. Raises `TypeError` on a missing or unknown field."""
    nested = _nested(typing.cast(Any, kind))
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name in nested and value is not None:
            inner, many = nested[name]
            value = [from_dict(inner, v) for v in value] if many else from_dict(inner, value)
        values[name] = value
    return kind(**values)
