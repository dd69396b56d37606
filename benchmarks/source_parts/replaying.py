"""A model that is none: a local server that answers with written conversations, misbehaves at stated rates, and keeps its own account.

What it does to a request hangs on the request alone (its words and seed) and on how often that came: so a run that is killed and gone on with
meets the same faults as one that is not.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from attunement.storage.files import content_hash
from speaking import Answer, said

RATES = {"busy_429": 0.08, "broken_500": 0.05, "garbage": 0.03, "cut_json": 0.04, "refusal": 0.04, "said_before": 0.02}
"""Shares of the requests that meet each fault. 429 and 500 come at the first try alone; the others are all that this request ever gets."""
GARBAGE = (200, {}, b"<html>502 Bad Gateway</html>")
REFUSAL = "I'm sorry, but I can't help with that."


@dataclass
class Replay:
    """`written` gives for each category its conversations, each handed out once. Use it as the script of `speaking`."""

    written: Mapping[str, Iterable[list[dict[str, str]]]]
    faults: Counter[str] = field(default_factory=Counter)
    answered: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By request the tokens (prompt, completion) of what it was answered, whatever that was worth."""
    answered_again: Counter[str] = field(default_factory=Counter)
    garbage_again: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """Of every answer that was sent, those of one request that came twice counted twice."""
    _texts: dict[str, str] = field(default_factory=dict)
    _tries: Counter[str] = field(default_factory=Counter)
    _left: dict[str, deque[list[dict[str, str]]]] = field(default_factory=dict)
    _last: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, path: str, body: dict[str, Any]) -> Answer:
        with self._lock:
            return self._answer(path, body)

    def _answer(self, path: str, body: dict[str, Any]) -> Answer:
        asked = content_hash([body["messages"], body.get("seed")])
        fault = self._fault(asked)
        self._tries[asked] += 1
        if fault in ("busy_429", "broken_500") and self._tries[asked] == 1:
            self.faults[fault] += 1
            return (429, {"retry-after": "0"}, b'{"error": {"message": "busy"}}') if fault == "busy_429" else (500, {}, b"oops")
        if fault == "garbage":
            self.faults[fault] += 1
            self.garbage_again += self._tries[asked] > 1
            return GARBAGE
        if asked not in self._texts:
            self._texts[asked] = self._text(fault, body)
        text = self._texts[asked]
        tokens = (_count(json.dumps(body["messages"])), _count(text))
        self.tokens.update(prompt=tokens[0], completion=tokens[1])
        if asked in self.answered:
            self.answered_again[asked] += 1
        else:
            self.answered[asked] = tokens
            if fault in ("cut_json", "refusal", "said_before"):
                self.faults[fault] += 1
        return said(path, text, tokens=tokens)

    def _fault(self, asked: str) -> str:
        drawn = Random(asked).random()
        for name, rate in RATES.items():
            if drawn < rate:
                return name
            drawn -= rate
        return "none"

    def _text(self, fault: str, body: dict[str, Any]) -> str:
        if fault == "refusal":
            return REFUSAL
        found = re.search(r"^Situation: .*\((.+)\)\.$", body["messages"][-1]["content"], re.M)
        assert found, "the request names no category"
        category = found[1].replace(" ", "_")
        if fault == "said_before" and category in self._last:
            return self._last[category]
        left = self._left.setdefault(category, deque(self.written[category]))
        if not left:
            return REFUSAL
        text = json.dumps({"turns": left[0]})
        if fault == "cut_json":
            return text[: len(text) // 2]
        left.popleft()
        self._last[category] = text
        return text


def _count(text: str) -> int:
    """Tokens, as this server counts them: words."""
    return len(text.split())
