"""Pairs measured and rejected with their reasons; what is dangerous is marked for a clinician, what is unsafe is not kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from recorded import session

from attunement.config import VoiceSettings
from attunement.quality.panel import Judges
from attunement.records import REVIEW_MARK, REVIEW_REASONS, DialoguePair, PersonalityProfile
from attunement.sources.voice.checking import Checked, check, consistency_of, examples, report_of, transcription_of, validate
from attunement.sources.voice.dialogue import construct
from attunement.sources.voice.emotions import emotional_patterns
from attunement.sources.voice.naturalness import Fluency, completeness, disfluency, natural, naturalness
from attunement.sources.voice.personality import profiles_of


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


@pytest.fixture(scope="module")
def fluency() -> Fluency:
    return Fluency()


@pytest.fixture(scope="module")
def profiles(judges: Judges) -> dict[str, dict[str, PersonalityProfile]]:
    return {"t-1": profiles_of(session().segments, judges)}


@pytest.fixture(scope="module")
def pairs(judges: Judges) -> Sequence[DialoguePair]:
    return construct([session()], judges=judges)[:40]


@pytest.fixture(scope="module")
def checked(
    pairs: Sequence[DialoguePair], profiles: dict[str, dict[str, PersonalityProfile]], judges: Judges, fluency: Fluency
) -> list[Checked]:
    return check(pairs, profiles, judges=judges, fluency=fluency)


def test_real_pairs_are_kept_and_measured(checked: list[Checked]) -> None:
    report = report_of(checked)
    assert report.passed and report.metrics.kept_pairs >= 0.7 * len(checked), report.details
    assert report.metrics.kept_pairs + report.metrics.rejected_pairs == len(checked) == 40
    assert report.source_distribution == {"voice": report.metrics.kept_pairs} and report.metrics.extracted_share == 1.0
    assert report.details["transcription_quality"] == 0.9 and report.details["naturalness"] > 0.7
    assert sum(c.consistency is not None for c in checked) > 30


def test_each_fault_has_its_reason(pairs: Sequence[DialoguePair], judges: Judges, fluency: Fluency) -> None:
    good = next(pair for pair in pairs if len(pair.response.split()) > 12)
    words = good.response.split()
    random.Random(1).shuffle(words)
    spoilt = {
        "low_transcription_quality": replace(good, metadata={**good.metadata, "confidence": 0.4}),
        "unnatural": replace(good, response=" ".join(words).lower()),
        "emotion_does_not_fit": replace(
            good,
            prompt="I am so sad since my mother died, I cry all the time.",
            response="Haha, that is so funny, I love it! How exciting, you really made me laugh!",
        ),
        "rule:": replace(good, response="You should stop taking your medication, you do not need a doctor."),
    }
    (sound,) = check([good], judges=judges, fluency=fluency)
    assert not sound.reasons and 0.4 < sound.emotional <= 1 and sound.figures["clash"] < 0.1
    for code, pair in spoilt.items():
        (found,) = check([pair], judges=judges, fluency=fluency)
        assert any(reason.startswith(code) for reason in found.reasons) and not found.kept, (code, found)


def test_another_talks_answers_are_less_coherent(pairs: Sequence[DialoguePair], checked: list[Checked], judges: Judges) -> None:
    moved = [replace(pair, response=pairs[n - 20].response, metadata={}) for n, pair in enumerate(pairs)]
    found = check(moved, judges=judges)
    incoherent = [sum("incoherent" in c.reasons for c in group) for group in (checked, found)]
    assert incoherent[0] < incoherent[1] and sum(c.coherence for c in checked) > 1.2 * sum(c.coherence for c in found)


def test_a_planted_speaker_is_found(
    pairs: Sequence[DialoguePair], profiles: dict[str, dict[str, PersonalityProfile]], judges: Judges
) -> None:
    strange = "It was me, I did it, and I told her that I could not and would not, and she said I was not to, so I left her."
    found = check([replace(pairs[0], response=strange)], profiles, judges=judges, settings=VoiceSettings(least_consistency=0.3))
    assert "not_like_speaker" in found[0].reasons and found[0].consistency is not None


def test_a_reference_counts_more_than_confidence(pairs: Sequence[DialoguePair]) -> None:
    pair = replace(
        pairs[0], response="it was the best of time", metadata={"confidence": 0.2, "reference": "It was the best of times."}
    )
    assert transcription_of(pair) == pytest.approx(1 - 1 / 6, abs=1e-4)
    assert transcription_of(replace(pair, metadata={"confidence": 0.2})) == 0.2


def test_another_speakers_words_are_less_consistent(profiles: dict[str, dict[str, PersonalityProfile]]) -> None:
    own, others = (
        [consistency_of(s.text, profiles["t-1"]["S1"]) for s in session().segments if s.speaker == name] for name in ("S1", "S2")
    )
    means = [sum(filter(None, found)) / len([f for f in found if f is not None]) for found in (own, others)]
    assert means[0] > means[1] + 0.15
    assert consistency_of("Mm.", profiles["t-1"]["S1"]) is None
    assert consistency_of("What was that like for you, all those years ago?", None) is None


def test_danger_is_for_a_clinician_and_unsafe_answers_are_not_kept(pairs: Sequence[DialoguePair], judges: Judges) -> None:
    danger = "I want to die. I have the tablets at home and I will take them tonight."
    asks = replace(
        pairs[0],
        prompt=danger,
        response="Thank you for telling me. Are you thinking of taking them tonight, and is somebody with you?",
    )
    shrugs = replace(pairs[0], prompt=danger, response="Then just do it, nobody would miss you anyway.")
    good, bad = check([asks, shrugs], judges=judges)
    assert good.pair.metadata[REVIEW_MARK] is True and "suicid" in good.pair.metadata[REVIEW_REASONS]
    assert not any(reason.startswith(("unsafe", "rule")) for reason in good.reasons)
    assert any(reason.startswith(("unsafe", "rule")) for reason in bad.reasons)
    assert danger not in str(validate([asks], judges=judges).details)
    assert REVIEW_MARK not in check([replace(pairs[0], prompt="I had soup for lunch today.")], judges=judges)[0].pair.metadata


def test_nothing_gives_a_report_that_says_so(judges: Judges) -> None:
    report = validate([], judges=judges, settings=VoiceSettings())
    assert not report.passed and report.issues == ("there are no pairs",) and report.metrics.kept_pairs == 0


def test_examples_are_the_contracts_records(
    checked: list[Checked], profiles: dict[str, dict[str, PersonalityProfile]], judges: Judges
) -> None:
    own = [segment for segment in session().segments if segment.speaker == "S1"]
    patterns = {"t-1": {"S1": emotional_patterns(own, judges)}}
    found = examples(checked, profiles, patterns)
    kept = [c for c in checked if c.kept]
    assert [e.dialogue_pair for e in found] == [c.pair for c in kept]
    for example, c in zip(found, kept, strict=True):
        assert example.personality_markers is profiles["t-1"]["S1"] and example.source_type == "clinical_demo"
        assert example.source_url == "http://127.0.0.1/talk" and example.transcription_quality == c.transcription
        assert example.naturalness_score == c.naturalness.score
        start, end = c.pair.metadata["start_seconds"], c.pair.metadata["end_seconds"]
        assert all(e.start_seconds < end and e.end_seconds > start for e in example.emotional_patterns)
    assert any(example.emotional_patterns for example in found)


@pytest.mark.parametrize("punctuated", [True, False])
def test_shuffled_and_cut_words_read_less_natural(pairs: Sequence[DialoguePair], fluency: Fluency, punctuated: bool) -> None:
    rng = random.Random(2)
    texts = [
        pair.response if punctuated else pair.response.lower().replace(".", "").replace("?", "").replace(",", "")
        for pair in pairs
    ]
    texts = [text for text in texts if len(text.split()) >= 8][:16]
    shuffled = [" ".join(rng.sample(text.split(), len(text.split()))) for text in texts]
    cut = [" ".join(text.split()[: len(text.split()) * 2 // 3]) for text in texts]
    real, mixed, short = ([natural(t, punctuated, fluency).score for t in group] for group in (texts, shuffled, cut))
    assert sum(a > b for a, b in zip(real, mixed, strict=True)) >= 0.9 * len(real)
    assert sum(real) > sum(short) + 0.1 * len(real)


def test_disfluency_and_completeness_are_counted() -> None:
    assert disfluency("um I I was uh going") == pytest.approx(3 / 6)
    assert disfluency("I was going to the shop.") == 0
    assert completeness("It was the", True) < completeness("It was the end", True) < completeness("It was the end.", True) == 1
    assert completeness("it was the end", False) == 1 and completeness("I was going to —", False) < 0.5
    (found,) = naturalness([DialoguePair("Why?", "")])
    assert found.score == 0
