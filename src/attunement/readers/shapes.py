"""The chat shapes that people have: from one record (a JSON object, a table's row) to what was spoken.

OpenAI messages, ShareGPT from/value, human/assistant, client/therapist, Alpaca, plain question/answer columns, lists of
turns under any of the usual names, JSON or a transcript inside a string, one row per turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attunement.readers.turns import ROLE_OF_NAME, Spoken, clean, transcript

TURN_LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "dialogues", "turns", "utterances",
              "transcript", "chat", "history")  # fmt: skip
SPEAKER_KEYS = ("role", "from", "speaker", "speaker_role", "interlocutor", "author", "who", "name", "speaker_name", "sender",
                "participant", "username")  # fmt: skip
TEXT_KEYS = ("content", "value", "text", "utterance", "utterance_text", "message", "body", "vol_text", "sentence", "said", "msg",
             "line", "dialogue")  # fmt: skip
QUESTION_KEYS = ("question", "prompt", "query", "human", "user", "client", "patient", "seeker", "seeker_post", "questiontext", "input",
                 "context", "post", "q", "message")  # fmt: skip
ANSWER_KEYS = ("answer", "response", "assistant", "therapist", "counselor", "counsellor", "answertext", "response_post", "output",
               "completion", "reply", "gpt", "chosen", "bot", "ai", "a", "doctor", "target")  # fmt: skip
_ASKER = re.compile(r"(user|client|patient|seeker|human|customer)?(question|query|message|prompt|input|post|text)s?(text|body)?")
_ANSWERER = re.compile(
    r"(ai|bot|chatbot|assistant|therapist|counsell?or|doctor|expert|helper|model|gpt)?(answer|response|reply|output)(e?s|text|body|post)?"
    r"|(ai|bot|chatbot|assistant|therapist|counsell?or|doctor|expert|helper|model|gpt)(message|text)s?"
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
        if isinstance(row.get(key), Mapping):  # {"conversation": {"messages": [...]}}
            return spoken_of(row[key])
        if isinstance(row.get(key), list):
            found = _turn_list(row[key])
            last = _exchange(row)
            if found and last and key == "history":  # Alpaca with the turns before
                return [*found, *last]
            if found is not None and (found or (last is None and not _other_turns(row, key))):
                lead = row.get("system")
                return [("system", clean(lead), None), *found] if isinstance(lead, str) and lead.strip() else found
    return _exchange(row) or _nested_string(row)


def _other_turns(row: Mapping[str, Any], empty: str) -> bool:
    """Whether another column than the `empty` one holds turns."""
    return any(isinstance(row.get(key), list) and row[key] for key in TURN_LISTS if key != empty)


def is_turn(item: Any) -> bool:
    """Whether `item` is one turn of a talk: a speaker and a text."""
    return _turn(item) is not None


def _turn(item: Any) -> Spoken | None:
    if not isinstance(item, Mapping):
        return None
    if str(item.get("type", "")).casefold() in ROLE_OF_NAME:  # LangChain: {"type": "human", "data": {"content": ...}}
        data = item["data"] if isinstance(item.get("data"), Mapping) else item
        if "content" in data:
            return said(item, str(item["type"]), clean(_content(data["content"])))
    speaker, text = first(item, SPEAKER_KEYS), first(item, TEXT_KEYS)
    if speaker is None or text is None:
        return None
    return said(item, str(item[speaker]), clean(_content(item[text])))


def said(turn: Mapping[str, Any], speaker: str, text: str) -> Spoken:
    """What `turn` says, marked where it has `"learn": false` (or 0, or "no")."""
    marked = str(turn.get("learn", "")).strip().casefold() in ("false", "0", "no")
    return (speaker, text, None, False) if marked else (speaker, text, None)


def first(row: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of `keys` that `row` has, as the row spells it."""
    spelled = {str(k).strip().casefold(): k for k in row}
    return next((spelled[k] for k in keys if k in spelled), None)


def _turn_list(items: list[Any]) -> list[Spoken] | None:
    if not items:
        return []
    if all(isinstance(i, str) for i in items):
        return [("client" if n % 2 == 0 else "therapist", clean(text), None) for n, text in enumerate(items)]
    turns = [_turn(item) for item in items]
    if all(turn is not None for turn in turns):
        return [turn for turn in turns if turn is not None]
    exchanges = [_pair(item) for item in items]
    if all(exchange is not None for exchange in exchanges):
        return [turn for exchange in exchanges if exchange is not None for turn in exchange]
    return None


def _pair(item: Any) -> list[Spoken] | None:
    """One exchange of a list of them: `{"human": ..., "assistant": ...}` or `[question, answer]`."""
    if isinstance(item, Mapping):
        return _exchange({str(key).strip().casefold(): value for key, value in item.items()})
    if isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return [("client", clean(item[0]), None), ("therapist", clean(item[1]), None)]
    return None


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
    asked_key, answer_key = _column(row, QUESTION_KEYS, _ASKER), _column(row, ANSWER_KEYS, _ANSWERER)
    if asked_key is None or answer_key is None or not all(isinstance(row[k], str | type(None)) for k in (asked_key, answer_key)):
        return None
    return [("client", clean(_content(row[asked_key])), None), ("therapist", clean(_content(row[answer_key])), None)]


def _column(row: Mapping[str, Any], keys: Sequence[str], pattern: re.Pattern[str]) -> str | None:
    """The column by one of its usual names, else by what its name says: `Questions`, `user_question`, `Counselor Response`."""
    return first(row, keys) or next((key for key in row if pattern.fullmatch(re.sub(r"[^a-z]", "", key))), None)


def _nested_string(row: Mapping[str, Any]) -> list[Spoken] | None:
    for key in ("text", "chosen", *TURN_LISTS):
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
