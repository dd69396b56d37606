"""Preference pairs for training: read, cut to the context, and split by conversation.

Both sides of a pair stand after the same ids: a long talk loses its oldest turns for both, as the longer side asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.model.chat import IGNORED, encode_example, encode_prompt
from attunement.storage.files import content_hash
from attunement.training.data import Example

SIDES = ("chosen", "rejected")
UNBOUNDED = 1 << 30
ADVICE = "make the pairs with  attune train pairs"


@dataclass(frozen=True)
class Pair:
    """One preference as token ids: `prompt`, then either reply."""

    row: Mapping[str, Any]
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    def side(self, name: str) -> Example:
        """The prompt with one of `SIDES`, of which the reply is learned."""
        reply = getattr(self, name)
        return Example(self.prompt + reply, [IGNORED] * len(self.prompt) + reply)


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of pairs. Raises `DataError` that names the line which is none, or when there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; {ADVICE}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 JSON lines: {ADVICE}") from error
    rows = [_checked(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{path} has no pairs: {ADVICE}")
    return rows


def _checked(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: no JSON object; {ADVICE}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: no JSON object; {ADVICE}")
    texts = ("id", "source", "conversation_id", *SIDES)
    missing = [name for name in (*texts, "prompt") if not row.get(name)]
    if missing:
        raise DataError(f"{where}: {', '.join(missing)} is missing or empty; {ADVICE}")
    if wrong := [name for name in texts if not isinstance(row[name], str)]:
        raise DataError(f"{where}: {', '.join(wrong)} must be text; {ADVICE}")
    if not _is_prompt(row["prompt"]):
        raise DataError(f"{where}: the prompt must be chat messages (role, content), the last one the user's; {ADVICE}")
    return row


def _is_prompt(value: Any) -> bool:
    roles = {"system", "user", "assistant"}
    return (
        isinstance(value, list)
        and all(isinstance(m, dict) and m.get("role") in roles and isinstance(m.get("content"), str) for m in value)
        and value[-1]["role"] == "user"
    )


def encode_pair(tokenizer: Any, row: Mapping[str, Any], longest: int) -> Pair:
    """A row as ids, each side at most `longest`, of which at least half are the reply's where it needs them."""
    replies, dropped = {}, 0
    for side in SIDES:
        talk = [row["prompt"][-1], {"role": "assistant", "content": row[side]}]
        encoded = encode_example(tokenizer, talk, UNBOUNDED)
        replies[side] = [label for label in encoded.labels if label != IGNORED]
        # Ids that the template asks for a reply with but does not keep once it is there.
        asked = len(encode_prompt(tokenizer, talk[:1], UNBOUNDED))
        dropped = max(dropped, asked - (len(encoded.ids) - len(replies[side])))
    room = max(longest // 2, longest - max(map(len, replies.values())))
    prompt = encode_prompt(tokenizer, row["prompt"], room)
    prompt = prompt[: len(prompt) - dropped]
    return Pair(row, prompt, *(replies[side][: longest - len(prompt)] for side in SIDES))


def split(rows: Sequence[dict[str, Any]], share: float, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to learn and rows held out: whole conversations, in an order that `seed` draws, until `share` is reached."""
    held = set(_drawn(rows, share, seed))
    return [r for r in rows if r["conversation_id"] not in held], [r for r in rows if r["conversation_id"] in held]


def _drawn(rows: Sequence[dict[str, Any]], share: float, seed: int) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["conversation_id"]] = sizes.get(row["conversation_id"], 0) + 1
    taken = 0
    for name in sorted(sizes, key=lambda name: content_hash([seed, name])):
        if taken >= share * len(rows):
            return
        taken += sizes[name]
        yield name
