"""A talk cut into sentences, each exactly as it was said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from attunement.records import Turn

LONGEST_WORDS = 40
"""Speech that was written down without full stops is cut after about so many words."""
_END = re.compile(r"(?:(?<![.!?\u2026])[.!?\u2026]++[\"')\]\u201d\u2019]*+(?=\s|$)|\n)\s*+")
_LONE = re.compile("[\ud800-\udfff]")
_NO_END = re.compile(r"(?i)(?:\b(?:dr|mr|mrs|ms|prof|st|vs|e\.g|i\.e|approx|no|[a-z])\.)$")
"""A full stop after these ends no sentence; "no." is left to the next look: it ends one unless a number follows."""


@dataclass(frozen=True)
class Sentence:
    """`text` stands so in turn number `turn` of the talk; `place` counts sentences through the talk."""

    role: str
    text: str
    turn: int
    place: int

    @property
    def words(self) -> int:
        return word_count(self.text)


def whole(turns: Sequence[Turn]) -> list[Turn]:
    """The turns without halves of characters, which no file and no model can hold."""
    return [replace(turn, text=_LONE.sub("\ufffd", turn.text)) if _LONE.search(turn.text) else turn for turn in turns]


def word_count(text: str) -> int:
    """White space parts words."""
    return len(text.split())


def sentences(text: str) -> list[str]:
    """`text` cut at the ends of its sentences; each is a part of `text`, and no word is lost."""
    out: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if "\n" not in match[0] and _no_end(text[start : match.end()].rstrip(), text[match.end() : match.end() + 1]):
            continue
        out += _short_enough(text[start : match.end()].strip())
        start = match.end()
    return [*out, *_short_enough(text[start:].strip())]


def client_role(turns: Sequence[Turn]) -> str:
    """Who is the client of a talk: of a voice memo without one, who tells."""
    return "client" if any(turn.role == "client" and turn.text.strip() for turn in turns) else "narrator"


def spoken(turns: Sequence[Turn]) -> list[Sentence]:
    """The sentences of client and therapist, in order; who tells alone is the client. Instructions are nobody's words."""
    roles = {client_role(turns): "client", "therapist": "therapist"}
    said = [(n, roles[t.role], text) for n, t in enumerate(turns) if t.role in roles for text in sentences(t.text)]
    return [Sentence(role, text, turn, place) for place, (turn, role, text) in enumerate(said)]


def _no_end(before: str, after: str) -> bool:
    found = _NO_END.search(before)
    if not found:
        return False
    word = found[0].casefold()
    return after.isdigit() if word == "no." else word != "i."


def _short_enough(text: str) -> Iterator[str]:
    """`text`, in pieces of at most `LONGEST_WORDS` words, cut after a comma in the second half of a piece where there is one."""
    words = list(re.finditer(r"\S+", text))
    while len(words) > LONGEST_WORDS:
        commas = [i for i in range(LONGEST_WORDS // 2, LONGEST_WORDS) if words[i][0][-1] in ",;:"]
        cut = (commas[-1] if commas else LONGEST_WORDS - 1) + 1
        yield text[words[0].start() : words[cut - 1].end()]
        words = words[cut:]
    if words:
        yield text[words[0].start() : words[-1].end()]
