"""Faults that a review found: a bad record is one line in the report, and roles and conversations are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from attunement.readers.files import ReadFailure, discover, read
from attunement.readers.turns import role_of, to_turns, transcript
from attunement.records import Conversation

Q, A = "I keep waking at four with a racing heart.", "What goes through your mind when you wake?"
TALK = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]


def both(path: Path, longest: int = 1_000_000) -> tuple[list[Conversation], list[ReadFailure]]:
    found = [x for file in discover([path]) for x in read(file, max_record_bytes=longest)]
    return [x for x in found if isinstance(x, Conversation)], [x for x in found if isinstance(x, ReadFailure)]


def test_a_bad_value_costs_no_more_than_its_record(tmp_path: Path) -> None:
    rows = [
        f'{{"question": {json.dumps(Q)}, "answer": {json.dumps(A)}, "quality": NaN}}',
        f'{{"question": "half a character \\ud800 here", "answer": {json.dumps(A)}, "topic": "\\ud800"}}',
        f'{{"question": {"9" * 5000}, "answer": {json.dumps(A)}}}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    good, failed = both(tmp_path)
    assert len(good) == 2 and [f.error for f in failed] == ["holds a number that is too long"]
    assert json.dumps([t.text for c in good for t in c.turns], ensure_ascii=False).encode()  # can be written
    assert all("quality" not in c.metadata for c in good)


def test_nesting_without_end_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 20_000 + "]" * 20_000, encoding="utf-8")
    good, failed = both(tmp_path)
    assert not good and len(failed) == 1


def test_rows_that_are_no_objects_are_told(tmp_path: Path) -> None:
    rows = [{"session_id": 1, "speaker": "Client", "text": Q}, None, {"session_id": 1, "speaker": "Therapist", "text": A}, 42]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    good, failed = both(tmp_path)
    assert [len(c.turns) for c in good] == [2] and len(failed) == 2


def test_parquet_with_broken_text_is_told(tmp_path: Path) -> None:
    column = pyarrow.array([b"\xff\xfe", A.encode()]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"question": column, "answer": [A, A]}), tmp_path / "p.parquet")
    _, failed = both(tmp_path)
    assert failed and all("\n" not in f.error for f in failed)


@pytest.mark.parametrize(
    "content",
    [json.dumps({"data": [{"messages": TALK}, {"messages": TALK}]}), json.dumps({"name": "x", "talks": [TALK, TALK]})],
)
def test_a_compact_object_with_a_list_inside_is_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content, encoding="utf-8")
    good, failed = both(tmp_path)
    assert len(good) == 2 and not failed


def test_a_long_first_line_does_not_hide_the_others(tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 40_000}, TALK[1]]}
    (tmp_path / "l.jsonl").write_text(
        "\n".join(map(json.dumps, [long, {"messages": TALK}, {"messages": TALK}])), encoding="utf-8"
    )
    good, failed = both(tmp_path)
    assert len(good) == 3 and not failed


def test_a_table_goes_on_after_a_bad_line(tmp_path: Path) -> None:
    rows = [f'"{Q} {i}","{A} {i}"'.encode() for i in range(2000)]
    rows[1900] = b'"bad \xff byte","and its answer"'
    (tmp_path / "t.csv").write_bytes(b"question,answer\n" + b"\n".join(rows) + b"\n")
    good, failed = both(tmp_path)
    assert len(good) == 1999 and [f.locator for f in failed] == ["line 1902"]


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": Q, "input": "", "output": A, "history": []},
        {"instruction": Q, "context": "", "response": A},
        {"messages": [], "conversations": TALK},
    ],
)
def test_empty_lists_and_dolly(tmp_path: Path, record: dict[str, object]) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    good, _ = both(tmp_path)
    assert [[t.text for t in c.turns] for c in good] == [[Q, A]]
    assert [[t.role for t in c.turns] for c in good] == [["client", "therapist"]]


@pytest.mark.parametrize("column", ["ID of session", "conversationId", "sessionId", "thread", "Call-ID"])
def test_conversations_are_told_apart(tmp_path: Path, column: str) -> None:
    name = {"ID of session": "session_id"}.get(column, column)
    rows = [f"{number},{who},{text}" for number in (1, 2) for who, text in (("Client", Q), ("Therapist", A))]
    (tmp_path / "t.csv").write_text(f"{name},speaker,text\n" + "\n".join(rows), encoding="utf-8")
    good, _ = both(tmp_path)
    assert [len(c.turns) for c in good] == [2, 2]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("T", "therapist"), ("C", "client"), ("P1", "client"), ("Dr. Smith", "therapist"), ("Therapist 1", "therapist"),
        ("CLIENT_2", "client"), ("Bob (therapist)", "therapist"), ("Anna (client)", "client"), ("Therapist Bob", "therapist"),
        ("Anna", None), ("Student Union", None),
    ],
)  # fmt: skip
def test_names_tell_roles(name: str, role: str | None) -> None:
    assert role_of(name) == role


def test_the_therapist_may_speak_first() -> None:
    for first, second in (("T", "C"), ("Dr. Smith", "Anna"), ("Bob (therapist)", "Anna (client)")):
        spoken = transcript(f"{first}: {A}\n{second}: {Q}\n{first}: {A} Really?\n{second}: {Q} Yes.\n")
        assert spoken is not None
        assert [t.role for t in to_turns(spoken)] == ["therapist", "client", "therapist", "client"]


def test_a_quote_at_the_end_stays() -> None:
    spoken = transcript('Client: She told me "go away"\nTherapist: "How did that feel?"\n')
    assert spoken is not None and [text for _, text, _ in spoken] == ['She told me "go away"', "How did that feel?"]


def test_a_bad_byte_does_not_change_the_encoding(tmp_path: Path) -> None:
    text = "She asked \u201cwhy\u201d \u2014 na\u00efve, caf\u00e9"
    lines = [json.dumps({"question": text, "answer": A}, ensure_ascii=False).encode()] * 5
    (tmp_path / "b.jsonl").write_bytes(b"\n".join([*lines, b'{"question": "\xff", "answer": "x"}', *lines]))
    good, failed = both(tmp_path)
    assert [c.turns[0].text for c in good] == [text] * 10 and [f.locator for f in failed] == ["line 6"]
