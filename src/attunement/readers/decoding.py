"""Bytes to text: encodings, bounded lines, binary files. Nothing here holds more than one record in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charset_normalizer import from_bytes

HEAD_BYTES = 65_536
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


class Unreadable(Exception):
    """A file or a record that cannot be read: where, and one clear line why."""

    def __init__(self, locator: str, error: str) -> None:
        super().__init__(error)
        self.locator, self.error = locator, error


@dataclass(frozen=True)
class Found:
    """A record with its place in the file; `error` says why there is none."""

    locator: str
    record: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Line:
    """A line with its number from 1. `error` says why `text` is empty."""

    number: int
    text: str
    error: str | None = None


def head_of(path: Path) -> bytes:
    """The first bytes of a file. Raises `Unreadable` where there are none or they may not be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise Unreadable("file", f"cannot be opened: {error.strerror}") from error
    if not head.strip():
        raise Unreadable("file", "is empty")
    return head


def encoding_of(head: bytes) -> str:
    """The encoding of a text that starts with `head`. Raises `Unreadable` for binary data."""
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    if b"\0" in head:
        for name in ("utf-16-le", "utf-16-be"):
            text = head[: len(head) // 2 * 2].decode(name, "replace")
            if sum(c.isascii() and c != "\0" for c in text) > 0.8 * len(text):
                return name
        raise Unreadable("file", "is a binary file, not text")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return "utf-8"
    except UnicodeDecodeError:
        text = head.decode("utf-8", "replace")
        broken = text.count("\ufffd")
        if sum(not c.isascii() for c in text) - broken > 3 * broken:
            return "utf-8"  # a few bad bytes among good characters: their lines fail, the others are read as they are
        best = from_bytes(head).best()
    if best is None:
        raise Unreadable("file", "is in no encoding that could be recognised: save it as UTF-8")
    # Western text reads the same in these; cp1252 has the curly quotes.
    return (
        "cp1252"
        if best.encoding in ("latin_1", "cp1250", "cp1254", "cp1257", "cp1258", "mac_roman", "hp_roman8")
        else best.encoding
    )


def lines(path: Path, encoding: str, longest: int) -> Iterator[Line]:
    """The lines of a text file. One longer than `longest` characters, or not in `encoding`, comes as an error."""
    with open(
        path, encoding=encoding, errors="surrogateescape" if encoding.startswith("utf-8") else "replace", newline=None
    ) as file:
        number = 0
        while text := file.readline(longest + 1):
            number += 1
            if len(text) > longest:
                while (rest := file.readline(longest)) and not rest.endswith("\n"):
                    pass
                yield Line(number, "", f"is longer than {longest:,} characters (data.max_record_bytes)")
            elif _escaped(text):
                yield Line(number, "", f"is not valid {encoding.upper()}")
            else:
                yield Line(number, text)


def _escaped(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


def whole_text(path: Path, encoding: str, longest: int) -> str:
    """All of a file that is one record. Raises `Unreadable` when it is longer than `longest`."""
    parts = []
    total = 0
    for line in lines(path, encoding, longest):
        if line.error:
            raise Unreadable(f"line {line.number}", line.error)
        total += len(line.text)
        if total > longest:
            raise Unreadable("file", f"is longer than {longest:,} characters (data.max_record_bytes)")
        parts.append(line.text)
    return "".join(parts)
