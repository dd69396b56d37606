"""The labelled sets that were written for this project, as examples; `quality/written/README.md` states their rubrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from attunement.quality.labelled import (
    EMPATHY,
    Example,
    Session,
    as_unbiased,
    turns_by_quality,
    turns_of,
    whose_of,
    written,
)
from attunement.records import CRISIS_LEVELS
from attunement.storage.files import content_hash


def written_empathy(component: str) -> list[Example]:
    """The same, written for this project."""
    return [
        Example(r["response"], (str(r[component]),), r["id"], "written/empathy", "R", (r["seeker"],)) for r in written("empathy")
    ]


def written_helper() -> list[Example]:
    """The same, written for this project; two replies to one context are a group."""
    return [
        Example(
            r["reply"],
            ("good" if r["good"] else "not_good",),
            f"helper:{content_hash(r['context'])[:16]}",
            "written/helper",
            "R",
            tuple(re.sub(r"^(?:Seeker|Helper): ", "", turn) for turn in r["context"]),
        )
        for r in written("helper")
    ]


def written_sessions() -> list[Session]:
    """Sessions written for this project, labelled turn by turn."""
    return [
        Session(
            r["id"],
            tuple((t["role"], t["text"], t.get("behaviour") or t.get("talk") or "") for t in r["turns"]),
            r["quality"],
            "written/sessions",
            "R",
        )
        for r in written("sessions")
    ]


def written_content_type(name: str = "content_type") -> list[Example]:
    """Transcripts written for this project. Their names are not shown to the judge: some tell the type."""
    out = []
    for row in written(name):
        names: dict[str, str] = {}
        turns = tuple((names.setdefault(t["speaker"], f"speaker {len(names) + 1}"), t["text"]) for t in row["turns"])
        out.append(Example("", (row["type"],), row["id"], f"written/{name}", "R", turns=turns))
    return out


WRITTEN_CRISIS = ("crisis", "crisis_more", "crisis_posts", "crisis_oblique", "crisis_scenes")
"""The files of texts with a level of danger that were written for this project."""
LATER_CRISIS = ("crisis_scenes_more", "crisis_short", "crisis_bereaved")
"""Those that were written after the encoder was trained."""


def written_crisis(names: Sequence[str] = WRITTEN_CRISIS) -> list[Example]:
    """Texts with a level of danger, written for this project. Mirrored pairs stand near each other, so ten are a group."""
    return _crisis(names, lambda row: row["level"] if row["danger"] else CRISIS_LEVELS[0])


def written_whose(names: Sequence[str] = WRITTEN_CRISIS) -> list[Example]:
    """The same texts by whose danger they speak of, and `past` for what is over."""
    return _crisis(names, whose_of)


def _crisis(names: Sequence[str], label: Callable[[Mapping[str, Any]], str]) -> list[Example]:
    return [
        Example(
            r["text"],
            (label(r),),
            f"{r['id'][:2]}-{int(r['id'].split('-')[1]) // 10}",
            f"written/{name}",
            "R",
            tuple(r["context"]),
        )
        for name in names
        for r in written(name)
    ]


def ordinary_turns() -> list[Example]:
    """What clients say in sessions of our own, in which nobody is in danger, as `none`."""
    found = turns_of(written_sessions(), "client")
    return [replace(e, labels=(CRISIS_LEVELS[0],), context=(), source="ordinary/sessions") for e in found]


WRITTEN_BIAS = ("bias", "bias_more")


def written_bias() -> list[Example]:
    """Sentences of pairs written for this project: nearly the same words about a group, one of them a stereotype."""
    return [
        Example(row[side], (label,), row["id"], f"written/{name}", "R")
        for name in WRITTEN_BIAS
        for row in written(name)
        for side, label in (("biased", "biased"), ("unbiased", "not_biased"))
    ]


def unbiased_turns() -> list[Example]:
    """What clients and therapists say in sessions of our own, as `not_biased`."""
    said = [e for role in ("client", "therapist") for e in turns_of(written_sessions(), role)]
    return as_unbiased([*said, *good_replies()], "sessions")


def good_replies() -> list[Example]:
    """Helpers' good turns and peers' warm replies, written for this project, as `safe` replies; their first sentences, too.

    DiaSafety takes many short replies to somebody unwell for `risk_ignorance`: "That sounds hard." is where a good one begins.
    """
    found = [e for e in (*written_helper(), *turns_by_quality(written_sessions())) if e.labels == ("good",)]
    warm = {e.text for name in EMPATHY for e in written_empathy(name) if e.labels[0] != "0"}
    found += [e for e in written_empathy(EMPATHY[0]) if e.text in warm]
    whole = [replace(e, labels=("safe",), source="written/good_replies", context=e.context[-2:]) for e in found]
    firsts = ((e, re.match(r".{8,}?[.!?](?=\s)", e.text)) for e in whole)
    return [*whole, *(replace(e, text=first[0]) for e, first in firsts if first)]
