"""Surrogates for what was found in one conversation: made up, of the same kind and form, the same for the same, keyed by a secret.

Everything is drawn by HMAC-SHA-256 under a key made of the secret and the conversation: without the secret nobody can compute which
surrogate stands for what. People keep their gender where a name tells it, the parts of a name go together, also across nicknames and
possessives; dates move by the same whole weeks, so that weekdays stay true; numbers keep their form.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from attunement.security.phi.checks import NUMBERS, age_of
from attunement.security.phi.identifiers import OLDEST_TOLD
from attunement.security.phi.people import FORMAL, NICKNAMES
from attunement.security.phi.shifting import shifted
from attunement.security.phi.words import fold

HERE = Path(__file__).parent
LEAST_SECRET = 16
MOST_WEEKS = 26
"""Dates move by one week to half a year, back or forth."""
FACILITIES = re.compile(
    r"(?i)(?<!\w)(?=[aceghimoprstuw])(?:(?:general|memorial|community|regional|children's|medical|counseling|wellness|recovery|treatment|high|middle|elementary) ){0,3}+"
    r"(?:hospital|clinic|cent(?:er|re)|ctr|health|school|university|college|academy|church|shelter|hospice|infirmary|practice|office|system|group)\b"
)
BUSINESS = re.compile(
    r"(?i)(?<!\w)(?:(?:inc|llc|ltd|corp|group|bank|insurance|foundation|company|co|partners|solutions|systems|foods|media)\b\.? ?){1,3}+$"
)
STREET = re.compile(
    r"(?i)\b(?:street|st|avenue|ave|road|rd|lane|ln|drive|dr|court|ct|boulevard|blvd|way|place|square|terrace)\b\.?"
)
PARTICLES = frozenset("de van von der da del di la bin al den ter du le dr mr mrs ms prof sr jr ii iii".split())
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@cache
def _lists() -> dict[str, list[str]]:
    names, places = (json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")) for name in ("names", "places"))
    return {**names, "cities": [c for c in places["cities"] if "." not in c]}


@cache
def _gender(name: str) -> str:
    formal = FORMAL.get(name, name)
    return next(
        (g for g in ("m", "f", "both") if formal in {fold(n) for n in _lists()[g]}), "f" if name.endswith(("a", "ie")) else "both"
    )


class Surrogates:
    """Of one conversation. Raises `ValueError` when `secret` is shorter than 16 bytes."""

    def __init__(self, secret: bytes, conversation_id: str = "") -> None:
        if len(secret) < LEAST_SECRET:
            raise ValueError(f"the secret of surrogates needs {LEAST_SECRET} bytes or more")
        self._key = hmac.digest(secret, b"phi surrogates\0" + conversation_id.encode("utf-8", "surrogatepass"), "sha256")
        weeks = self._number("weeks") % MOST_WEEKS + 1
        self.days = 7 * (weeks if self._number("forward") % 2 else -weeks)
        """By how much dates move."""
        self._real: set[str] = set()
        self._surnames: set[str] = set()
        self._given: dict[tuple[str, str], str] = {}

    def meet(self, found: Iterable[tuple[str, str]]) -> None:
        """What will be replaced, as (text, type): surrogates must differ from all that is real, and parts of names be told apart."""
        for text, kind in found:
            parts = [fold(part) for part in re.findall(r"[^\W\d_]+", text)]
            self._real.update(parts)
            if kind == "NAME" and len(parts) > 1:
                self._surnames.add(parts[-1])

    def of(self, text: str, kind: str) -> str:
        """The surrogate of `text`; a typed placeholder where none can be made."""
        own = re.search(r"['’]s$", text)
        if own:
            return self.of(text[: own.start()], kind) + own[0]
        if kind == "NAME":
            return re.sub(r"[^\W\d_]+", lambda m: self._part(m[0], last=m.start() > 0), text)
        if kind == "DATE":
            return shifted(text, self.days) or "[DATE]"
        if kind == "AGE":
            return _capped(text)
        if kind in {"LOCATION", "ADDRESS", "ORGANIZATION"}:
            return self._place(text, kind)
        if kind == "EMAIL":
            return f"{self._draw('first', text, 'both')}.{self._draw('last', text, 'last')}@example.org".lower().replace(" ", "")
        if kind == "URL":
            return (
                f"https://example.org/{self._number('url', text.lower()) % 10**6}"
                if "/" in text or "." in text
                else f"@{self._draw('first', text, 'both').lower()}"
            )
        if kind == "IP":
            number = self._number("ip", text.lower())
            return f"2001:db8::{number % 65535:x}" if ":" in text else f"192.0.2.{number % 254 + 1}"
        return self._same_form(text) if any(c.isdigit() for c in text) or _spelled(text) else f"[{kind}]"

    def _number(self, *parts: str) -> int:
        return int.from_bytes(
            hmac.digest(self._key, "\0".join(parts).encode("utf-8", "surrogatepass"), hashlib.sha256)[:8], "big"
        )

    def _draw(self, use: str, real: str, names: str) -> str:
        """A name from the list `names` for `real`: the same for the same, another for another, none that is real here."""
        real = fold(real)
        if (use, real) not in self._given:
            choices = _lists()[names]
            taken = {fold(name) for name in self._given.values()} | self._real
            at = self._number(use, real) % len(choices)
            for step in range(len(choices)):
                name = choices[(at + step) % len(choices)]
                if fold(name) not in taken and fold(name) not in FORMAL:
                    break
            self._given[use, real] = name
        return self._given[use, real]

    def _part(self, word: str, *, last: bool) -> str:
        low = fold(word)
        if low in PARTICLES:
            return word
        if len(low) == 1:
            return _as(word, LETTERS[self._number("initial", low) % 26])
        surname = low in self._surnames or (last and low not in FORMAL and low not in NICKNAMES)
        formal = FORMAL.get(low, low) if FORMAL.get(low) in self._real or low not in self._surnames else low
        made = self._draw("last", low, "last") if surname else self._draw("first", formal, _gender(formal))
        if not surname and formal != low and (shorts := NICKNAMES.get(fold(made))):
            made = shorts.split()[0].capitalize()
        return _as(word, made)

    def _place(self, text: str, kind: str) -> str:
        real = text.strip()
        if kind == "ORGANIZATION":
            ending = BUSINESS.search(real)
            return _as(real, self._draw("org", real, "last")) + f" {ending[0] if ending else 'Group'}"
        if kind == "ADDRESS":
            ending = STREET.search(real)
            street = f"{self._same_form(found[0]) if (found := re.match(r'[0-9]{1,6}', real)) else ''} {self._draw('street', real, 'last')} {ending[0] if ending else 'Street'}".strip()
            city = re.search(r"[,\n]", real)
            return _as(real, street + (f", {self._draw('city', real, 'cities')}" if city else ""))
        kept = FACILITIES.search(real)
        if kept and kept.start():
            return f"{self._draw('facility', real, 'last')} {real[kept.start() :]}"
        return _as(real, self._draw("city", real, "cities"))

    def _same_form(self, text: str) -> str:
        """Digits for digits and letters for letters, by the number alone: how it is grouped does not matter."""
        plain = re.sub(r"[^a-z0-9]", "", text.lower())
        stream = iter(str(self._number("form", plain, str(i)) % 10**12).zfill(12) for i in range(len(text) // 12 + 2))
        digits = iter("".join(stream))
        if _spelled(text):
            names = list(NUMBERS)[:10]
            return re.sub(
                r"[a-z]+", lambda m: names[int(next(digits))] if m[0] in NUMBERS or m[0] == "oh" else m[0], text.lower()
            )
        letters = iter(LETTERS[self._number("letter", plain, str(i)) % 26] for i in range(len(text)))
        return "".join(
            next(digits, "7") if c.isdigit() else _as(c, next(letters)) if c.isalpha() and c.isascii() else c for c in text
        )


def _spelled(text: str) -> bool:
    return sum(word in NUMBERS for word in text.lower().split()) > 2


def _capped(text: str) -> str:
    age = age_of(text)
    if age is None or age <= OLDEST_TOLD:
        return text
    return re.sub(r"\d{1,3}", "90", text, count=1) if any(c.isdigit() for c in text) else "ninety"


def _as(old: str, new: str) -> str:
    letters: Sequence[str] = [c for c in old if c.isalpha()]
    if len(letters) > 1 and all(c.isupper() for c in letters):
        return new.upper()
    return new.lower() if letters and all(c.islower() for c in letters) else new if len(new) > 1 else new.upper()
