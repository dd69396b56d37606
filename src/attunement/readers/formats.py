"""File formats, told apart by content: each gives its records one by one.

JSON (array, object with a list inside, one object), JSON lines (with a word before the JSON, too), CSV and the like,
Parquet, plain transcripts, SRT and VTT.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attunement.readers.decoding import Line, Unreadable, encoding_of, head_of, lines, whole_text
from attunement.readers.shapes import TURN_LISTS, is_turn, spoken_of
from attunement.readers.turns import Spoken, clean, seconds

FORMATS = ("json", "jsonl", "table", "parquet", "srt", "vtt", "text")
_SRT = re.compile(r"^\s*\d+\s*\n\d{1,2}:\d{2}:\d{2}[,.]\d{1,3}\s*-->", re.M)
_PREFIXED = re.compile(r"^[\w-]{1,40}\s+(?=\{)")
_SPEAKS = re.compile(r'^(?:[\[(]?\d+:\d+[^ ]* +)?[^,;\t|:{\["]{1,40}: ')
_VOICE = re.compile(r"^\s*[A-Z][\w.' -]{0,40}:\s")


@dataclass(frozen=True)
class Found:
    """A record with its place in the file; `error` says why there is none."""

    locator: str
    record: Any = None
    error: str | None = None


def format_of(path: Path) -> tuple[str, str]:
    """(format, encoding) of a file. Raises `Unreadable`."""
    head = head_of(path)
    if head.startswith(b"PAR1"):
        return "parquet", ""
    encoding = encoding_of(head)
    text = head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("WEBVTT"):
        return "vtt", encoding
    if _SRT.match(text):
        return "srt", encoding
    first = text.split("\n", 1)[0].strip()
    if first == text.strip() and _holds_records(first):
        return "json", encoding
    if not _SPEAKS.match(first) and (text.startswith(("{", "[")) or _PREFIXED.match(first)):
        return (
            "jsonl" if (_is_json(_PREFIXED.sub("", first)) and first.startswith("{")) or _PREFIXED.match(first) else "json"
        ), encoding
    if delimiter_of(text) and not _SPEAKS.match(first):
        return "table", encoding
    return "text", encoding


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _holds_records(line: str) -> bool:
    """Whether the only line of a file is an object that is no conversation itself but has a list of some inside."""
    if not line.startswith("{") or not _is_json(line):
        return False
    record = json.loads(line)
    inner = next((v for v in record.values() if isinstance(v, list) and v), None)
    return inner is not None and isinstance(inner[0], dict | list) and spoken_of(record) is None


def delimiter_of(text: str) -> str | None:
    """The delimiter under which the first rows have one and the same number of columns, over one."""
    for delimiter in (",", "\t", ";", "|"):
        try:
            rows = list(csv.reader(text.splitlines()[:200], delimiter=delimiter))
        except csv.Error:
            continue
        rows = [row for row in rows if row][:-1] or rows  # the head may end within a row
        if rows and len(rows[0]) > 1 and sum(len(row) != len(rows[0]) for row in rows) <= max(1, 0.2 * len(rows)):
            return delimiter
    return None


def records(path: Path, kind: str, encoding: str, longest: int) -> Iterator[Found]:
    """The records of a file of format `kind`: JSON values, table rows as dicts, or the whole text."""
    if kind == "jsonl":
        yield from _jsonl(path, encoding, longest)
    elif kind == "json":
        yield from _json(path, encoding, longest)
    elif kind == "table":
        yield from _table(path, encoding, longest)
    elif kind == "parquet":
        yield from _parquet(path)
    elif kind in ("srt", "vtt"):
        yield Found("file", _subtitles(whole_text(path, encoding, longest), kind))
    else:
        yield Found("file", whole_text(path, encoding, longest))


def _jsonl(path: Path, encoding: str, longest: int) -> Iterator[Found]:
    for line in lines(path, encoding, longest):
        where = f"line {line.number}"
        if line.error:
            yield Found(where, error=line.error)
        elif text := _PREFIXED.sub("", line.text.strip()):
            try:
                yield Found(where, json.loads(text))
            except json.JSONDecodeError as error:
                yield Found(where, error=f"is not valid JSON: {error.msg} at character {error.pos + 1}")
            except RecursionError:
                yield Found(where, error="is nested too deeply")
            except ValueError:
                yield Found(where, error="holds a number that is too long")


def _json(path: Path, encoding: str, longest: int) -> Iterator[Found]:
    """Streams the array, or the list inside the object, with ijson; UTF-16 and the like are read whole."""
    import ijson

    if not encoding.startswith("utf-8"):
        yield from _json_text(whole_text(path, encoding, longest))
        return
    try:
        with open(path, "rb") as file:
            first = file.readline(longest + 1)
            endless, more = len(first) > longest, bool(file.read(1))
        if more and not endless and first.lstrip(b"\xef\xbb\xbf \t").startswith(b"{") and _is_json(first.decode("utf-8-sig", "replace")):
            yield from _jsonl(path, encoding, longest)  # its first line was longer than the head that formats are told by
            return
        prefix = _list_prefix(_Beginning(path, longest))
        if prefix is None and endless:  # JSON lines whose first one is too long: the others are still records
            yield from _jsonl(path, encoding, longest)
            return
        if prefix is None:
            yield from _json_text(whole_text(path, encoding, longest))
            return
        with open(path, "rb") as file:
            file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)
            for number, item in enumerate(ijson.items(file, prefix, use_float=True), 1):
                yield Found(f"item {number}", item)
    except ijson.JSONError as error:
        yield Found("file", error=f"is broken JSON: {str(error).splitlines()[0].strip()[:80]}")
    except (RecursionError, UnicodeDecodeError) as error:
        yield Found("file", error=f"cannot be read as JSON: {type(error).__name__}")


DEEPEST = 100
"""Nesting beyond this is no conversation; the parser's memory would grow with its square."""


