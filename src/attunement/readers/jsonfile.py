"""JSON files: an array of records, one record, or an object that holds records in lists or under keys.

A file no longer than one record may be is parsed at once. A longer one, a broken one (what stands before the break is
good) and one of several values is streamed with ijson: one record at a time is held, and one that is too long is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from attunement.readers.decoding import Found, Unreadable, whole_text
from attunement.readers.shapes import is_turn, spoken_of

DEEPEST = 100
"""Nesting beyond this is no conversation."""
_LOOKED_AT = 5
"""So many items of a list tell whether it holds conversations."""

_MANY = ("conversations", "dialogs", "dialogues")

Event = tuple[str, Any]


def json_records(path: Path, encoding: str, longest: int) -> Iterator[Found]:
    """The records of a JSON file, each at most `longest` characters."""
    if path.stat().st_size <= longest or not encoding.startswith("utf-8"):
        try:
            yield from _of_value(json.loads(whole_text(path, encoding, longest)))
            return
        except Unreadable as error:
            if not encoding.startswith("utf-8"):
                raise Unreadable("file", error.error) from error
        except (json.JSONDecodeError, RecursionError) as error:
            if not encoding.startswith("utf-8"):
                yield Found("file", error=f"is broken JSON: {error}" if isinstance(error, ValueError) else "is nested too deeply")
                return
        except ValueError:
            yield Found("file", error="holds a number that is too long")
            return
    yield from _streamed(path, longest)


# --- parsed at once -----------------------------------------------------------------------------------------------


def _of_value(value: Any) -> Iterator[Found]:
    if isinstance(value, list):
        yield from (Found(f"item {number}", item) for number, item in enumerate(value, 1))
    elif isinstance(value, Mapping) and holds_records(value):
        yield from _of_object(value) or [Found("file", value)]
    else:
        yield Found("file", value)


def holds_records(record: Mapping[str, Any]) -> bool:
    """Whether an object that is a whole file is no conversation itself but may have some inside.

    A file's `conversations` of single exchanges are one conversation each.
    """
    items = next((value for key, value in record.items() if key.casefold() in _MANY and isinstance(value, list)), [])
    many = bool(items) and all(isinstance(item, Mapping) and not is_turn(item) for item in items)
    inside = any(isinstance(value, dict | list) and value for value in record.values())
    return many or (inside and spoken_of(record) is None)


def _of_object(record: Mapping[str, Any]) -> list[Found]:
    """The records in an object that is none itself: all of its lists and objects that hold any."""
    out: list[Found] = []
    strange: list[tuple[str, list[Any]]] = []
    for key, value in record.items():
        if isinstance(value, list) and value:
            if is_turn(value[0]):
                out.append(Found(key, value))
            elif _holds_talks(value):
                out += [Found(f"{key} item {number}", item) for number, item in enumerate(value, 1)]
            elif isinstance(value[0], Mapping | list):
                strange.append((key, value))
        elif isinstance(value, Mapping):
            if spoken_of(value) is not None:
                out.append(Found(key, value))
            else:
                out += [Found(f"{key} {inner.locator}", inner.record, inner.error) for inner in _of_object(value)]
    if out:
        return out + [Found(key, error=_NO_TALKS) for key, _ in strange]
    # Nothing is a conversation: each item is told, as of an array.
    return [Found(f"{key} item {number}", item) for key, items in strange[:1] for number, item in enumerate(items, 1)]


_NO_TALKS = "is a list of something else beside the conversations"


def _holds_talks(items: list[Any]) -> bool:
    return any(isinstance(item, Mapping | list) and (spoken_of(item) is not None or is_turn(item)) for item in items[:_LOOKED_AT])


# --- streamed -------------------------------------------------------------------------------------------------------


class _Fed:
    """A file for the parser, which holds a string whole: one without an end is given up after `longest` bytes."""

    def __init__(self, file: BinaryIO, longest: int) -> None:
        self._file, self._longest, self._run = file, longest, 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        quote = data.rfind(b'"')
        self._run = self._run + len(data) if quote < 0 else len(data) - quote
        if self._run > self._longest:
            raise _Endless
        return data


class _Endless(Exception):
    """A value that is longer than a record may be."""


def _too_long(longest: int) -> str:
    return f"is longer than {longest:,} characters (data.max_record_bytes)"


def _streamed(path: Path, longest: int) -> Iterator[Found]:
    import ijson

    with open(path, "rb") as file:
        file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)
        events = ijson.basic_parse(_Fed(file, longest), use_float=True, multiple_values=True)
        number = 0
        try:
            for event, value in events:
                if event == "start_array":
                    yield from _items(events, longest, "item ")
                elif event == "start_map":
                    number += 1
                    yield from _members(events, longest, "" if number == 1 else f"value {number} ")
                else:
                    yield Found("file", value)
        except ijson.JSONError as error:
            yield Found("file", error=f"is broken JSON: {str(error).splitlines()[0].strip()[:80]}")
        except _Endless:
            yield Found("file", error=_too_long(longest))
        except RecursionError:
            yield Found("file", error="is nested too deeply")
        except UnicodeDecodeError:
            yield Found("file", error="is not valid UTF-8")


def _items(events: Iterator[Event], longest: int, name: str) -> Iterator[Found]:
    """The items of an array that has begun, each as a record."""
    for number, (event, value) in enumerate(events, 1):
        if event == "end_array":
            return
        yield _built(f"{name}{number}", events, event, value, longest)


def _members(events: Iterator[Event], longest: int, name: str) -> Iterator[Found]:
    """The records in an object that has begun: itself where it is one, else those in its lists and under its keys."""
    rest: dict[str, Any] = {}
    strange: list[Found] = []
    told = False
    for event, key in events:
        if event == "end_map":
            break
        event, value = next(events)
        where = f"{name}{key}"
        for found in _list(events, longest, where) if event == "start_array" else [_built(where, events, event, value, longest)]:
            if found.error == _NO_TALKS:
                strange.append(found)
            elif found.error is None and found.locator == where:
                rest[key] = found.record
            else:
                told = True
                yield found
    if not told and spoken_of(rest) is not None and not holds_records(rest):
        yield Found("file", rest)
    else:
        yield from _of_object(rest)
        yield from strange


def _list(events: Iterator[Event], longest: int, name: str) -> Iterator[Found]:
    """The items of a list under a key; the whole list where it holds turns or plain values; one fault where it holds

    something else.
    """
    head: list[Found] = []
    ended = False
    while len(head) < _LOOKED_AT and not ended:
        event, value = next(events)
        ended = event == "end_array"
        if not ended:
            head.append(_built(f"{name} item {len(head) + 1}", events, event, value, longest))
    whole = all(not isinstance(found.record, Mapping | list) or is_turn(found.record) for found in head if found.error is None)
    good = [found.record for found in head if found.error is None]
    if whole and good:
        yield _whole(events, longest, name, good, ended)
        return
    if good and not _holds_talks(good):
        yield Found(name, error=_NO_TALKS)
        head = []
    yield from head
    number = _LOOKED_AT
    while not ended:
        event, value = next(events)
        ended = event == "end_array"
        number += 1
        found = Found("") if ended else _built(f"{name} item {number}", events, event, value, longest)
        if head and not ended:
            yield found


def _whole(events: Iterator[Event], longest: int, name: str, kept: list[Any], ended: bool) -> Found:
    """A list as one record: `kept` are its first items."""
    room = longest - _length(kept)
    while not ended:
        event, value = next(events)
        ended = event == "end_array"
        if not ended:
            more = _built(name, events, event, value, max(room, 0))
            room -= _length(more.record)
            kept = [*kept, more.record] if room >= 0 else []
    return Found(name, kept) if room >= 0 else Found(f"{name} (all)", error=_too_long(longest))


def _length(value: Any) -> int:
    """About the characters that `value` takes as JSON."""
    if isinstance(value, str):
        return len(value) + 3
    if isinstance(value, Mapping):
        return 2 + sum(len(str(k)) + 4 + _length(v) for k, v in value.items())
    if isinstance(value, list):
        return 2 + sum(map(_length, value))
    return 5


def _built(name: str, events: Iterator[Event], event: str, value: Any, longest: int) -> Found:
    """The value that begins with `event`; past `longest` characters or too deep it is passed over and told."""
    if event not in ("start_map", "start_array"):
        return Found(name, value)
    top: dict[str, Any] | list[Any] = {} if event == "start_map" else []
    stack: list[tuple[dict[str, Any] | list[Any], str]] = [(top, "")]
    depth, size, fault = 1, 0, ""
    for event, value in events:
        if event in ("end_map", "end_array"):
            depth -= 1
            if not fault:
                stack.pop()
            if depth == 0:
                return Found(name, error=fault) if fault else Found(name, top)
            continue
        opens = event in ("start_map", "start_array")
        depth += opens
        size += len(value) + 3 if isinstance(value, str) else 5
        fault = fault or (_too_long(longest) if size > longest else "is nested too deeply" if depth > DEEPEST else "")
        if fault:
            stack.clear()
            top = []
            continue
        if event == "map_key":
            stack[-1] = (stack[-1][0], value)
            continue
        item: Any = ({} if event == "start_map" else []) if opens else value
        holder, key = stack[-1]
        if isinstance(holder, list):
            holder.append(item)
        else:
            holder[key] = item
        if opens:
            stack.append((item, ""))
    return Found(name, error=fault or "is broken JSON: it ends within a value")
