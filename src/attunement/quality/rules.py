"""Rules over words: lexicons in TOML, compiled once, matched on normalised text.

Rules are exact and explain themselves; the trained judges stand beside them (`docs/decisions/004-safety-rules.md`).
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

_QUOTES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'", "\u201c": '"', "\u201d": '"', "\u2014": " ", "\u2013": "-"}
)
_DISGUISES = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"su[i1!*][cç][i1!*]d", "suicid"),
        (r"s\W?u\W?i\W?c\W?i\W?d\W?e", "suicide"),
        (r"sewer ?slid\w*", "suicide"),
        (r"k[i1!*]ll", "kill"),
        (r"\bd[i1!*]e\b", "die"),
        (r"\bwanna\b", "want to"),
        (r"\bgonna\b", "going to"),
        (r"\b(im|ive|dont|cant|wont|isnt|didnt|id)\b", ""),
        (r"\bmy self\b", "myself"),
    )
]
_CONTRACTIONS = {
    "im": "i'm", "ive": "i've", "dont": "don't", "cant": "can't", "wont": "won't", "isnt": "isn't", "didnt": "didn't", "id": "i'd"
}  # fmt: skip
_CONTRACTED = re.compile(r"\b(" + "|".join(_CONTRACTIONS) + r")\b")


@dataclass(frozen=True)
class Rule:
    """One lexicon rule: `level` says what it means to its judge, `weight` how much it counts (0-1)."""

    code: str
    level: str
    weight: float
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Hit:
    """What a rule found; `start` and `end` are places in the normalised text."""

    code: str
    level: str
    weight: float
    text: str
    start: int
    end: int


@lru_cache(maxsize=1024)
def normalise(text: str) -> str:
    """`text` in lower case with straight quotes, single spaces and no invisible characters; common disguises undone."""
    if text.isascii():
        text = text.replace("`", "'")
    else:
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = " ".join(text.casefold().split())
    for pattern, plain in _DISGUISES:
        if plain:
            text = pattern.sub(plain, text)
    return _CONTRACTED.sub(lambda m: _CONTRACTIONS[m[1]], text)


def _raw(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("attunement.quality").joinpath("lexicon", f"{name}.toml").read_text(encoding="utf-8"))


@cache
def lexicon(name: str) -> tuple[Rule, ...]:
    """The rules of `lexicon/<name>.toml`; `{group}` and `{one}` in a pattern stand for the file's groups."""
    raw = _raw(name)
    group = "|".join(raw.get("groups", {}).values())
    rules = []
    for rule in raw["rule"]:
        parts = [_filled(pattern, group) for pattern in rule["patterns"]]
        source = "|".join(part if part.startswith("^") else rf"\b(?:{part})" for part in parts)
        rules.append(
            Rule(rule["code"], rule.get("level", ""), float(rule.get("weight", 1.0)), re.compile(rf"(?:{source})(?!\w)", re.M))
        )
    return tuple(rules)


def _filled(pattern: str, group: str) -> str:
    return pattern.replace("{group}", group).replace(
        "{one}", "woman|man|girl|immigrant|foreigner|black|white|asian|muslim|jew|old person|teenager"
    )


def hits(rules: Sequence[Rule], text: str) -> list[Hit]:
    """What `rules` find in `text`, in the order of the rules; each rule counts once, at its first place."""
    return list(_hits(tuple(rules), normalise(text)))


@lru_cache(maxsize=1024)
def _hits(rules: tuple[Rule, ...], plain: str) -> tuple[Hit, ...]:
    """Kept, because several judges ask the same of a text."""
    found = ((rule, rule.pattern.search(plain)) for rule in rules)
    return tuple(Hit(r.code, r.level, r.weight, m[0], m.start(), m.end()) for r, m in found if m is not None)


def counted(rules: Sequence[Rule], text: str) -> list[int]:
    """How often each of `rules` matches in `text`."""
    plain = normalise(text)
    return [sum(1 for _ in rule.pattern.finditer(plain)) for rule in rules]


@cache
def sayings(name: str) -> tuple[str, ...]:
    """The example sentences of `lexicon/<name>.toml`, in its order."""
    return tuple(text for said in _raw(name)["sayings"].values() for text in said)


def as_findings(found: Sequence[Hit]) -> list[dict[str, Any]]:
    """Hits as plain data, for reports."""
    return [{"code": h.code, "term": h.text, "span": [h.start, h.end], "weight": h.weight} for h in found]
