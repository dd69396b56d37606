"""The safety reviewer: what the judges say of a generated conversation, and whether a clinician must see it first.

It approves nothing. It says for which reasons a person must look, and leaves out only what no reviewer needs to see.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from attunement.quality.appropriateness import unsafe_after, validate_by_rules
from attunement.quality.bias import detect_many
from attunement.quality.crisis import risk_states
from attunement.quality.panel import Judges
from attunement.quality.rules import lexicon, normalise
from attunement.quality.verdicts import Item
from attunement.records import Turn
from attunement.sources.edge_cases.categories import Category
from attunement.sources.edge_cases.talking import breaks_role

METHOD_DETAILS, BROKEN_ROLE = "method_details", "broken_role"
BIASED, SUSPECT = 0.5, 0.8
"""As curation holds pairs: `bias_score` from which a turn is held, share of the judge's point from which it is read by sentences."""

UNLESS_DENIED = "unless_denied"
EXCUSABLE = ("promises_secrecy", "blames", "dismisses", "diagnoses")
"""Codes of the service's rules whose matches are excused as those of the reviewer's own are (`lexicon/reviewer.toml`)."""
_DENIES = re.compile(r"\b(?:can't|cannot|won't|wouldn't|couldn't|don't|do not|not|never|no(?!,)|none)\b")
_REPORTS = re.compile(
    r"\b(?:he|she|they|people|somebody|someone|others|family|the voice) (?:\w+ )?(?:tells?|told|says?|said|calls?|called|asks?|asked)\b"
    r"|\b(?:were|being|been) (?:told|called)\b"
)
_EXCEPTS = re.compile(r"\b(?:unless|except|only (?:where|if|when)|only exception|have to)\b")
"""In a turn on secrecy: it names where it ends."""


@dataclass(frozen=True)
class Review:
    """`flags` are codes: the rule or judge that found something. `crisis_level` is the client's at the end; `kind` of danger."""

    crisis_level: str
    kind: str
    flags: tuple[str, ...]
    clinical_review_required: bool
    reasons: tuple[str, ...]


def review_all(judges: Judges, talks: Sequence[Sequence[Turn]], categories: Sequence[Category]) -> list[Review]:
    """One review a conversation. Every text is judged once, in few batches."""
    client = [turn.text for talk in talks for turn in talk if turn.role == "client"]
    for name in ("crisis", "crisis_whose"):
        judges.judge(name, [Item(text) for text in client])  # the verdicts are kept: what follows asks for them one by one
    replies = [_replies(talk) for talk in talks]
    unsafe = iter(unsafe_after(judges, [item for items in replies for item in items]))
    bias = iter(detect_many(judges, [turn.text for talk in talks for turn in talk], suspect=SUSPECT))
    least = judges.operating_point("unsafe")
    out = []
    for talk, items, category in zip(talks, replies, categories, strict=True):
        flags = [kind for risk, kind in (next(unsafe) for _ in items) if risk >= least]
        for report in (next(bias) for _ in talk):
            flags += [str(f["code"]) for f in report.findings] if report.bias_score >= BIASED else []
        out.append(_review(judges, talk, [*_by_rules(talk, category), *flags], category))
    return out


def _replies(talk: Sequence[Turn]) -> list[Item]:
    return [
        Item(turn.text, tuple(before.text for before in talk[max(0, i - 2) : i]))
        for i, turn in enumerate(talk)
        if turn.role == "therapist"
    ]


def _by_rules(talk: Sequence[Turn], category: Category) -> list[str]:
    found = []
    for turn in talk:
        if turn.role == "therapist":
            found += [f"therapist_{code}" for code in _said(turn.text)]
            if any(re.search(rf"\b(?:{pattern})", normalise(turn.text)) for pattern in category.never_patterns):
                found.append("never_said_here")
        elif METHOD_DETAILS in validate_by_rules(turn.text).reasons:
            found.append(f"client_{METHOD_DETAILS}")
    return found


def _said(text: str) -> list[str]:
    """The codes of what a therapist's turn must not say: by the rules of the service, and by the reviewer's own, which are wider."""
    plain, found = normalise(text), list[str]()
    for rule in (*lexicon("appropriateness"), *lexicon("reviewer")):
        may_be_excused = rule.level == UNLESS_DENIED or rule.code in EXCUSABLE
        if any(not (may_be_excused and _excused(plain, match.start(), rule.code)) for match in rule.pattern.finditer(plain)):
            found.append(rule.code)
    return [*found, *([BROKEN_ROLE] if breaks_role([("therapist", text)]) else [])]


def _excused(plain: str, place: int, code: str) -> bool:
    """Whether what stands at `place` is denied in its sentence, or is what others say."""
    before = re.split(r"[.!?;:] ", plain[:place])[-1]
    limited = code == "promises_secrecy" and _EXCEPTS.search(plain)
    return bool(limited or _DENIES.search(before) or _REPORTS.search(before))


def _review(judges: Judges, talk: Sequence[Turn], flags: Sequence[str], category: Category) -> Review:
    states = risk_states(judges, [turn.text for turn in talk if turn.role == "client"])
    level, kind = (states[-1].level, states[-1].kind) if states else ("none", "none")
    danger = [f"client_{code}" for code in states[-1].reasons] if level == "imminent" else []
    always = [f"category_{category.id}"] if category.clinical_review == "always" else []
    reasons = tuple(dict.fromkeys([*always, *danger, *flags]))
    return Review(level, kind, tuple(dict.fromkeys(flags)), bool(reasons), reasons)