class _Beginning:
    """The first `longest` bytes of a file, for a parser: what begins with an endless string is given up soon."""

    def __init__(self, path: Path, longest: int) -> None:
        with open(path, "rb") as file:
            file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)
            self._data = file.read(longest)
            self.whole = not file.read(1)
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        found = self._data[self._at : None if size < 0 else self._at + size]
        self._at += len(found)
        return found

    def rewound(self) -> _Beginning:
        self._at = 0
        return self


def _list_prefix(file: _Beginning) -> str | None:
    """Where the records stand: `item` for an array, `key.item` for a list inside the object, None for one record."""
    import ijson

    try:
        return _prefix_of(file)
    except ijson.IncompleteJSONError:
        if file.whole:
            raise
        return None


def _prefix_of(file: _Beginning) -> str | None:
    import ijson

    depth, key = 0, ""
    top_array, first_key = False, ""
    for prefix, event, value in ijson.parse(file, use_float=True):
        if event == "start_array" and depth == 0:
            top_array = True
        if depth == 1 and not top_array and event == "map_key":
            key = str(value)
        if not top_array and depth == 1 and event == "start_array":
            first_key = key
        if event in ("start_map", "start_array"):
            depth += 1
            if depth > DEEPEST:
                raise RecursionError
        elif event in ("end_map", "end_array"):
            depth -= 1
        if top_array and depth == 2:
            return "item"
        if first_key and depth == 3 and event in ("start_map", "start_array"):
            if first_key.casefold() not in TURN_LISTS:
                return f"{first_key}.item"
            # `conversations` may hold the turns of one talk or many talks: its first item tells
            item = next(iter(ijson.items(file.rewound(), f"{first_key}.item", use_float=True)))
            return None if is_turn(item) else f"{first_key}.item"
        if first_key and depth == 1:
            first_key = ""
        if not prefix and event in ("end_map", "end_array"):
            break
    return "item" if top_array else None


