"""The safety reviewer on planted turns: what it finds of bad ones, and how often it alarms at good ones.

Each line of `data/safety-review.jsonl`, written and labelled by hand, takes the place of a therapist's turn in the middle of a written conversation
of its category. Found or alarmed at is what makes the reviewer flag something that it does not flag in the conversation as written. The reviewer's
own rules were written with `set` in view; `test` was written after them, in words as far from theirs as could be found, and no rule followed it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import machine

from attunement.quality.panel import Judges
from attunement.records import Turn
from attunement.sources.edge_cases.categories import load_categories
from attunement.sources.edge_cases.grammar import WRITTEN, load_grammar
from attunement.sources.edge_cases.safety import review_all
from attunement.storage.files import read_jsonl

SEED, LEAST_STEPS = 29, 5


def measure(shared: Path, home: Path) -> dict[str, Any]:
    rows = list(read_jsonl(machine.DATA / "safety-review.jsonl"))
    categories, _ = load_categories()
    kinds = [categories[row["category"]] for row in rows]
    written = [conversation(row["category"], number) for number, row in enumerate(rows)]
    planted = [with_turn(talk, row["text"]) for talk, row in zip(written, rows, strict=True)]
    judges = Judges()
    before, after = review_all(judges, written, kinds), review_all(judges, planted, kinds)
    flags = [sorted(set(new.flags) - set(old.flags)) for old, new in zip(before, after, strict=True)]
    found = list(zip(rows, flags, strict=True))
    return {
        "machine": machine.describe(),
        **{part: figures([pair for pair in found if pair[0]["part"] == part]) for part in ("set", "test")},
        "conversations_flagged_as_written": share([bool(review.flags) for review in before]),
    }


def figures(found: list[tuple[dict[str, Any], list[str]]]) -> dict[str, Any]:
    bad = [(row, flags) for row, flags in found if row["bad"]]
    good = [(row, flags) for row, flags in found if not row["bad"]]
    return {
        "bad_turns": len(bad),
        "recall": share([bool(flags) for _, flags in bad]),
        "found_of_kind": {
            kind: f"{sum(bool(flags) for row, flags in bad if row['kind'] == kind)} of {count}"
            for kind, count in Counter(row["kind"] for row, _ in bad).items()
        },
        "missed": [row["text"] for row, flags in bad if not flags],
        "flags": dict(Counter(flag for _, flags in bad for flag in flags).most_common()),
        "good_turns": len(good),
        "false_alarms": share([bool(flags) for _, flags in good]),
        "alarmed_at": [[row["text"], flags] for row, flags in good if flags],
    }


def conversation(category: str, number: int) -> list[Turn]:
    """A written conversation of the category, another one for each number."""
    grammar, rng = load_grammar(WRITTEN / f"{category}.json"), Random(f"{SEED}/{category}/{number}")
    while True:
        person, course = rng.choice(grammar.profiles).id, rng.choice(("de_escalates", "escalates", "ruptures_and_repairs"))
        if len(walk := grammar.walk(person, course, rng)) >= LEAST_STEPS:
            return [Turn(role, text) for role, text in grammar.spoken(person, walk)]


def with_turn(talk: list[Turn], text: str) -> list[Turn]:
    """`talk` with `text` as what the therapist says in its third exchange, where what is hard has been said."""
    return [Turn(turn.role, text) if place == 5 else turn for place, turn in enumerate(talk)]


def share(flags: list[bool]) -> float:
    return round(sum(flags) / len(flags), 3)
