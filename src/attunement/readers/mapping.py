"""From records to conversations: by a recipe's mapping where there is one, otherwise by the shapes that people have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Any

from attunement.readers.decoding import Found, Unreadable, encoding_of, head_of, lines
from attunement.readers.sets import FileRecipe, fill
from attunement.readers.shapes import said, spoken_of, turn_columns
from attunement.readers.turns import Spoken, clean, detokenise, transcript
from attunement.records import REVIEW_MARK, REVIEW_REASONS

UNKNOWN = "has no shape that is known: describe it in a source.toml (docs/sources.md)"
META_KEYS = ("topic", "emotion", "emotion_type", "problem_type", "quality", "language", REVIEW_MARK, REVIEW_REASONS)
"""Kept of every record. The marks for review among them: they must not be lost where nobody described the file."""
SHORTEST_TALK_WORDS = 30
"""A text without speakers is a talk of one from this length on; shorter it is most likely not speech at all."""


Records = Callable[[], Iterator[Found]]


def conversations_of(make: Records, recipe: FileRecipe, path: Path, longest: int) -> Iterator[Found]:
    """Conversations as `Found` whose record is `{"spoken": [...], "metadata": {...}}`; errors are handed on.

    `make` gives the records of the file, anew at each call.
    """
    if recipe.shape == "pair_lines":
        yield from _pair_lines(path, recipe, longest)
    elif recipe.shape == "turn_rows":
        yield from _turn_rows(make, recipe)
    elif recipe.shape == "auto" and (columns := _row_per_turn(make())) is not None:
        conversation, speaker, text = columns
        yield from _turn_rows(
            make, recipe.model_copy(update={"conversation": conversation or "", "speaker": speaker, "text": text})
        )
    else:
        for item in make():
            if item.error is not None:
                yield item
            elif recipe.shape == "transcript_columns":
                yield from _transcript_columns(item, recipe)
            else:
                yield _one(item, recipe)


def _row_per_turn(found: Iterator[Found]) -> tuple[str | None, str, str] | None:
    """The columns of a table with one row per turn, judged by its first good record."""
    for item in found:
        if item.error is None:
            if isinstance(item.record, Mapping) and spoken_of(item.record) is None:
                return turn_columns(list(item.record))
            return None
    return None


def _one(item: Found, recipe: FileRecipe) -> Found:
    record = item.record
    if recipe.shape == "exchange" and not isinstance(record, Mapping):
        return Found(item.locator, error=UNKNOWN)
    if recipe.shape == "exchange":
        missing = [c for c in (*recipe.question, recipe.answer) if c not in record]
        if missing:
            return Found(item.locator, error=f"has no column '{missing[0]}'")
        return _made(item, _exchange(record, recipe), record, recipe)
    if recipe.shape == "dialog":
        return _dialog(item, recipe)
    if isinstance(record, str):
        spoken = transcript(record, recipe.roles)
        if spoken is None and len(record.split()) >= SHORTEST_TALK_WORDS:
            spoken = [("narrator", clean(record), None)]
        return (
            Found(item.locator, error="is neither a transcript nor a talk") if spoken is None else _made(item, spoken, {}, recipe)
        )
    if isinstance(record, list) and record and all(isinstance(r, tuple) for r in record):
        return _made(item, record, {}, recipe)  # subtitles are spoken already
    spoken = spoken_of(record)
    if spoken is None:
        return Found(item.locator, error=UNKNOWN)
    return _made(item, spoken, record if isinstance(record, Mapping) else {}, recipe)


def _exchange(record: Mapping[str, Any], recipe: FileRecipe) -> list[Spoken]:
    parts: list[str] = []
    for column in recipe.question:
        text = clean(str(record[column] or ""), recipe.markup)
        if text and not any(text in other for other in parts):  # a title often repeats the text's first sentence
            parts = [other for other in parts if other not in text] + [text]
    return [("client", "\n".join(parts), None), ("therapist", clean(str(record[recipe.answer] or ""), recipe.markup), None)]


def _dialog(item: Found, recipe: FileRecipe) -> Found:
    record = item.record
    if recipe.nested:
        inner = record.get(recipe.nested) if isinstance(record, Mapping) else None
        try:
            record = json.loads(inner) if isinstance(inner, str) else None
        except json.JSONDecodeError as error:
            return Found(item.locator, error=f"holds broken JSON in '{recipe.nested}': {error.msg}")
    turns = record.get(recipe.turns) if isinstance(record, Mapping) else None
    if not isinstance(turns, list):
        return Found(item.locator, error=f"has no list '{recipe.turns}'")
    spoken = [said(t, str(t.get(recipe.speaker, "")), str(t.get(recipe.text) or "")) for t in turns if isinstance(t, Mapping)]
    return _made(item, spoken, record, recipe)


def _transcript_columns(item: Found, recipe: FileRecipe) -> Iterator[Found]:
    if not isinstance(item.record, Mapping):
        yield Found(item.locator, error=UNKNOWN)
        return
    for column, text in item.record.items():
        if fnmatch(column, recipe.text):
            where = Found(f"{item.locator}, {column}")
            spoken = transcript(str(text or ""), recipe.roles)
            if spoken is None and str(text or "").strip():
                yield Found(where.locator, error="is no transcript: nobody is named as speaking")
            else:
                yield _made(where, spoken or [], item.record, recipe)


def _turn_rows(make: Records, recipe: FileRecipe) -> Iterator[Found]:
    """One row a turn. Where the rows of each conversation stand together they are streamed; where conversations are

    mixed (a log by time, say) a first pass sees it, and all rows of the file are held.
    """
    streamed = _stand_together(make(), recipe)
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for item in make():
        if item.error is not None or not isinstance(item.record, Mapping):
            yield item if item.error is not None else Found(item.locator, error=UNKNOWN)
            continue
        name = _conversation_name(item.record, recipe)
        if streamed and rows and name not in rows:
            (ended,) = rows
            yield _talk(ended, rows.pop(ended), recipe)
        rows.setdefault(name, []).append(item.record)
    for name, kept in rows.items():
        yield _talk(name, kept, recipe)


def _conversation_name(record: Mapping[str, Any], recipe: FileRecipe) -> str:
    return str(record.get(recipe.conversation, "")) if recipe.conversation else "file"


def _stand_together(found: Iterator[Found], recipe: FileRecipe) -> bool:
    seen: set[int] = set()
    current: str | None = None
    for item in found:
        if isinstance(item.record, Mapping) and (name := _conversation_name(item.record, recipe)) != current:
            if hash(name) in seen:
                return False
            seen.add(hash(name))
            current = name
    return True


def _talk(name: str, rows: list[Mapping[str, Any]], recipe: FileRecipe) -> Found:
    spoken: list[Spoken] = []
    seen: set[str] = set()
    for row in rows:
        if recipe.key:
            if str(row.get(recipe.key)) in seen:
                continue
            seen.add(str(row.get(recipe.key)))
        spoken.append((str(row.get(recipe.speaker) or ""), str(row.get(recipe.text) or ""), None))
    column = f"{recipe.conversation}={name}" if recipe.conversation else "file"
    return _made(Found(column), spoken, rows[0], recipe)


def _pair_lines(path: Path, recipe: FileRecipe, longest: int) -> Iterator[Found]:
    other = path.with_name(recipe.answers)
    if not other.is_file():
        raise Unreadable("file", f"needs {recipe.answers} beside it: the answers, line by line")
    questions = lines(path, encoding_of(head_of(path)), longest)
    answers = lines(other, encoding_of(head_of(other)), longest)
    for number, (asked, answer) in enumerate(zip_longest(questions, answers), 1):
        where = f"line {number}"
        if asked is None or answer is None:
            yield Found(where, error=f"stands in only one of {path.name} and {other.name}")
        elif asked.error or answer.error:
            yield Found(where, error=str(asked.error or answer.error))
        else:
            spoken = [("client", clean(asked.text), None), ("therapist", clean(answer.text), None)]
            yield _made(Found(where), spoken, {}, recipe)


def _made(item: Found, spoken: Sequence[Spoken], record: Mapping[str, Any], recipe: FileRecipe) -> Found:
    tidy = [_with_text(row, clean(detokenise(row[1]) if recipe.detokenise else row[1])) for row in spoken]
    tidy = [row for row in tidy if row[1]]
    metadata = {k: _plain(record[k]) for k in (*recipe.metadata, *META_KEYS) if _is_plain(record.get(k))}
    if recipe.group:
        metadata["group"] = fill(recipe.group, record)
    return Found(item.locator, {"spoken": tidy, "metadata": metadata})


def _with_text(row: Spoken, text: str) -> Spoken:
    return (row[0], text, row[2], row[3]) if len(row) == 4 else (row[0], text, row[2])


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))


def _plain(value: str | int | float | bool) -> str | int | float | bool:
    return clean(value) if isinstance(value, str) else value
