"""Readers of the labelled public sets, on the real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.quality import labelled, own_sets


@pytest.mark.realdata
def test_examples_have_their_labels_and_groups(shared: Path) -> None:
    data = shared / "data"
    sets = {
        "goemotions": (labelled.goemotions(data), 28),
        "ekman": (labelled.goemotions(data, "ekman", "dev"), 7),
        "diasafety": (labelled.diasafety(data), 6),
        "epitome": (labelled.epitome(data, "exploration"), 3),
        "feedback": (labelled.counseling_feedback(data), 2),
        "sdcnl": (labelled.sdcnl(data), 2),
        "redditbias": (labelled.redditbias(data), 2),
    }
    for name, (examples, classes) in sets.items():
        assert len({label for e in examples for label in e.labels}) == classes, name
        assert all(e.labels and e.group and e.licence in ("R", "SA", "NC", "N") for e in examples), name
        assert sum(bool(e.text.strip()) for e in examples) > 0.99 * len(examples), name
    assert len(sets["goemotions"][0]) == 43_410 and len(sets["diasafety"][0]) == 9_017
    assert len({e.group for e in sets["diasafety"][0]}) < 9_017  # replies to one turn stay together


@pytest.mark.realdata
def test_sessions_and_pairs(shared: Path) -> None:
    data = shared / "data"
    annomi = labelled.annomi(data)
    assert len(annomi) == 109 and sum(len(s.turns) for s in annomi) == 7_880
    assert {e.labels[0] for e in labelled.turns_of(annomi, "therapist")} == set(labelled.BEHAVIOURS)
    assert {e.labels[0] for e in labelled.turns_of(annomi, "client")} == set(labelled.CLIENT_TALK)
    assert {s.quality for s in labelled.hlqc(data)} == {"high", "low"}
    answered = labelled.counselchat(data)
    assert len(answered) > 1_500 and not any("<p>" in a.answer for a in answered)
    assert 0 < sum(p.stereo for p in labelled.crows_pairs(data)) < 1_354


def test_own_sets_are_examples() -> None:
    crisis = own_sets.written_crisis()
    assert {e.labels[0] for e in crisis} == set(labelled.CRISIS_LEVELS) and any(e.context for e in crisis)
    assert len({e.group for e in crisis}) < len(crisis) / 5  # mirrored pairs stay together
    assert {e.labels[0] for e in own_sets.written_empathy("interpretation")} == {"0", "1", "2"}
    turns = labelled.turns_of(own_sets.written_sessions(), "therapist")
    assert len(turns) > 1_000 and all(len(e.context) <= 2 for e in turns)


def test_a_set_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="attune data fetch goemotions"):
        labelled.goemotions(tmp_path)


@pytest.mark.parametrize(
    ("read", "fetched"), [("counsel_chat.csv", "20200325_counsel_chat.csv"), ("DR_train.csv", "DR/train.csv")]
)
def test_files_as_fetch_leaves_them(read: str, fetched: str, tmp_path: Path) -> None:
    """`readers/sets/*.toml` fetch them under their publishers' names."""
    (tmp_path / "set" / fetched).parent.mkdir(parents=True)
    (tmp_path / "set" / fetched).touch()
    assert labelled.path_of(tmp_path, "set", read) == tmp_path / "set" / fetched
    with pytest.raises(DataError, match="attune data fetch set"):
        labelled.path_of(tmp_path, "set", "chat.json")
