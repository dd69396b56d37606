"""File formats, told apart by content: each gives its records one by one.

JSON (array, object with a list inside, one object), JSON lines (with a word before the JSON, too), CSV and the like,
Parquet, plain transcripts, SRT and VTT.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attunement.readers.decoding import Found, Line, Unreadable, encoding_of, head_of, lines, whole_text
from attunement.readers.jsonfile import holds_records, json_records
from attunement.readers.subtitles import subtitles
from attunement.readers.turns import label_of

FORMATS = ("json", "jsonl", "table", "parquet", "srt", "vtt", "text")
_SRT = re.compile(r"^\s*\d+\s*\n\d{1,2}:\d{2}:\d{2}[,.]\d{1,3}\s*-->", re.M)
_PREFIXED = re.compile(r"^[\w-]{1,40}\s+(?=\{)")
_JSON = re.compile(r"\{|\[\s*(?:[\[{\"\]]|$)")
_CHAT = re.compile(r"^\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? +\d{1,2}:\d{2}[^\n]{0,12}[\]-] ?[^\n:]{1,40}: ", re.M)
"""A line of a messenger's export: its date has a comma behind it, which makes it look like a table."""
_SPEAKS = re.compile(r'^(?:[\[(]?\d+:\d[^ ]* +)?[^,;\t|:{\["]{1,40}: ')


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
    if first == text.strip() and first.startswith("{") and _is_json(first) and holds_records(json.loads(first)):
        return "json", encoding
    spoken = _SPEAKS.match(first) or label_of(first) or _CHAT.search(text[:2000])
    if not spoken and (_JSON.match(text) or _PREFIXED.match(first)):
        return ("jsonl" if _PREFIXED.match(first) or _begins_lines(text, first) else "json"), encoding
    if delimiter_of(text) and not spoken:
        return "table", encoding
    return "text", encoding


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _begins_lines(text: str, first: str) -> bool:
    """Whether `first` is a record of JSON lines: an object, or an array with another one below it."""
    second = text.partition("\n")[2].lstrip()[:1]
    return _is_json(first) and (first.startswith("{") or second == "[")


def _is_lines(path: Path) -> bool:
    """Whether a file whose first line is longer than the head is JSON lines: an object ends there, another one begins."""
    with open(path, "rb") as file:
        last = b""
        while (piece := file.readline(1 << 20)) and not piece.endswith(b"\n"):
            last = piece.rstrip() or last
        last = piece.rstrip() or last
        return last.endswith(b"}") and file.read(64).lstrip().startswith(b"{")


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
        lined = encoding.startswith("utf-8") and _is_lines(path)
        yield from _jsonl(path, encoding, longest) if lined else json_records(path, encoding, longest)
    elif kind == "table":
        yield from _table(path, encoding, longest)
    elif kind == "parquet":
        yield from _parquet(path)
    elif kind in ("srt", "vtt"):
        yield Found("file", subtitles(whole_text(path, encoding, longest), kind))
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


def columns_of(path: Path, kind: str, encoding: str) -> Sequence[str]:
    """The columns or keys of the first record: what a recipe recognises a file by."""
    try:
        for found in records(path, kind, encoding, 1_000_000):
            return list(found.record) if isinstance(found.record, Mapping) else []
    except Unreadable:
        pass
    return []
