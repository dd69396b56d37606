"""Conversations by a language model: what it is asked, and what is made of its answer.

An answer is a conversation or an `AnswerError` with a reason code: refused, cut, not_json, wrong_shape, too_short, wrong_language,
broken_role.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from attunement.errors import AnswerError
from attunement.providers import Completion, Message, Request
from attunement.quality.features import looks_english
from attunement.quality.rules import normalise
from attunement.readers.turns import clean
from attunement.records import EdgeCasePrompt

LEAST_TURNS, MOST_TURNS = 6, 40
Talk = list[tuple[str, str]]
"""(role, text), client first, therapist last."""

SYSTEM = """You write practice conversations from which therapists and supervised dialogue models learn. You write both sides.
The client is a whole person, never a type: concrete, contradictory, in their own way of speaking. They are hard to help.
The therapist is skilled: short turns, mostly reflections and open questions; asks directly about danger; promises no secrecy and
names honestly what must be reported; never argues, diagnoses, lectures or gives medical orders; names help in general terms (the
local emergency number, a crisis line) and invents no telephone numbers.
No gore, no slurs, no detail of any method of suicide, self-harm or violence: a means may be named in one word where the therapist
must ask about it. No stage directions, no names before the lines.
Write in English, 10 to 16 turns, the client first, the therapist last, strictly in turn.
Answer with JSON alone: {"turns": [{"role": "client", "text": "..."}, {"role": "therapist", "text": "..."}]}"""

_FENCE = re.compile(r"^```\w*\s*|(?<!\s)\s*```$")
_REFUSES = re.compile(
    r"\b(?:i(?:'m| am) sorry|i (?:can't|cannot|can not|won't|am unable to|'m unable to|'m not able to)|unable to (?:help|comply|write|assist))"
)
_BREAKS_ROLE = re.compile(
    r"\bas an? (?:ai|artificial intelligence|language model|virtual assistant|chatbot)\b"
    r"|\bi(?:'m| am) (?:just |only |not a (?:real )?therapist,? )?(?:an? )?(?:ai|artificial intelligence|language model|chatbot|virtual assistant)\b"
    r"|\b(?:chatgpt|openai|anthropic|my training data|my programming|knowledge cutoff)\b"
    r"|\bi (?:can't|cannot) (?:continue|engage in) (?:this|the|such) (?:role|conversation|roleplay|scenario)"
)


def request_of(prompt: EdgeCasePrompt, attempt: int, max_tokens: int, temperature: float) -> Request:
    """What is asked for a scenario; each attempt is a request of its own for the cache."""
    messages = (Message("system", SYSTEM), Message("user", prompt.text))
    return Request(messages, f"{prompt.prompt_id}/{attempt}", max_tokens, temperature, (prompt.seed + attempt) % 2**31)


def read_talk(completion: Completion) -> Talk:
    """The conversation in an answer. Raises `AnswerError`."""
    if completion.finish == "refused":
        raise AnswerError("refused", "the model refused")
    text = _FENCE.sub("", completion.text.strip())
    start, end = text.find("{"), text.rfind("}")
    if completion.finish == "length":
        raise AnswerError("cut", "the answer was cut at providers.max_tokens")
    if start < 0 and _REFUSES.search(normalise(text[:300])):
        raise AnswerError("refused", "the model refused")
    try:
        found = json.loads(text[start : end + 1]) if 0 <= start < end else None
    except (json.JSONDecodeError, RecursionError) as error:
        raise AnswerError(*_broken(text, end)) from error
    if found is None:
        raise AnswerError(*_broken(text, end))
    talk = _turns(found)
    for role in ("client", "therapist"):
        if not looks_english("\n".join(t for r, t in talk if r == role)):
            raise AnswerError("wrong_language", f"what the {role} says is not English")
    if breaks_role(talk):
        raise AnswerError("broken_role", "the model speaks as a model")
    return talk


def breaks_role(talk: Sequence[tuple[str, str]]) -> bool:
    """Whether a therapist's turn speaks as a program does. A client may ask whether it is one."""
    return any(role == "therapist" and _BREAKS_ROLE.search(normalise(text)) for role, text in talk)


def _broken(text: str, end: int) -> tuple[str, str]:
    if "{" in text and end < len(text.rstrip()) - 1:
        return "cut", "the answer's JSON ends within a value"
    return "not_json", "the answer is no JSON"


def _turns(found: Any) -> Talk:
    rows = found.get("turns") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(r, dict) and isinstance(r.get("text"), str) for r in rows):
        raise AnswerError("wrong_shape", "the answer has no list of turns with texts")
    talk = [(str(row.get("role", "")).strip().casefold(), clean(row["text"])) for row in rows]
    if talk and talk[-1][0] == "client":
        talk = talk[:-1]  # an open end: nothing answers it
    if any(role != ("client", "therapist")[i % 2] or not text for i, (role, text) in enumerate(talk)):
        raise AnswerError("wrong_shape", "client and therapist do not speak in turn")
    if not LEAST_TURNS <= len(talk) <= MOST_TURNS:
        raise AnswerError("too_short" if len(talk) < LEAST_TURNS else "wrong_shape", f"the conversation has {len(talk)} turns")
    return talk
