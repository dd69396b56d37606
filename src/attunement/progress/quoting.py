"""Words of others as they may stand in a prompt: one line that cannot end its own quotation, look like a chat template, or hide anything."""

from __future__ import annotations

import re
import unicodedata

_MARKS = str.maketrans(
    {
        '"': "'", "\u201c": "'", "\u201d": "'", "\u201e": "'", "\u201f": "'", "\u00ab": "'", "\u00bb": "'", "`": "'",
        "<": "\u2039", ">": "\u203a", "[": "(", "]": ")", "{": "(", "}": ")", "|": "\u00a6", "#": "\u00b7", "\u2581": "_",
    }
)  # fmt: skip
"""Quotation marks, and what templates of chat models are made of (`<|im_end|>`, `[INST]`, `<<SYS>>`, `{{`, `###`, SentencePiece's space)."""
_OURS = re.compile(r"(?i)\bend\s+of\s+background\b|\bbackground\s+from\s+past\s+sessions\b")
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Categories of characters that are not seen: controls, directions and joins, halves, private ones, none."""


def quoted(text: str) -> str:
    """`text` for between two `"`. Compatible forms (full width) become plain first, as tokenisers may make them so."""
    plain = unicodedata.normalize("NFKC", text).translate(_MARKS)
    seen = "".join(" " if c in "\n\r\t\v\f\x85" else c for c in plain if c in "\n\r\t\v\f\x85" or _is_seen(c))
    return _OURS.sub("(\u2026)", " ".join(seen.split()))


def _is_seen(character: str) -> bool:
    return character.isascii() and character.isprintable() or unicodedata.category(character) not in _HIDDEN


def cut(text: str, words: int, characters: int) -> str:
    """The first words of `text`, with an ellipsis where more would follow."""
    short = " ".join(text.split()[:words])[:characters].rstrip()
    return short if short == text else f"{short}\u2026"
