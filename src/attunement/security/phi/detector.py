"""`PHIDetector`: finds protected health information in texts and whole conversations, and takes it out.

Patterns that are sure win over the learned tagger, the tagger over patterns that guess. In a conversation what was found once is found
again: a name, or a part of it, that stood in one turn is marked in every other turn too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attunement.errors import UserError
from attunement.records import Conversation
from attunement.security.phi import dates, patterns, people
from attunement.security.phi.capitals import by_capitals
from attunement.security.phi.doubts import foreign, plausible, sure_enough
from attunement.security.phi.identifiers import PHISpan, merged
from attunement.security.phi.tagger import Tagger
from attunement.security.phi.words import Lists, split

PATTERNS: tuple[patterns.Pattern, ...] = (
    *patterns.NET, *patterns.NUMBERS, *patterns.PLACES, *patterns.SEEN, *dates.DATES, *dates.AGES, *people.NAMES,
)  # fmt: skip
DIGIT = re.compile(r"\d")
NUMBER = re.compile(r"(?i)\d|" + patterns.SPELLED)
WITHOUT_NUMBER = tuple(p for p in PATTERNS if not p.needs)
WITH_SPELLED = tuple(p for p in PATTERNS if p.needs != patterns.DIGIT)
SURE = 0.85
"""Patterns with this score or more win over the tagger."""
MODES = ("report", "redact", "pseudonymise", "block")
COMMON_WORDS = frozenset(
    "will may mark hope grace faith joy rose art bill jack pat sue drew chase guy angel dawn april june august summer autumn christian "
    "old young king love rich long small black white brown green gray day best good more new way lane park hill field church wood miles day "
    "he she it they you me my her him his the and for was has had not but who mom dad doctor baby honey dear lord god jesus see said an in on "
    "at to so do go no yes be by ma an li le ha ho an as is or if us we".split()
)
"""Names that are also words: found again in other turns only with a capital, and never as a part of a name."""


class PHIFound(UserError):
    """A text that holds protected health information where none may be. `counts` by type; the message repeats nothing of the text."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
        super().__init__(f"holds protected health information ({told}): redact or pseudonymise it first")


