"""Preference pairs: two replies to the same words, of which somebody who knows found one better; for `attune train prefer`.

    feedback   experts' alternatives to helper turns that they found wanting (counseling-feedback, Chaszczewicz 2024)
    review     answers that a clinician edited in `attune review`: the new one is chosen, the old one rejected

A row is `id`, `source`, `conversation_id`, `licence` (class), `prompt` (chat messages that end with the user), `chosen`,
`rejected` and `reason`. What is left out is counted by its reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attunement.curation.export import messages_of
from attunement.curation.review import EDITED, ReviewQueue, read_held
from attunement.errors import DataError
from attunement.security.age_files import read_jsonl
from attunement.storage.files import content_hash, read_json, write_jsonl

FEEDBACK, FEEDBACK_LICENCE = "counseling-feedback", "NC"
FOUND_GOOD, NO_ALTERNATIVE, NO_CLIENT_TURN, UNREADABLE = "found_good", "no_alternative", "no_client_turn", "unreadable"
NOT_IN_TRAINING_SPLIT, EQUAL_SIDES, DUPLICATE = "not_in_training_split", "equal_sides", "duplicate"
_TURN = re.compile(r"\n(?=(?:Helper|Seeker): )")
_ROLES = {"Helper": "therapist", "Seeker": "client"}

Row = dict[str, Any]
Found = Iterator[Row | str]
"""Rows, and for each that is left out its reason."""


@dataclass
class PairsWritten:
    """What `write_pairs` did: rows by source, and what was left out by reason."""

    path: Path
    sources: Counter[str] = field(default_factory=Counter)
    licences: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    conversations: int = 0


def write_pairs(path: Path, found: Iterable[Row | str]) -> PairsWritten:
    """Writes the rows of `found`, each once and none whose sides are the same words. Raises `DataError` when none is left."""
    told, seen, conversations = PairsWritten(path), set[str](), set[str]()
    rows = []
    for row in found:
        reason = row if isinstance(row, str) else _reason(row, seen)
        if reason or isinstance(row, str):
            told.left_out[reason] += 1
            continue
        rows.append(row)
        told.sources[row["source"]] += 1
        told.licences.add(row["licence"])
        conversations.add(row["conversation_id"])
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(told.left_out.items()))
        raise DataError(f"there are no preference pairs ({reasons or 'nothing was edited'}): give another --feedback or --review")
    told.conversations = len(conversations)
    write_jsonl(path, rows)
    return told


def _reason(row: Mapping[str, Any], seen: set[str]) -> str:
    """Why a row is left out, or an empty string; notes it as seen."""
    chosen, rejected = (_words(row[side]) for side in ("chosen", "rejected"))
    if chosen == rejected:
        return EQUAL_SIDES
    key = content_hash([[_words(m["content"]) for m in row["prompt"]], chosen, rejected])
    if key in seen:
        return DUPLICATE
    seen.add(key)
    return ""


def _words(text: str) -> str:
    return " ".join(text.split())


# --- counseling-feedback ------------------------------------------------------------------------------


def feedback_pairs(path: Path) -> Found:
    """The pairs in a file of counseling-feedback (`feedback_train.json`). Raises `DataError` for any other file."""
    rows = read_json(path)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and "text" in row for row in rows):
        raise DataError(f"{path} is not a file of counseling-feedback: give its feedback_train.json")
    for row in rows:
        try:
            yield _from_feedback(row)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError):  # no verdict, or not in its form
            yield UNREADABLE


def _from_feedback(row: Mapping[str, Any]) -> Row | str:
    talk, _, answer = row["text"].partition("### Response:")
    verdict = json.loads(answer.strip().splitlines()[0])
    if verdict["perfect"]:
        return FOUND_GOOD
    chosen = str(verdict.get("alternative") or "").strip()
    if not chosen:
        return NO_ALTERNATIVE
    turns = [turn.partition(": ") for turn in _TURN.split(talk.partition("### Input:\n")[2].strip())]
    *before, (last, _, rejected) = [(_ROLES[role], "", text.strip()) for role, _, text in turns]
    if last != "therapist" or not before or before[-1][0] != "client":
        return NO_CLIENT_TURN
    question = before[-1][2]
    prompt = messages_of([(role, text) for role, _, text in before], question, rejected)[:-1]
    conversation = f"feedback:{row['conv_index']}"
    return {
        "id": "p-" + content_hash([conversation, prompt, chosen, rejected])[:16],
        "source": FEEDBACK,
        "conversation_id": conversation,
        "licence": FEEDBACK_LICENCE,
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "reason": ", ".join(sorted(str(area).lower() for area in verdict.get("badareas", []))),
    }


# --- clinical review ----------------------------------------------------------------------------------


def review_pairs(queue: ReviewQueue, dataset: Path) -> Found:
    """The pairs of a dataset that a reviewer edited, once a build has taken the edit into its training split.

    Those in the validation and test splits stay out: what is measured there must not be learned. Raises `DataError` for a
    folder that holds no dataset.
    """
    if not (dataset / "train.jsonl").is_file():
        raise DataError(f"{dataset} holds no dataset: give --review the folder of  attune data build --out")
    decisions = queue.decisions()
    edited = {held.pair_id: held for held in read_held(dataset) if held.hash in decisions}
    edited = {name: held for name, held in edited.items() if decisions[held.hash].decision == EDITED}
    for row in read_jsonl(dataset / "train.jsonl"):
        if held := edited.pop(row["id"], None):
            yield {
                "id": row["id"],
                "source": row["source"],
                "conversation_id": row["conversation_id"],
                "licence": row.get("licence_class", ""),
                "prompt": row["messages"][:-1],
                "chosen": str(decisions[held.hash].answer),
                "rejected": held.answer,
                "reason": ", ".join(held.reasons),
            }
    yield from [NOT_IN_TRAINING_SPLIT] * len(edited)
