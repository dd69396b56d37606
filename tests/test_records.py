"""Records: the contract's fields by name, and the way to plain data and back."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunement import records
from attunement.records import (
    Conversation,
    EmotionalState,
    EmotionalTrend,
    Milestone,
    ModelConfig,
    Origin,
    ProcessedDataset,
    ProgressReport,
    QAPair,
    QualityMetrics,
    Timeframe,
    TrainingConfig,
    Turn,
    from_dict,
    to_dict,
)

CONTRACT = {
    "QAPair": "question answer context source_type semantic_score metadata",
    "EdgeCaseExample": "prompt response purpose category difficulty_level expected_challenges source clinical_review_required",
    "VoiceDataExample": "dialogue_pair personality_markers emotional_patterns transcription_quality naturalness_score "
    "source_url source_type",
    "PsychologyKnowledgeExample": "concept_id category content source related_concepts therapeutic_approaches clinical_context",
    "ProcessedDataset": "qa_pairs edge_cases voice_data psychology_knowledge total_conversations processing_success_rate "
    "quality_metrics source_distribution",
    "ModelConfig": "architecture num_experts expert_domains context_length lora_rank lora_alpha dropout",
    "TrainingConfig": "max_duration_hours batch_size learning_rate warmup_steps weight_decay early_stopping_patience "
    "checkpoint_interval",
    "SessionLog": "client_id session_id timestamp conversation_summary emotional_state therapeutic_goals progress_notes "
    "therapist_observations next_session_focus",
    "ProgressReport": "client_id timeframe sessions_count goal_progress emotional_trends key_milestones overall_trajectory "
    "recommendations",
    "InferenceRequest": "conversation_context user_input",
    "InferenceResponse": "response bias_score confidence",
    "HealthStatus": "status model_version uptime",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contracts_fields_come_first_in_its_order(name: str) -> None:
    wanted = CONTRACT[name].split()
    assert [f.name for f in dataclasses.fields(getattr(records, name))][: len(wanted)] == wanted


def test_the_contracts_defaults() -> None:
    model, training = ModelConfig(), TrainingConfig()
    assert (model.architecture, model.num_experts, model.context_length) == ("moe", 8, 8192)
    assert (model.lora_rank, model.lora_alpha, model.dropout) == (16, 32, 0.1)
    assert tuple(model.expert_domains) == ("psychology", "mental_health", "bias_detection")
    assert (training.max_duration_hours, training.batch_size, training.learning_rate) == (12, 32, 3e-4)
    assert (training.warmup_steps, training.weight_decay) == (1000, 0.01)
    assert (training.early_stopping_patience, training.checkpoint_interval) == (3, 1000)


def test_records_never_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Turn("client", "hello").text = "other"  # type: ignore[misc]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
turns = st.builds(Turn, st.sampled_from(records.ROLES), words, words, st.none() | st.floats(0, 1e6))
origins = st.builds(Origin, words, words, words, words, words, words, words)
plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words
conversations = st.builds(
    Conversation,
    words,
    st.lists(turns, max_size=4),
    origins,
    st.sampled_from(records.SHARES),
    st.none() | words,
    st.dictionaries(words, plain, max_size=3),
)


@given(conversations)
def test_a_conversation_survives_json(conversation: Conversation) -> None:
    assert from_dict(Conversation, json.loads(json.dumps(to_dict(conversation)))) == conversation


def test_nested_records_come_back_as_records() -> None:
    dataset = ProcessedDataset(
        [QAPair("How are you?", "I listen.", ["before"], "interview", 0.7, {"id": "x-1"})],
        [], [], [], 1, 1.0, QualityMetrics(0.7, 1.0, 0.0, 1, 0), {"standard": 1}, Path("somewhere"),
    )  # fmt: skip
    plain_data = to_dict(dataset)
    assert plain_data["location"] == "somewhere"
    back = from_dict(ProcessedDataset, plain_data)
    assert back.quality_metrics == dataset.quality_metrics
    assert back.qa_pairs == dataset.qa_pairs


def test_times_are_written_in_iso_form() -> None:
    start = datetime(2026, 3, 1, 9, 30)
    week = Timeframe(start, start + timedelta(days=7), "weekly")
    report = ProgressReport(
        "c", week, 1, {"sleep": 0.5}, [EmotionalTrend("joy", 0.1, (0.0, 0.2))], [Milestone("m", "slept", start)], "improving", []
    )
    plain_data: dict[str, Any] = to_dict(report)
    assert plain_data["timeframe"]["start"] == "2026-03-01T09:30:00"
    assert plain_data["emotional_trends"][0]["interval"] == [0.0, 0.2]
    assert week.length == timedelta(days=7)
    felt = {"emotions": {"joy": 0.3}, "valence": 0.0, "arousal": 0.0, "uncertainty": {}, "words": 0}
    assert to_dict(EmotionalState({"joy": 0.3})) == felt


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        from_dict(Turn, {"role": "client", "text": "x", "colour": "red"})
    with pytest.raises(TypeError, match="text"):
        from_dict(Turn, {"role": "client"})
