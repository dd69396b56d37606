"""Markers of personality: counted from words, placed among speakers, with evidence and uncertainty, and none from too few words."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from recorded import heard, session

from attunement.quality.panel import Judges
from attunement.records import PersonalityProfile, SpokenSegment
from attunement.sources.voice.emotions import emotional_patterns
from attunement.sources.voice.language_markers import lexical_markers, norms, said_of
from attunement.sources.voice.lexicon_counts import categories, is_question, words_of, written
from attunement.sources.voice.personality import EMPATHY, axis_scores, given, profile_of, profiles_of, reliability, responses
from attunement.sources.voice.style import style_distance


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


@pytest.fixture(scope="module")
def profiles(judges: Judges) -> dict[str, PersonalityProfile]:
    return profiles_of(session().segments, judges)


def test_contractions_and_phrases_are_counted_as_what_they_say() -> None:
    assert words_of("I can\u2019t, we\u2019ve 12 mm-hmm well-meant") == [
        "i",
        "can",
        "not",
        "we",
        "have",
        "12",
        "mm-hmm",
        "well",
        "meant",
    ]
    said = categories().said(words_of("I don't know, it's sort of fine. Sort of."), "hedge")
    assert said == {"sort of": 2}
    assert words_of("dont can't")[1:] == ["can", "not"]


@pytest.mark.parametrize(
    ("sentence", "asks"),
    [
        ("How was that?", True), ("how was that for you", True), ("do you sleep at night", True), ("so what kind of day was it", True),
        ("what i mean is that it hurts", False), ("That is how it was.", False), ("do not do that", False),
    ],
)  # fmt: skip
def test_a_question_is_known_without_its_mark(sentence: str, asks: bool) -> None:
    assert is_question(sentence) is asks


def test_every_published_correlation_has_a_category_of_ours() -> None:
    table = written("personality")
    assert set(table["correlations"]) <= set(categories().names) == set(norms()["all"]["rates"])
    assert all(len(row) == 5 and all(abs(r) < 0.3 for r in row) for row in table["correlations"].values())
    assert table["source"]["n"] == 694 and "Yarkoni 2010" in table["source"]["paper"]


def test_every_marker_has_evidence_and_uncertainty(profiles: dict[str, PersonalityProfile]) -> None:
    therapist, client = profiles["S1"], profiles["S2"]
    assert therapist.words > 1200
    for profile in (therapist, client):
        assert profile.markers.keys() == profile.evidence.keys() == profile.uncertainty.keys()
        assert all(0 <= value <= 1 for value in profile.markers.values())
        assert all(0 < error < 0.5 for error in profile.uncertainty.values()) and all(profile.evidence.values())
        assert sum(x * x for x in profile.style) == pytest.approx(1, abs=1e-3)
    assert {"openness", "neuroticism", "self_focus", "questions"} <= therapist.markers.keys()
    assert "sentences ask" in therapist.evidence["questions"][0]
    assert set(EMPATHY) & therapist.markers.keys() and "responses" in therapist.evidence["interpretation"][0]


def test_too_few_words_give_no_marker(judges: Judges) -> None:
    profile = profile_of(session("sweet_peas.txt").segments[:4], judges, "S1")
    assert 0 < profile.words < min(row["least_words"] or 10_000 for row in reliability()["markers"].values())
    assert profile.markers == {} and profile.evidence == {} and profile.style


def test_reliability_decides_what_is_given() -> None:
    rows = reliability()["markers"]
    for name, row in rows.items():
        least = row["least_words"]
        assert not given(name, 10_000) if least is None else given(name, least) and not given(name, least - 1)
        assert row["by_words"]
    assert not given("unheard_of", 10_000)


@pytest.mark.parametrize(
    ("marker", "more", "less"),
    [
        ("self_focus", "I told my sister that I was tired of my job.", "The bus was late and the road was wet."),
        ("hedging", "Maybe it was sort of a mistake, I guess.", "It was a mistake and the bill is due."),
        ("questions", "What did you do then?", "You went home then."),
        ("agreeableness", "We had a lovely weekend at home with the family.", "That damn boss and his hateful money."),
        ("openness", "The shape of the light on the water at dawn.", "My mom and I went home and I did not like it."),
    ],
)
def test_a_marker_follows_the_words(marker: str, more: str, less: str) -> None:
    usual = session("table_for_two.txt").text
    values = [lexical_markers(said_of([usual, *[text] * 20]))[marker] for text in (more, less)]
    assert values[0][0] > values[1][0] + 0.2


def test_axes_know_sentences_that_they_were_not_made_of(judges: Judges) -> None:
    told = ["Take your tablets at eight and stop drinking.", "You ought to ring her and apologise."]
    asked = ["I wonder what you would like to happen.", "What does that mean to you?"]
    kind, cold = ["I am so happy to have you here, dear."], ["Hand in the papers by noon or you will be fined."]
    directive = axis_scores([*told, *asked], judges)["directiveness"]
    assert directive[:2].min() > directive[2:].max()
    warm = axis_scores([*kind, *cold], judges)["warmth"]
    assert warm[0] > warm[1]


def test_responses_are_joined_and_stand_after_what_they_answer() -> None:
    rows = [("A", "", "Hello."), ("B", "", "I am late."), ("B", "", "Sorry."), ("A", "", "That is"), ("A", "", "all right.")]
    found = responses(heard(rows).segments, "A")
    assert [(r.before, r.text) for r in found] == [("I am late. Sorry.", "That is all right.")]


def test_sound_is_scaled_with_its_raw_figure(judges: Judges) -> None:
    rng = random.Random(4)
    prosody = [{"words_per_second": rng.gauss(3.0, 0.1), "pitch_range_semitones": rng.choice([0.0, 30.0])} for _ in range(12)]
    told = [SpokenSegment("yes", n, n + 2.0, speaker="S1", prosody=p) for n, p in enumerate(prosody)]
    profile = profile_of(told, judges, "S1")
    assert profile.markers["speech_rate"] == pytest.approx((3.0 - 1.67) / 2.66, abs=0.05)
    assert profile.evidence["speech_rate"][0].startswith(("2.9", "3.0")) and "words/s" in profile.evidence["speech_rate"][0]
    assert "pitch_range" not in profile.markers  # its standard error is too great
    assert profile_of(told[:4], judges, "S1").markers == {}


def test_emotion_over_time_in_merged_runs(judges: Judges) -> None:
    texts = [
        "I am so angry with him.",
        "mm",
        "He makes me furious, I hate it.",
        "Thank you so much, I am really grateful.",
        "Thank you for that.",
    ]
    found = emotional_patterns([replace(s, speaker="S1") for s in heard([("S1", "", t) for t in texts]).segments], judges)
    assert [pattern.emotion for pattern in found] == ["anger", "gratitude"]
    assert found[0].start_seconds == 0 and found[0].end_seconds < found[1].start_seconds
    assert all(0 < pattern.intensity <= 1 for pattern in found)


def test_a_style_is_nearer_to_its_own_speaker(profiles: dict[str, PersonalityProfile], judges: Judges) -> None:
    rest = session("sweet_peas.txt", "gravel_and_miles.txt", "autistic_office.txt", "bitten_nails.txt")
    own, other = (" ".join(s.text for s in rest.segments if s.speaker == name) for name in ("S1", "S2"))
    half = profile_of(session("vet_on_a_sunday.txt", "the_sitting_month.txt", "table_for_two.txt").segments, judges, "S1")
    assert style_distance(own, half) < style_distance(other, half)
    assert style_distance("", half) == 1.0