class PHIDetector:
    """Finds the 18 Safe Harbor identifiers. Loads its weights at the first use; works offline; not safe for concurrent threads.

    With `quasi` what identifies nobody by itself (years, ages up to 89, countries, titles, ...) is taken out and counts too; it is
    reported in any case, with an empty `safe_harbor`. `model=False` leaves the learned tagger out, `lists=False` names by lists and
    capitals too (only what has a form is found then); `weights` names other weights.
    """

    def __init__(self, *, quasi: bool = False, model: bool = True, lists: bool = True, weights: Path | None = None) -> None:
        self.quasi = quasi
        self._capitals = lists
        self._lists = Lists.read()
        self._tagger = Tagger(self._lists, weights) if model else None

    def detect(self, text: str) -> list[PHISpan]:
        """The spans of `text`, in order and without overlaps."""
        return self.detect_many([text])[0]

    def detect_many(self, texts: Sequence[str]) -> list[list[PHISpan]]:
        """The spans of each text by itself; faster than one by one."""
        return [self._together(text, found, ()) for text, found in zip(texts, self._guessed(texts), strict=True)]

    def detect_turns(self, turns: Sequence[str]) -> list[list[PHISpan]]:
        """The spans of each turn of one conversation: with the question before it, and with what other turns gave away."""
        return self.detect_talks([turns])[0]

    def detect_talks(self, talks: Sequence[Sequence[str]]) -> list[list[list[PHISpan]]]:
        """`detect_turns` of several conversations; faster than one by one."""
        guessed = iter(self._guessed([turn for turns in talks for turn in turns]))
        out = []
        for turns in talks:
            asked = [tuple(people.answered(before, turn)) for before, turn in zip(("", *turns), turns, strict=False)]
            found = [self._together(turn, next(guessed), known) for turn, known in zip(turns, asked, strict=True)]
            out.append(
                [merged([spans, more], turn) for turn, spans, more in zip(turns, found, _again(turns, found), strict=True)]
            )
        return out

    def _guessed(self, texts: Sequence[str]) -> list[tuple[list[PHISpan], list[PHISpan]]]:
        """What the tagger, and what capitals and lists say of each text."""
        words = [split(text) for text in texts]
        tagged = self._tagger.spans(texts, words) if self._tagger else [[] for _ in texts]
        out = []
        for text, parts, tags in zip(texts, words, tagged, strict=True):
            listed = list(by_capitals(parts, text, self._lists)) if self._capitals else []
            both = [[s for s in spans if plausible(s, text, self._lists)] for spans in (tags, listed)]
            both = [[s for s in spans if not foreign(s, text) or sure_enough(s, text)] for spans in both]
            out.append((both[0], both[1]))
        return out

    def _together(self, text: str, guessed: tuple[list[PHISpan], list[PHISpan]], more: Iterable[PHISpan]) -> list[PHISpan]:
        lowered = text.lower()
        number = NUMBER.search(text)
        if number is None:
            tried = WITHOUT_NUMBER
        else:
            tried = PATTERNS if DIGIT.search(text, number.start()) else WITH_SPELLED
        found = [span for pattern in tried for span in pattern.spans(text, lowered)]
        sure, guesses = [s for s in found if s.score >= SURE], [s for s in found if s.score < SURE]
        tagged, listed = guessed
        surely_listed = [span for span in listed if span.score >= SURE]
        return merged([[*sure, *surely_listed], tagged, more, guesses, listed], text)

    def told(self, spans: Iterable[PHISpan]) -> list[PHISpan]:
        """Those that count: with a Safe Harbor letter, or all with `quasi`."""
        return [span for span in spans if span.safe_harbor or self.quasi]

    def redact(self, text: str) -> str:
        """`text` with a typed placeholder (`[NAME]`) in each place."""
        return _put(text, [(s, f"[{s.type}]") for s in self.told(self.detect(text))])

    def redact_turns(self, turns: Sequence[str]) -> list[str]:
        """Each turn of one conversation with typed placeholders."""
        return [
            _put(turn, [(s, f"[{s.type}]") for s in self.told(spans)])
            for turn, spans in zip(turns, self.detect_turns(turns), strict=True)
        ]

    def pseudonymise(self, turns: Sequence[str], *, secret: bytes, conversation_id: str = "") -> list[str]:
        """The turns of one conversation with surrogates in the place of what was found: the same for the same, all along.

        `secret` (16 bytes or more) keys them: without it nobody can tell which surrogate stands for what, nor that two conversations
        share somebody. Raises `ValueError` for a shorter one.
        """
        from attunement.security.phi.surrogates import Surrogates

        made = Surrogates(secret, conversation_id)
        found = [self.told(spans) for spans in self.detect_turns(turns)]
        made.meet((turn[s.start : s.end], s.type) for turn, spans in zip(turns, found, strict=True) for s in spans)
        return [
            _put(turn, [(s, made.of(turn[s.start : s.end], s.type)) for s in spans])
            for turn, spans in zip(turns, found, strict=True)
        ]

    def block(self, *texts: str) -> None:
        """Raises `PHIFound` where one of `texts` holds anything."""
        counts = Counter(span.type for spans in self.detect_many(texts) for span in self.told(spans))
        if counts:
            raise PHIFound(counts)

    def scan(self, conversations: Iterable[Conversation]) -> dict[str, Counter[str]]:
        """By conversation what was found of each type; conversations without anything are left out."""
        out = {}
        for conversation in conversations:
            found = self.detect_turns([turn.text for turn in conversation.turns])
            if counts := Counter(span.type for spans in found for span in self.told(spans)):
                out[conversation.conversation_id] = counts
        return out


def _put(text: str, changes: Iterable[tuple[PHISpan, str]]) -> str:
    for span, put in sorted(changes, reverse=True):
        text = text[: span.start] + put + text[span.end :]
    return text


def _again(turns: Sequence[str], found: Sequence[Sequence[PHISpan]]) -> list[list[PHISpan]]:
    """Names and numbers of one turn that stand in others too, where nothing was found."""
    known: dict[str, PHISpan] = {}
    for turn, spans in zip(turns, found, strict=True):
        for span in spans:
            whole = turn[span.start : span.end]
            if span.safe_harbor and span.type not in {"DATE", "AGE", "BIOMETRIC", "PHOTO"} and span.score >= 0.8:
                parts = re.findall(r"[^\W\d_]{3,}", whole) if span.type == "NAME" else []
                shorts = [short for part in parts for short in people.NICKNAMES.get(part.lower(), "").split() if len(short) > 2]
                for text in [whole, *parts, *shorts]:
                    if len(text) > 2 and text.lower() not in COMMON_WORDS:
                        known.setdefault(text.lower(), span)
    if not known:
        return [[] for _ in turns]
    longest = sorted(known, key=len, reverse=True)[:400]
    either = re.compile(r"(?i)(?<!\w)(?:" + "|".join(map(re.escape, longest)) + r")(?!\w)")
    out = []
    for turn in turns:
        spans = []
        for match in either.finditer(turn):
            if found_before := known.get(match[0].lower()):
                spans.append(replace(found_before, start=match.start(), end=match.end(), recogniser="context"))
        out.append(spans)
    return out