def _json_text(text: str) -> Iterator[Found]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        yield Found("file", error=f"is broken JSON: {error.msg} at line {error.lineno}")
        return
    except RecursionError:
        yield Found("file", error="is nested too deeply")
        return
    except ValueError:
        yield Found("file", error="holds a number that is too long")
        return
    if isinstance(value, list) and not all(is_turn(i) for i in value):
        for number, item in enumerate(value, 1):
            yield Found(f"item {number}", item)
    else:
        yield Found("file", value)


def _table(path: Path, encoding: str, longest: int) -> Iterator[Found]:
    csv.field_size_limit(longest)
    head = head_of(path).decode(encoding, "replace").lstrip("\ufeff")
    delimiter = delimiter_of(head) or ","
    faults: list[Line] = []
    reader = csv.reader(_table_lines(path, encoding, longest, faults), delimiter=delimiter)
    header: list[str] | None = None
    while True:
        before = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            yield from (Found(f"line {fault.number}", error=str(fault.error)) for fault in faults)
            return
        except csv.Error as error:
            yield Found(f"line {reader.line_num}", error=f"is not a row: {error}")
            continue
        broken = bool(faults) and reader.line_num - before > 1  # a cell over several lines, one of which cannot be read
        yield from (Found(f"line {fault.number}", error=str(fault.error)) for fault in faults)
        faults.clear()
        if broken or not row:
            continue
        if header is None:
            header = [name.strip().lstrip("\ufeff") for name in row]
            continue
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            yield Found(f"line {reader.line_num}", error=f"has {len(row)} columns where the head has {len(header)}")
            continue
        yield Found(f"line {reader.line_num}", dict(zip(header, row + [""] * (len(header) - len(row)), strict=False)))


def _table_lines(path: Path, encoding: str, longest: int, faults: list[Line]) -> Iterator[str]:
    """The lines that can be read; the others go to `faults`."""
    for line in lines(path, encoding, longest):
        if line.error:
            faults.append(line)
        else:
            yield line.text


def _parquet(path: Path) -> Iterator[Found]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=512):
                for row in batch.to_pylist():
                    number += 1
                    yield Found(f"row {number}", row)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Found("file", error=f"is broken Parquet: {' '.join(str(error).split())[:120]}")


def _subtitles(text: str, kind: str) -> list[Spoken]:
    """Cues as spoken text: a voice tag or `Name:` tells the speaker, who speaks on until another one does."""
    import srt
    import webvtt

    out: list[Spoken] = []
    try:
        if kind == "srt":
            cues = [(cue.content, cue.start.total_seconds(), "") for cue in srt.parse(text, ignore_errors=True)]
        else:
            cues = [(c.text, seconds(c.start) or 0.0, c.voice or "") for c in webvtt.from_string(text)]
    except (srt.SRTParseError, webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError, ValueError) as error:
        raise Unreadable("file", f"is broken {kind.upper()}: {error}") from error
    if not cues and "-->" in text:
        raise Unreadable("file", f"is broken {kind.upper()}: no cue could be read")
    speaker = "narrator"
    for content, start, voice in cues:
        said = clean(content, markup=True).replace("\n", " ")
        if voice:
            speaker = voice
        elif match := _VOICE.match(said):
            speaker, said = match[0].strip().rstrip(":"), said[match.end() :]
        if out and out[-1][0] == speaker:
            out[-1] = (speaker, f"{out[-1][1]} {said}", out[-1][2])
        else:
            out.append((speaker, said, start))
    return out


def columns_of(path: Path, kind: str, encoding: str) -> Sequence[str]:
    """The columns or keys of the first record: what a recipe recognises a file by."""
    try:
        for found in records(path, kind, encoding, 1_000_000):
            return list(found.record) if isinstance(found.record, Mapping) else []
    except Unreadable:
        pass
    return []
