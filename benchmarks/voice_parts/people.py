"""Real speakers for what is measured about manners of speaking: their turns by session, each kept once."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attunement.readers.files import ReadFailure, discover, read
from attunement.sources.voice.lexicon_counts import words_of

SPOKEN = {"annomi": "annomi", "hlqc": "automisc/HLQC.csv"}
TYPED = {"esconv": "esconv"}
OVERLAP = 0.3
"""Share of a speaker's 6-grams that another's text has already, from which it is the same recording in another set."""
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Speaker:
    """One side of one conversation: `turns` in order, `before` what the other said right before each."""

    name: str
    source: str
    role: str
    turns: tuple[str, ...]
    before: tuple[str, ...]

    @property
    def group(self) -> str:
        return f"{self.source}/{self.role}"


def speakers(data: Path, sources: dict[str, str] = SPOKEN | TYPED) -> list[Speaker]:
    """Both sides of each conversation; of a recording that is in two sets, the first set's."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for source, place in sources.items():
        for speaker in _sides(source, data / place):
            words = words_of(" ".join(speaker.turns))
            grams = {tuple(words[n : n + 6]) for n in range(len(words) - 5)}
            if grams and len(grams & seen) / len(grams) < OVERLAP:
                kept.append(speaker)
            seen |= grams
    return kept


def _sides(source: str, path: Path) -> Iterator[Speaker]:
    for file in discover([path]):
        for talk in read(file, max_record_bytes=1 << 22):
            if isinstance(talk, ReadFailure):
                continue
            for role in ("client", "therapist"):
                places = [n for n, turn in enumerate(talk.turns) if turn.role == role]
                turns = tuple(talk.turns[n].text for n in places)
                before = tuple(talk.turns[n - 1].text if n else "" for n in places)
                if turns:
                    yield Speaker(f"{talk.conversation_id}/{role}", source, role, turns, before)


def counselchat_therapists(data: Path) -> dict[str, list[tuple[str, str]]]:
    """Answers by therapist: (topic, answer), one for each question. Each answer is by one person, across topics."""
    import re

    found: dict[str, dict[str, tuple[str, str]]] = {}
    with open(data / "counselchat" / "counsel_chat.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row["answerText"] or "")).strip()
            if text and row["therapistURL"]:
                found.setdefault(row["therapistURL"], {})[row["questionID"]] = (row["topic"], text)
    return {name: list(answers.values()) for name, answers in found.items()}
