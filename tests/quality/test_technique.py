"""The judges `technique` and `need`: AnnoMI's labels, the written ones, and what the shipped weights say of turns that are new."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from attunement.quality.labelled import written
from attunement.quality.own_sets import written_sessions
from attunement.quality.panel import Judges
from attunement.quality.techniques import (
    BEHAVIOUR_OF,
    NEEDS,
    TECHNIQUES,
    annomi_techniques,
    of_annomi,
    session_techniques,
    written_needs,
    written_techniques,
)
from attunement.quality.verdicts import Item

COLUMNS = (
    "transcript_id", "mi_quality", "utterance_id", "interlocutor", "utterance_text", "main_therapist_behaviour",
    "reflection_subtype", "question_subtype", "therapist_input_subtype",
)  # fmt: skip


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def row(main: str, reflection: str = "n/a", question: str = "n/a", given: str = "n/a") -> dict[str, str]:
    return dict(zip(COLUMNS[5:], (main, reflection, question, given), strict=True))


@pytest.mark.parametrize(
    ("labels", "technique"),
    [
        (row("reflection", reflection="complex", question="open"), "reflection_complex"),
        (row("question", question="closed", reflection="simple"), "question_closed"),
        (row("therapist_input", given="negotiation"), "advice"),
        (row("therapist_input", given="options"), "advice"),
        (row("therapist_input", given="information"), "information"),
        (row("other"), "other"),
        (row("reflection"), ""),
        (row("therapist_input"), ""),
    ],
)
def test_labels_of_annomi(labels: dict[str, str], technique: str) -> None:
    assert of_annomi(labels) == technique


def test_annomi_is_read_once_a_turn_with_the_most_frequent_label(tmp_path: Path) -> None:
    (tmp_path / "annomi").mkdir()
    rows = [
        ("0", "high", "0", "client", "I can't.", "n/a", "n/a", "n/a", "n/a"),
        ("0", "high", "1", "therapist", "You can't?", "reflection", "simple", "n/a", "n/a"),
        ("0", "high", "1", "therapist", "You can't?", "question", "n/a", "closed", "n/a"),
        ("0", "high", "1", "therapist", "You can't?", "question", "n/a", "closed", "n/a"),
        ("0", "high", "2", "therapist", "Hm.", "reflection", "n/a", "n/a", "n/a"),
    ]
    with open(tmp_path / "annomi" / "AnnoMI-full.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    (example,) = annomi_techniques(tmp_path)
    assert example.labels == ("question_closed",) and example.group == "annomi:0" and example.context == ("I can't.",)


def test_scenes_hold_the_same_client_under_other_techniques() -> None:
    examples = written_techniques()
    assert set(Counter(e.labels[0] for e in examples)) == set(TECHNIQUES)
    scenes: dict[str, set[tuple[str, ...]]] = {}
    for example in examples:
        scenes.setdefault(example.group, set()).add(example.context)
    assert all(len(contexts) == 1 for contexts in scenes.values())
    full = [scene for scene, n in Counter(e.group for e in examples).items() if n >= 6]
    assert len(full) >= 75


def test_session_labels_agree_with_the_behaviour_that_stood_there() -> None:
    behaviours = {(s.session_id, text): label for s in written_sessions() for role, text, label in s.turns if role == "therapist"}
    pairs = Counter((behaviours[e.group, e.text], BEHAVIOUR_OF[e.labels[0]], e.labels[0]) for e in session_techniques())
    apart = {pair for pair in pairs if pair[0] != pair[1]}
    assert apart <= {("reflection", "other", "validation")}, "only validation was told apart from a reflection"
    assert sum(pairs.values()) > 1100


def test_needs_stand_side_by_side_in_every_scene() -> None:
    scenes: dict[str, Counter[str]] = {}
    for example in written_needs():
        scenes.setdefault(example.group, Counter())[example.labels[0]] += 1
    assert all(set(counts) == set(NEEDS) and len(set(counts.values())) == 1 for counts in scenes.values())
    assert len(written("need")) >= 300


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("What was going through your mind when the bus left?", {"question_open"}),
        ("Have you eaten anything today?", {"question_closed"}),
        ("You left before she could say it.", {"reflection_simple", "reflection_complex"}),
        ("I'd suggest that you ring your doctor tomorrow and take your sister with you.", {"advice"}),
        ("Sleep gets lighter as we grow older, and most people wake two or three times in a night.", {"information"}),
        ("It makes complete sense that you were frightened. That took real courage.", {"validation"}),
        ("Mm-hm.", {"other"}),
    ],
)
def test_the_shipped_tagger_knows_plain_cases(judges: Judges, text: str, labels: set[str]) -> None:
    (verdict,) = judges.judge("technique", [Item(text, ("I missed the bus to her funeral.",))])
    assert verdict.label in labels
    assert sum(verdict.labels.values()) == pytest.approx(1, abs=0.01)


def test_the_detector_hears_the_question_before() -> None:
    judges = Judges()
    felt, thought = judges.judge(
        "need",
        [
            Item("I just miss him so much that I can't breathe. Please, only listen for a minute."),
            Item("Maybe thirty per cent, now that I look at it.", ("How much do you believe that she hates you?",)),
        ],
    )
    assert felt.label == "listening" and thought.label == "thought_work"


def test_on_real_turns_it_is_better_than_chance(shared: Path, judges: Judges) -> None:
    examples = annomi_techniques(shared / "data")[:400]
    verdicts = judges.judge("technique", [e.item for e in examples])
    right = sum(BEHAVIOUR_OF[v.label] == BEHAVIOUR_OF[e.labels[0]] for v, e in zip(verdicts, examples, strict=True))
    assert len(examples) == 400 and right / 400 > 0.55
