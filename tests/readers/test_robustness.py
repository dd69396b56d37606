"""Bad input: each is one clear line, and reading goes on."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.readers.files import ReadFailure, discover, read
from attunement.records import Conversation

GOOD = {"messages": [{"role": "user", "content": "I feel low today."}, {"role": "assistant", "content": "What happened?"}]}
LINE = json.dumps(GOOD)


def both(path: Path, longest: int = 1_000_000) -> tuple[list[Conversation], list[ReadFailure]]:
    found = [x for file in discover([path]) for x in read(file, max_record_bytes=longest)]
    return [x for x in found if isinstance(x, Conversation)], [x for x in found if isinstance(x, ReadFailure)]


@pytest.mark.parametrize(
    ("name", "content", "good", "where", "words"),
    [
        ("cut.json", (json.dumps([GOOD, GOOD], indent=1)[:-60]).encode(), 1, "file", "broken JSON"),
        ("cut_object.json", json.dumps(GOOD, indent=1)[:-9].encode(), 0, "file", "broken JSON"),
        ("bad_line.jsonl", f"{LINE}\n{LINE[:-9]}\n{LINE}\n".encode(), 2, "line 2", "not valid JSON"),
        ("binary.json", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, 0, "file", "binary file"),
        ("empty.jsonl", b"", 0, "file", "is empty"),
        ("blank.jsonl", b"  \n \n", 0, "file", "is empty"),
        ("header_only.csv", b"question,answer\n", 0, "file", "no records"),
        ("ragged.csv", b"question,answer\nHow are you,Fine thanks\nI am low,Why so,extra,cells\nBye now,See you\n", 2, "line 3", "4 columns"),
        ("bad_utf8.jsonl", f"{LINE}\n".encode() * 600 + b'{"messages": "\xff\xfe\xfa"}\n' + LINE.encode(), 601, "line 601", "not valid UTF-8"),
        ("long_first.jsonl", f'{{"messages": "{"x" * 1_200_000}"}}\n{LINE}\n'.encode(), 1, "line 1", "longer than 1,000,000 characters"),
        ("long_only.json", f'{{"messages": "{"x" * 1_200_000}"}}'.encode(), 0, "file", "longer than 1,000,000 characters"),
        ("deep.jsonl", f"{LINE}\n{'[' * 200_000}\n".encode(), 1, "line 2", "nested too deeply"),
        ("odd.json", json.dumps([{"colour": "blue", "size": 4}, {"colour": "red", "size": 5}], indent=1).encode(), 0, "item 1", "no shape"),
        ("short.txt", b"just a few words", 0, "file", "neither a transcript nor a talk"),
        ("fake.parquet", b"PAR1 but nothing else follows here", 0, "file", "broken Parquet"),
        ("bad.vtt", b"WEBVTT\n\n00:xx.000 --> 00:03.000\nHello\n", 0, "file", ""),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, name: str, content: bytes, good: int, where: str, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    conversations, failures = both(tmp_path)
    assert len(conversations) == good
    assert failures and failures[0].locator == where
    assert words in failures[0].error
    assert all("\n" not in f.error and len(f.error) < 200 for f in failures)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    text = "Th\u00e9r\u00e8se said she couldn\u2019t sleep \u2014 na\u00efve caf\u00e9 talk, d\u00e9j\u00e0 vu, \u00fcber tired"
    rows = [{"question": text, "answer": "What keeps you awake?"}] * 4
    (tmp_path / "t.jsonl").write_bytes("\n".join(json.dumps(r, ensure_ascii=False) for r in rows).encode(encoding))
    conversations, failures = both(tmp_path)
    assert not failures
    assert [c.turns[0].text for c in conversations] == [text] * 4


def test_an_empty_conversation_is_given_with_no_turns(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"messages": []}\n{"messages": [{"role": "user", "content": "  "}]}\n')
    conversations, failures = both(tmp_path)
    assert [list(c.turns) for c in conversations] == [[], []] and not failures


def test_a_100_mb_line_is_passed_over_in_little_memory(tmp_path: Path) -> None:
    with open(tmp_path / "t.jsonl", "w") as file:
        file.write(LINE + "\n" + '{"messages": "')
        for _ in range(100):
            file.write("x" * 1_000_000)
        file.write(f'"}}\n{LINE}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    conversations, failures = both(tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(conversations) == 2
    assert [f.locator for f in failures] == ["line 2"] and "longer than 1,000,000" in failures[0].error
    assert grown < 40_000  # KiB


def test_links_pipes_and_other_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(LINE)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "good.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "code.py").write_text("print()")
    (tmp_path / ".hidden.jsonl").write_text(LINE)
    files = {f.name: f.skip_reason for f in discover([tmp_path])}
    assert files["good.jsonl"] is None
    assert "README.md" not in files and ".hidden.jsonl" not in files
    assert "not a regular file" in str(files["pipe.jsonl"])
    assert "holds no conversations" in str(files["code.py"])
    assert len(both(tmp_path)[0]) == 1


def test_a_file_that_may_not_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(LINE)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may open any file")
    assert "cannot be opened" in both(tmp_path)[1][0].error


def test_a_path_that_does_not_exist() -> None:
    with pytest.raises(DataError, match="no/where does not exist"):
        discover([Path("no/where")])


def test_presets(tmp_path: Path) -> None:
    for folder in ("ai/lightning/pixelated-training", ".notes/pixel-training", "other"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{folder.split('/')[-1]}.jsonl").write_text(LINE)
    names = [f.path.parent.name for f in discover([tmp_path], preset="pixelated")]
    assert sorted(names) == ["pixel-training", "pixelated-training"]
    with pytest.raises(DataError, match="they are 'full' and 'pixelated'"):
        discover([tmp_path], preset="other")
    with pytest.raises(DataError, match="none of ai/lightning"):
        discover([tmp_path / "other"], preset="pixelated")


def test_files_of_two_roots_keep_their_names_apart(tmp_path: Path) -> None:
    for folder in ("a/talks", "b/talks"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "t.jsonl").write_text(LINE)
    assert [f.name for f in discover([tmp_path / "a/talks", tmp_path / "b/talks"])] == ["0-talks/t.jsonl", "1-talks/t.jsonl"]
    assert len(discover([tmp_path, tmp_path / "a"])) == 2
