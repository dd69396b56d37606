"""The chat shapes that people have: from one record (a JSON object, a table's row) to what was spoken.

OpenAI messages, ShareGPT from/value, human/assistant, client/therapist, Alpaca, plain question/answer columns, lists of
turns under any of the usual names, JSON or a transcript inside a string, one row per turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attunement.readers.turns import Spoken, clean, transcript

TURN_LISTS = (
    "messages",
    "conversations",
    "conversation",
    "dialog",
    "dialogue",
    "dialogs",
    "turns",
    "utterances",
    "transcript",
    "chat",
    "history",
)
SPEAKER_KEYS = ("role", "from", "speaker", "interlocutor", "author", "who", "name", "sender", "participant")
TEXT_KEYS = ("content", "value", "text", "utterance", "utterance_text", "message", "body", "vol_text", "sentence")
QUESTION_KEYS = (
    "question",
    "prompt",
    "query",
    "human",
    "user",
    "client",
    "patient",
    "seeker",
    "seeker_post",
    "questiontext",
    "input",
    "context",
    "post",
)
ANSWER_KEYS = (
    "answer",
    "response",
    "assistant",
    "therapist",
    "counselor",
    "counsellor",
    "answertext",
    "response_post",
    "output",
    "completion",
    "reply",
    "gpt",
)
CONVERSATION_KEYS = (
    "conversation_id",
    "conv_id",
    "dialogue_id",
    "dialog_id",
    "session_id",
    "transcript_id",
    "thread_id",
    "chat_id",
    "call_id",
    "thread",
    "conversation",
    "session",
    "call",
    "dialogue",
    "dialog",
    "chat",
)


def spoken_of(record: Any) -> list[Spoken] | None:
    """What was spoken in `record`, or None when its shape is not known. An empty list is an empty conversation."""
    if isinstance(record, list):
        return _turn_list(record)
    if isinstance(record, str):
        return _from_string(record)
    if not isinstance(record, Mapping):
        return None
    row = {str(key).strip().casefold(): value for key, value in record.items()}
    for key in TURN_LISTS:
        if isinstance(row.get(key), list):
            found = _turn_list(row[key])
            if found is not None and (found or (_exchange(row) is None and not _other_turns(row, key))):
                lead = row.get("system")
                return [("system", clean(lead), None), *found] if isinstance(lead, str) and lead.strip() else found
    return _exchange(row) or _nested_string(row)


def _other_turns(row: Mapping[str, Any], empty: str) -> bool:
    """Whether another column than the `empty` one holds turns."""
    return any(isinstance(row.get(key), list) and row[key] for key in TURN_LISTS if key != empty)


def is_turn(item: Any) -> bool:
    """Whether `item` is one turn of a talk: a speaker and a text."""
    return isinstance(item, Mapping) and first(item, SPEAKER_KEYS) is not None and first(item, TEXT_KEYS) is not None


def first(row: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of `keys` that `row` has, as the row spells it."""
    spelled = {str(k).strip().casefold(): k for k in row}
    return next((spelled[k] for k in keys if k in spelled), None)


def _turn_list(items: list[Any]) -> list[Spoken] | None:
    if not items:
        return []
    if all(isinstance(i, str) for i in items):
        return [("client" if n % 2 == 0 else "therapist", clean(text), None) for n, text in enumerate(items)]
    if not all(is_turn(i) for i in items):
        return None
    return [(str(i[first(i, SPEAKER_KEYS)]), clean(_content(i[first(i, TEXT_KEYS)])), None) for i in items]


def _content(value: Any) -> str:
    """The text of a message: a string, or OpenAI's list of parts."""
    if isinstance(value, list):
        return "\n".join(str(part.get("text", "")) for part in value if isinstance(part, Mapping))
    return "" if value is None else str(value)


def _exchange(row: Mapping[str, Any]) -> list[Spoken] | None:
    answer = next((k for k in ("output", "response", "answer", "completion") if k in row), None)
    if "instruction" in row and answer:
        asked = "\n".join(_content(row.get(k)).strip() for k in ("instruction", "input", "context") if row.get(k))
        return [("client", clean(asked), None), ("therapist", clean(_content(row[answer])), None)]
    asked_key, answer_key = first(row, QUESTION_KEYS), first(row, ANSWER_KEYS)
    if asked_key is None or answer_key is None or not all(isinstance(row[k], str | type(None)) for k in (asked_key, answer_key)):
        return None
    return [("client", clean(_content(row[asked_key])), None), ("therapist", clean(_content(row[answer_key])), None)]


def _nested_string(row: Mapping[str, Any]) -> list[Spoken] | None:
    for key in ("text", *TURN_LISTS):
        if isinstance(row.get(key), str):
            return _from_string(row[key])
    return None


def _from_string(text: str) -> list[Spoken] | None:
    stripped = text.lstrip()
    if stripped.startswith(("{", "[")):
        try:
            return spoken_of(json.loads(stripped))
        except (json.JSONDecodeError, RecursionError):
            return None
    return transcript(text)


def turn_columns(columns: Iterable[str]) -> tuple[str | None, str, str] | None:
    """(conversation, speaker, text) of a table with one row per turn, or None. Without a conversation it is one talk."""
    row = dict.fromkeys(columns)
    speaker, text = first(row, SPEAKER_KEYS), first(row, TEXT_KEYS)
    if speaker is None or text is None:
        return None
    plain = {re.sub(r"[^a-z]", "", str(c).casefold()): c for c in reversed(list(row))}
    conversation = next((plain[k.replace("_", "")] for k in CONVERSATION_KEYS if k.replace("_", "") in plain), None)
    return conversation, speaker, text
