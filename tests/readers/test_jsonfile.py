"""JSON files of every layout, parsed at once and streamed: nothing in them is passed over without a word."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from attunement.readers.files import ReadFailure, discover, read
from attunement.records import Conversation

TURNS = [{"role": "user", "content": "I keep waking at four."}, {"role": "assistant", "content": "What wakes you?"}]
TALK = {"messages": TURNS}
BIG = 4000


def both(path: Path, longest: int) -> tuple[list[Conversation], list[ReadFailure]]:
    found = [x for file in discover([path]) for x in read(file, max_record_bytes=longest)]
    return [x for x in found if isinstance(x, Conversation)], [x for x in found if isinstance(x, ReadFailure)]


LAYOUTS: dict[str, tuple[Any, int, int]] = {
    "lists of turns under names": ({"c1": TURNS, "c2": TURNS, "note": "x"}, 2, 0),
    "splits": ({"train": [TALK, TALK], "test": [TALK]}, 3, 0),
    "a map of conversations": ({"c1": TALK, "c2": TALK}, 2, 0),
    "participants and messages": ({"participants": [{"name": "A", "id": 1}], "messages": TURNS}, 1, 0),
    "other lists beside": ({"labels": [{"id": 1}], "talks": [TALK, TALK]}, 2, 1),
    "exchanges": ({"conversations": [{"question": "Why am I sad?", "answer": "What happened?"}] * 2}, 2, 0),
    "below a key": ({"version": 1, "data": {"train": [TALK], "test": [TALK]}}, 2, 0),
    "arrays of turns": ([TURNS, TURNS], 2, 0),
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("padding", [0, 2 * BIG])
def test_layouts(tmp_path: Path, layout: str, indent: int | None, padding: int) -> None:
    """With padding the file is longer than a record may be: it is streamed, and one whole record it can't be."""
    content, good, failed = LAYOUTS[layout]
    text = json.dumps(content, indent=indent)
    (tmp_path / "t.json").write_text(text[:-1] + " " * 10 + text[-1] if not padding else text[:1] + "\n" * padding + text[1:])
    conversations, failures = both(tmp_path, BIG)
    assert (len(conversations), len(failures)) == (good, failed), failures
    assert all([t.text for t in c.turns] == [t["content"] for t in TURNS] for c in conversations if layout != "exchanges")
    assert len({c.conversation_id for c in conversations}) == good


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"data": items}, lambda items: {"a": TURNS, "data": items}])
def test_an_item_that_is_too_long_is_told_and_the_others_are_read(tmp_path: Path, wrap: Any) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 200}] * 10}
    (tmp_path / "t.json").write_text(json.dumps(wrap([TALK, long, TALK])))
    conversations, failures = both(tmp_path, BIG)
    assert len(conversations) in (2, 3) and [f.locator.split()[-1] for f in failures] == ["2"]
    assert "longer than 4,000 characters" in failures[0].error


def test_values_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(TALK, indent=1) + "\n" + json.dumps(TALK, indent=1))
    assert [len(x) for x in both(tmp_path, BIG)] == [2, 0]
    (tmp_path / "t.json").write_text(json.dumps(TURNS) + "\n" + json.dumps(TURNS))
    assert [len(x) for x in both(tmp_path, BIG)] == [2, 0]


def test_lines_whose_first_is_longer_than_the_head(tmp_path: Path) -> None:
    first = {"messages": [*TURNS, {"role": "user", "content": "word " * 20_000}]}
    (tmp_path / "t.json").write_text(json.dumps(first) + "\n" + json.dumps(TALK) + "\n")
    assert [len(x) for x in both(tmp_path, 1_000_000)] == [2, 0]


def test_a_list_of_turns_past_the_limit_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"c1": TURNS * 200, "c2": TURNS}, indent=1))
    conversations, failures = both(tmp_path, BIG)
    assert len(conversations) == 1 and [f.locator for f in failures] == ["c1 (all)"]


def test_an_endless_string_takes_little_memory(tmp_path: Path) -> None:
    with open(tmp_path / "t.json", "w") as file:
        file.write(json.dumps([TALK])[:-1] + ', {"messages": "')
        for _ in range(100):
            file.write("x" * 1_000_000)
        file.write('"}]')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    conversations, failures = both(tmp_path, 1_000_000)
    assert len(conversations) == 1 and "longer than 1,000,000" in failures[0].error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB
