"""`attune quality score`: a line for a line, the input's fields kept, what cannot be judged told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.quality.panel import Judges
from attunement.quality.scoring import score_file


@pytest.fixture(scope="module")
def judges() -> Judges:
    """The shipped ones."""
    return Judges()


def scored(judges: Judges, name: str, folder: Path, lines: list[str]) -> tuple[list[dict[str, object]], tuple[int, int]]:
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = score_file(judges, name, folder / "in.jsonl", folder / "out.jsonl")
    return [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()], counts


def test_a_line_for_a_line(judges: Judges, tmp_path: Path) -> None:
    lines = [json.dumps({"id": i, "text": f"I feel low {i}", "context": "Hello."}) for i in range(150)]
    lines[7], lines[9], lines[11] = "{broken", json.dumps({"id": 9}), "[1, 2]"
    rows, counts = scored(judges, "behaviour", tmp_path, lines)
    assert counts == (150, 3) and len(rows) == 150
    assert rows[7] == {"error": "is not valid JSON"} and rows[9] == {"id": 9, "error": "needs text in 'text'"}
    assert [row.get("id") for row in rows[12:]] == list(range(12, 150))
    assert set(rows[0]) == {"id", "text", "context", "score", "label", "labels", "reasons", "spans"}


def test_coherence_reads_question_answer_and_context(judges: Judges, tmp_path: Path) -> None:
    good = {
        "question": "How can I sleep better?",
        "answer": "Keep a fixed bedtime, and no screens before sleep.",
        "context": ["Hi"],
    }
    wrong = {**good, "answer": "Your brother should apologise to you first for the wedding."}
    rows, counts = scored(judges, "coherence", tmp_path, [json.dumps(good), json.dumps(wrong), json.dumps({"question": "x"})])
    assert counts == (3, 1) and rows[0]["score"] > rows[1]["score"]  # type: ignore[operator]
    assert rows[2]["error"] == "needs text in 'question' and in 'answer'"


def test_talks_as_turns_and_as_a_transcript(judges: Judges, tmp_path: Path) -> None:
    turns = [{"speaker": "Client", "text": "I drink."}, {"role": "therapist", "text": "What do you make of it?"}]
    lines = [
        json.dumps({"turns": turns}),
        json.dumps({"text": "Client: I drink.\nTherapist: What do you make of it?"}),
        json.dumps({}),
    ]
    rows, counts = scored(judges, "session", tmp_path, lines)
    assert counts == (3, 1) and rows[0]["label"] in ("low", "high") and "transcript" in str(rows[2]["error"])


def test_a_file_that_is_not_there(judges: Judges, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        score_file(judges, "crisis", tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
