"""What counts as protected health information: our types of span, and the Safe Harbor identifier that each is.

The letters are those of 45 CFR 164.514(b)(2)(i). Some spans are no Safe Harbor identifier by themselves (a year, an age below 90, a
country or a state, a weekday, a title, a nationality) but help to recognise somebody together with others: they are reported with
an empty letter, and taken out only where that is asked for.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attunement.security.phi.checks import age_of

SAFE_HARBOR: Mapping[str, str] = {
    "A": "names (of the person, relatives, employers, household members)",
    "B": "geographic subdivisions smaller than a state",
    "C": "elements of dates except the year, and ages over 89",
    "D": "telephone numbers",
    "E": "fax numbers",
    "F": "e-mail addresses",
    "G": "social security numbers",
    "H": "medical record numbers",
    "I": "health plan beneficiary numbers",
    "J": "account numbers",
    "K": "certificate and licence numbers",
    "L": "vehicle identifiers, serial numbers and licence plates",
    "M": "device identifiers and serial numbers",
    "N": "web addresses",
    "O": "IP addresses",
    "P": "biometric identifiers, finger and voice prints among them",
    "Q": "full-face photographs and comparable images",
    "R": "any other unique identifying number, characteristic or code",
}

TYPES: Mapping[str, str] = {
    "NAME": "A",
    "ORGANIZATION": "A",
    "LOCATION": "B",
    "ADDRESS": "B",
    "ZIP": "B",
    "DATE": "C",
    "AGE": "C",
    "PHONE": "D",
    "FAX": "E",
    "EMAIL": "F",
    "SSN": "G",
    "MRN": "H",
    "HEALTH_PLAN": "I",
    "ACCOUNT": "J",
    "LICENSE": "K",
    "VEHICLE": "L",
    "DEVICE": "M",
    "URL": "N",
    "IP": "O",
    "BIOMETRIC": "P",
    "PHOTO": "Q",
    "ID": "R",
    "TITLE": "",
    "NATIONALITY": "",
}
"""Our types, each with its letter; a span of a type with a letter may have none (`PHISpan.safe_harbor`)."""

LARGE_PLACES = frozenset(json.loads((Path(__file__).parent / "places.json").read_text(encoding="utf-8"))["large"])
"""Countries, and states of the USA and alike: not smaller than a state, so no identifier by themselves. In lower case."""

OLDEST_TOLD = 89
"""Ages above this one are identifiers."""


@dataclass(frozen=True, order=True)
class PHISpan:
    """A place in a text: characters `start` to `end`, what stands there (`TYPES`), and how sure we are (0-1).

    `safe_harbor` is its letter in `SAFE_HARBOR`, empty for what identifies nobody by itself. `recogniser` is what found it:
    `pattern:<name>`, `model`, or `context` (found elsewhere in the same conversation).
    """

    start: int
    end: int
    type: str
    score: float
    safe_harbor: str
    recogniser: str


_YEAR_OR_DAY = re.compile(
    r"(?i)(?=[\d'’fmnstw])(?:(?:1[89]\d\d|20[0-4]\d)(?:['’]?s)?|['’]\d\ds?|(?:19|20)?\d0s|(?:nineteen|twenty|two thousand)[ a-z-]{0,30}"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|(?:mon|tue|wed|thu|fri|sat|sun)\.?)"
)


def letter(kind: str, found: str) -> str:
    """The Safe Harbor letter of `found` as a span of type `kind`: none for years and weekdays, and for ages up to 89."""
    if kind == "DATE" and _YEAR_OR_DAY.fullmatch(found.strip()):
        return ""
    if kind == "AGE":
        age = age_of(found)
        return "C" if age is not None and age > OLDEST_TOLD else ""
    if kind == "LOCATION" and found.strip().casefold().removeprefix("the ") in LARGE_PLACES:
        return ""
    return TYPES[kind]


def merged(groups: Iterable[Iterable[PHISpan]], text: str) -> list[PHISpan]:
    """Spans without overlaps, in order of place. Earlier groups win over later ones; within a group the longer span wins.

    What a later group found beyond an earlier span stays, where it has letters or digits of its own. A longer span of the same
    Safe Harbor letter takes the shorter ones in: a postal address its street and its code.
    """
    taken: list[PHISpan] = []
    for group in groups:
        wide: list[PHISpan] = []
        for span in sorted(group, key=lambda s: (s.start - s.end, s.start)):
            if not _over(span, wide):
                insort(wide, span)
        kept, rests = taken, []
        for span in wide:
            over = _over(span, taken)
            if not over:
                rests.append(span)
            elif _takes_in(span, over):
                rests.append(span)
                kept = [other for other in kept if other not in over] if len(over) > 1 else _without(kept, over[0])
            else:
                rests += _rests(span, over, text)
        taken = sorted([*kept, *rests])
    return taken


def _over(span: PHISpan, taken: Sequence[PHISpan]) -> list[PHISpan]:
    """Those of `taken` (in order, without overlaps) that share a character with `span`."""
    at = bisect_left(taken, span.end, key=lambda other: other.start)
    out = []
    while at and taken[at - 1].end > span.start:
        at -= 1
        out.append(taken[at])
    return out[::-1]


def _without(spans: list[PHISpan], gone: PHISpan) -> list[PHISpan]:
    at = bisect_left(spans, gone)
    return spans[:at] + spans[at + 1 :] if at < len(spans) and spans[at] == gone else spans


def _takes_in(span: PHISpan, over: Sequence[PHISpan]) -> bool:
    """Whether `span` holds all of `over` and more, and is the same thing."""
    inside = all(span.start <= o.start and o.end <= span.end and o.safe_harbor in {span.safe_harbor, ""} for o in over)
    longer = span.end - span.start > max(o.end - o.start for o in over)
    return inside and longer and (span.type == "ADDRESS" or span.type in {o.type for o in over})


def _rests(span: PHISpan, over: Sequence[PHISpan], text: str) -> list[PHISpan]:
    """What stands of `span` beside those over it, where that is more than signs."""
    at, out = span.start, []
    for start, end in [*sorted((o.start, o.end) for o in over), (span.end, span.end)]:
        part = text[at : max(at, min(start, span.end))]
        left = len(part) - len(part.lstrip(" ,.;:()\n\t-"))
        kept = part.strip(" ,.;:()\n\t-")
        if sum(c.isalnum() for c in kept) > 2:
            out.append(replace(span, start=at + left, end=at + left + len(kept)))
        at = max(at, end)
    return out
