"""Preference pairs: from experts' feedback and from edits in review; each left-out one has its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.curation.preferences import feedback_pairs, review_pairs, write_pairs
from attunement.curation.review import Held, HeldWriter, ReviewQueue, content_key, read_held
from attunement.errors import DataError
from attunement.storage.files import read_jsonl, write_json, write_jsonl
from attunement.storage.sql import Store


def feedback(turns: str, conversation: int = 0, **verdict: Any) -> dict[str, Any]:
    text = f"Instruction.\n\n### Input:\n{turns}\n\n### Response:{json.dumps(verdict)}"
    return {"text": text, "helper_index": 0, "conv_index": conversation}


WANTING = {"perfect": False, "badareas": ["Questions", "Empathy"], "alternative": "That hurts. What happened?"}
TALK = "Helper: Hello!\nSeeker: He left.\nSeeker: Today.\nHelper: Who did?\nSeeker: My cat.\nHelper: Get a new one."


def test_feedback_becomes_pairs_and_nothing_vanishes(tmp_path: Path) -> None:
    rows = [
        feedback(TALK, 7, **WANTING),
        feedback(TALK, 7, **{**WANTING, "alternative": "That  hurts. What happened? "}),
        feedback(TALK, 7, **{**WANTING, "alternative": "Get a new\none."}),
        feedback(TALK, 7, perfect=True, goodareas=[]),
        feedback(TALK, 7, perfect=False, badareas=[], alternative=" "),
        feedback("Helper: Hello!", 8, **WANTING),
        feedback("Helper: Hello!\nSeeker: Hi.", 8, **WANTING),
        {"text": "nothing of the kind", "conv_index": 9},
        feedback("Someone: Hello!", 9, **WANTING),
    ]
    write_json(tmp_path / "feedback.json", rows)
    told = write_pairs(tmp_path / "pairs.jsonl", feedback_pairs(tmp_path / "feedback.json"))
    wanted = {"duplicate": 1, "equal_sides": 1, "found_good": 1, "no_alternative": 1, "no_client_turn": 2, "unreadable": 2}
    assert dict(told.left_out) == wanted and told.sources.total() + told.left_out.total() == len(rows)
    (pair,) = read_jsonl(tmp_path / "pairs.jsonl")
    assert pair["prompt"] == [
        {"role": "user", "content": "He left.\nToday."},
        {"role": "assistant", "content": "Who did?"},
        {"role": "user", "content": "My cat."},
    ]
    assert (pair["chosen"], pair["rejected"]) == ("That hurts. What happened?", "Get a new one.")
    assert (pair["conversation_id"], pair["licence"], pair["reason"]) == ("feedback:7", "NC", "empathy, questions")


@pytest.fixture
def reviewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset with an edited pair in its training split, one in its test split, and one that was accepted."""
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    data = tmp_path / "data"
    held = [
        Held(content_key([], f"q{i}", f"old {i}"), f"x-{i}", "notes", [], f"q{i}", f"old {i}", ["risk_ignorance"], {})
        for i in range(3)
    ]
    with HeldWriter(data) as writer:
        for each in held:
            writer.add(each)
    queue = ReviewQueue(Store.at_home(tmp_path / "home"))
    queue.add(data, read_held(data))
    for each in held[:2]:
        queue.decide(each.hash, "edited", who="ana", why="kinder", answer=f"new {each.question}")
    queue.decide(held[2].hash, "accepted", who="ana", why="fine")
    rows = [
        {
            "id": f"x-{i}",
            "source": "notes",
            "conversation_id": f"c-{i}",
            "licence_class": "R",
            "messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"new q{i}"}],
        }
        for i in range(3)
    ]
    write_jsonl(data / "train.jsonl", [rows[0], rows[2]])
    write_jsonl(data / "test.jsonl", [rows[1]])
    return data


def test_edits_become_pairs_of_the_training_split_only(reviewed: Path, tmp_path: Path) -> None:
    queue = ReviewQueue(Store.at_home(tmp_path / "home"))
    told = write_pairs(tmp_path / "pairs.jsonl", review_pairs(queue, reviewed))
    (pair,) = read_jsonl(tmp_path / "pairs.jsonl")
    assert (pair["id"], pair["chosen"], pair["rejected"], pair["licence"]) == ("x-0", "new q0", "old 0", "R")
    assert pair["prompt"] == [{"role": "user", "content": "q0"}] and pair["reason"] == "risk_ignorance"
    assert dict(told.left_out) == {"not_in_training_split": 1}


def test_the_command_tells_what_it_made(reviewed: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "feedback.json", [feedback(TALK, 7, **WANTING), feedback(TALK, 7, perfect=True)])
    out = tmp_path / "pairs.jsonl"
    command = ["train", "pairs", "--feedback", tmp_path / "feedback.json", "--review", reviewed, "--out", out]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, (result.output, result.exception)
    assert "pairs: 2 from 2 conversations (1 of counseling-feedback, 1 of notes)" in result.stdout
    assert "1 found_good" in result.stdout and "NC, not for commercial use" in result.stdout
    told = json.loads(CliRunner().invoke(app, [*map(str, command), "--json"]).stdout)
    assert told["pairs"] == 2 and told["licences"] == ["NC", "R"] and told["left_out"]["not_in_training_split"] == 1


def test_bad_use_says_what_to_do_and_writes_nothing(reviewed: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    write_json(tmp_path / "other.json", {"a": 1})
    write_json(tmp_path / "good.json", [feedback(TALK, 7, perfect=True)])
    for arguments, message in (
        ([], "give --feedback FILE, --review DATASET, or both"),
        (["--feedback", tmp_path / "none.json"], "does not exist"),
        (["--feedback", tmp_path / "other.json"], "is not a file of counseling-feedback"),
        (["--feedback", tmp_path / "good.json"], "there are no preference pairs (1 found_good)"),
        (["--review", tmp_path / "nowhere"], "holds no dataset"),
    ):
        result = CliRunner().invoke(app, ["train", "pairs", "--out", str(out), *map(str, arguments)])
        assert isinstance(result.exception, DataError) and message in str(result.exception), result.exception
        assert not out.exists()


@pytest.mark.realdata
def test_the_real_feedback(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "counseling-feedback" / "feedback_train.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    told = write_pairs(tmp_path / "pairs.jsonl", feedback_pairs(path))
    assert told.sources.total() == 1224 and told.conversations == 150
    assert dict(told.left_out) == {"found_good": 461, "no_client_turn": 10, "equal_sides": 2}
