"""Files: whole or not at all, canonical bytes, hashes, and JSON lines as a sequence."""

from __future__ import annotations

import fcntl
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunement.errors import DataError
from attunement.storage.files import (
    JsonlSequence,
    atomic_write,
    canonical,
    content_hash,
    exclusive,
    file_hash,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_binary_writes(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "b", binary=True) as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


def test_the_canonical_form_is_one() -> None:
    assert canonical({"b": [1, "ä"], "a": None}) == '{"a":null,"b":[1,"ä"]}'
    assert content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(float("nan"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_the_canonical_form_loses_nothing(value: object) -> None:
    assert json.loads(canonical(value)) == value
    assert "\n" not in canonical(value)


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    wanted = hashlib.sha256(b"abc").hexdigest()
    assert file_hash(path) == content_hash(b"abc") == content_hash("abc") == wanted


def test_json_errors_name_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": [2]})
    assert read_json(tmp_path / "x.json") == {"a": [2], "b": 1}
    assert (tmp_path / "x.json").read_text().startswith('{\n  "a"')
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match=r"bad\.json is not valid JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        read_json(tmp_path / "none.json")


def test_json_lines_are_a_sequence(tmp_path: Path) -> None:
    rows = [{"n": i, "text": "ü" * i + "\u2028"} for i in range(7)]
    assert write_jsonl(tmp_path / "a.jsonl", rows[:3]) == 3
    assert write_jsonl(tmp_path / "b.jsonl", rows[3:]) == 4
    (tmp_path / "a.jsonl").open("a").write("\n")  # an empty line is no row
    sequence = JsonlSequence([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], lambda row, _: row["n"])
    assert len(sequence) == 7
    assert list(sequence) == list(range(7))
    assert sequence[2:5] == [2, 3, 4]
    assert (sequence[0], sequence[-1]) == (0, 6)
    with pytest.raises(IndexError):
        sequence[7]
    assert list(read_jsonl(tmp_path / "b.jsonl")) == rows[3:]


def test_a_lock_keeps_others_out_and_leaves_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "a" / "b" / "lock"
    for _ in range(2):
        with exclusive(lock, "taken"):
            with pytest.raises(DataError, match="taken"), exclusive(lock, "taken"):
                pass
            assert lock.is_file()
        assert list(tmp_path.iterdir()) == []


def test_a_lock_leaves_the_folders_that_were_used_or_there_before(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for folder in (tmp_path / "before", tmp_path / "used" / "empty"):
        with pytest.raises(RuntimeError), exclusive(folder / "lock", "taken"):
            (tmp_path / "used" / "file").write_text("x") if folder.parent.name == "used" else None
            raise RuntimeError
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["before", "used", "used/file"]


def test_a_lock_on_a_file_that_its_holder_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder before removes the file between our opening and our locking it, and leaves."""
    lock, flock, left = tmp_path / "lock", fcntl.flock, []

    def late(file: Any, how: int) -> None:
        if not left:
            left.append(True)
            lock.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with exclusive(lock, "taken"):
        with pytest.raises(DataError, match="taken"), exclusive(lock, "taken"):
            pass
    assert left


def test_many_want_one_lock_and_one_has_it(tmp_path: Path) -> None:
    lock, inside, most, entered = tmp_path / "deep" / "er" / "lock", [0], [0], [0]
    counting = threading.Lock()

    def change(by: int) -> None:
        with counting:
            inside[0] += by
            entered[0] += by > 0
            most[0] = max(most[0], inside[0])

    def work() -> None:
        done = 0
        while done < 60:
            try:
                with exclusive(lock, "taken"):
                    change(1)
                    time.sleep(0.0002)
                    change(-1)
                    done += 1
            except DataError as error:
                assert str(error) == "taken"

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (entered[0], most[0]) == (360, 1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_in_the_place_of_the_locks_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    for lock in (tmp_path / "out" / "lock", tmp_path / "out" / "work" / "lock"):
        with pytest.raises(OSError, match=r"File exists|Not a directory"), exclusive(lock, "taken"):
            pass
