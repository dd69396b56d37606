"""A file scored by a judge, a line for a line, so that anyone can measure a judge on their own data."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.quality.emotion import arousal, grouped, valence
from attunement.quality.judges import find
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item, Verdict
from attunement.readers.turns import to_turns, transcript
from attunement.security.phi.detector import PHIDetector
from attunement.security.phi.identifiers import PHISpan
from attunement.storage.files import atomic_write

BATCH = 128
PHI = "phi"
"""Asked like a judge, but found by `attunement.security.phi`."""

Row = dict[str, Any] | str
"""A line's object, or what is wrong with the line."""
ToldOf = Callable[[Sequence[Row]], Iterator[dict[str, Any]]]
"""What is told of each of some rows."""


def score_file(
    judges: Judges, name: str, source: Path, target: Path, advance: Callable[[int], None] = lambda _: None
) -> tuple[int, int]:
    """Judges each line of `source` (JSON objects) and writes it to `target` with the verdict's fields added.

    Fields: `question`, `answer` and `context` for coherence; `text` and `context` for the others; for judges of whole talks
    `turns` (`speaker`, `text`) or a transcript in `text`. A line that cannot be judged gets `error`. Returns (lines, errors).
    `phi` is no trained judge of a label but a finder of places: `text` after `context`, or `turns`, gives `spans`.
    Raises `DataError` when the file cannot be read.
    """
    told_of = _found_by(PHIDetector()) if name == PHI else _judged_by(judges, find(name).name)
    count = errors = 0
    try:
        with open(source, encoding="utf-8", errors="replace") as lines, atomic_write(target) as out:
            for block in _blocks(lines):
                rows = [_row(line) for line in block]
                for row, told in zip(rows, told_of(rows), strict=True):
                    errors += "error" in told
                    out.write(json.dumps({**(row if isinstance(row, dict) else {}), **told}, ensure_ascii=False) + "\n")
                count += len(rows)
                advance(len(rows))
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}") from error
    return count, errors


def _judged_by(judges: Judges, name: str) -> ToldOf:
    def told_of(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        items = [_item(name, row) if isinstance(row, dict) else row for row in rows]
        verdicts = iter(judges.judge(name, [item for item in items if isinstance(item, Item)]))
        for item in items:
            yield _told(name, next(verdicts)) if isinstance(item, Item) else {"error": item}

    return told_of


def _found_by(detector: PHIDetector) -> ToldOf:
    def told_of(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        talks = [_turns(row) for row in rows]
        found = iter(detector.detect_talks([talk for talk in talks if not isinstance(talk, str)]))
        for row, talk in zip(rows, talks, strict=True):
            if isinstance(talk, str):
                yield {"error": talk}
            else:
                spans = next(found)
                whole = isinstance(row, dict) and isinstance(row.get("turns"), list)
                yield _places(spans if whole else spans[-1:], told_turns=whole)

    return told_of


def _turns(row: Row) -> list[str] | str:
    """The turns that are looked through, the text itself last; or what is wrong with the row."""
    if isinstance(row, str):
        return row
    if isinstance(row.get("turns"), list):
        return [str(t.get("text") or t.get("content") or "") if isinstance(t, Mapping) else str(t) for t in row["turns"]]
    if not isinstance(row.get("text"), str):
        return "needs text in 'text', or 'turns' with text"
    return [*_texts(row.get("context")), row["text"]]


def _places(found: Sequence[Sequence[PHISpan]], *, told_turns: bool) -> dict[str, Any]:
    """The spans of some turns as a verdict: `score` is the surest identifier's, `labels` the surest of each type, `reasons` the letters."""
    spans = [{**asdict(span), **({"turn": i} if told_turns else {})} for i, turn in enumerate(found) for span in turn]
    surest: dict[str, float] = {}
    for span in spans:
        surest[span["type"]] = max(span["score"], surest.get(span["type"], 0.0))
    score = max((span["score"] for span in spans if span["safe_harbor"]), default=0.0)
    letters = sorted({span["safe_harbor"] for span in spans if span["safe_harbor"]})
    return {"score": score, "label": "phi" if letters else "none", "labels": surest, "reasons": letters, "spans": spans}


def _blocks(lines: Iterator[str]) -> Iterator[tuple[str, ...]]:
    while block := tuple(itertools.islice(lines, BATCH)):
        yield block


def _row(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "is not valid JSON"
    return row if isinstance(row, dict) else "is not a JSON object"


def _item(name: str, row: Mapping[str, Any]) -> Item | str:
    """The item of a row, or what is wrong with it."""
    context = _texts(row.get("context"))
    if name == "coherence":
        if not isinstance(row.get("answer"), str) or not isinstance(row.get("question"), str):
            return "needs text in 'question' and in 'answer'"
        return Item(row["answer"], (*context, row["question"]))
    if find(name).shape.whole:
        return _talk(row)
    if not isinstance(row.get("text"), str):
        return "needs text in 'text'"
    return Item(row["text"], context)


def _texts(value: Any) -> tuple[str, ...]:
    """`context` as a text, a list of texts, or a list of messages."""
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if not isinstance(value, Sequence):
        return ()
    found = [
        part if isinstance(part, str) else str(part.get("content", part.get("text", "")))
        for part in value
        if isinstance(part, str | Mapping)
    ]
    return tuple(text for text in found if text.strip())


def _talk(row: Mapping[str, Any]) -> Item | str:
    if isinstance(row.get("turns"), list):
        turns = [t for t in row["turns"] if isinstance(t, Mapping) and isinstance(t.get("text"), str)]
        return Item(turns=tuple((str(t.get("speaker") or t.get("role") or ""), t["text"]) for t in turns))
    if not isinstance(row.get("text"), str):
        return "needs a transcript in 'text', or 'turns' with speaker and text"
    spoken = transcript(row["text"])
    if spoken is None:
        return Item(row["text"], turns=(("speaker", row["text"]),))
    return Item(row["text"], turns=tuple((turn.role, turn.text) for turn in to_turns(spoken)))


def _told(name: str, verdict: Verdict) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if name == "emotion":
        more = {"ekman": grouped(verdict.labels), "valence": valence(verdict.labels), "arousal": arousal(verdict.labels)}
    return {
        "score": verdict.score,
        "label": verdict.label,
        "labels": dict(verdict.labels),
        "reasons": list(verdict.reasons),
        "spans": [asdict(span) for span in verdict.spans],
        **more,
    }
