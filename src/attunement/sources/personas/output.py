"""What `attune generate personas` leaves: a folder that `attune data build` reads as a source, and a report.

conversations.jsonl  the dialogues, with persona, bridge and need of each turn
rejected.jsonl       those that are not consistent, with their reasons
report.json          counts, variety, consistency of each dialogue
source.toml          licence and share for `attune data build`
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attunement.quality.panel import Judges
from attunement.sources.personas.consistency import ConsistencyReport
from attunement.sources.personas.dialogues import DialogueSet
from attunement.sources.personas.grammar import PROVIDER
from attunement.sources.personas.trainer import Made
from attunement.sources.talk_variety import nearest, spread_of, talk_vectors, variety_of
from attunement.storage.files import write_json, write_jsonl, write_text


def write(made: Made, judges: Judges, folder: Path, *, provider: str, seed: int, near_duplicate: float) -> dict[str, Any]:
    """Writes the files, each whole or not at all; returns the report."""
    report = {
        "provider": provider,
        "seed": seed,
        "kept": len(made.kept),
        "rejected": len(made.rejected),
        "rejected_by_reason": dict(
            Counter(code for d in made.rejected for code in made.reports[d.dialogue_id].reasons).most_common()
        ),
        "failed_by_reason": dict(made.failures),
        "near_duplicates": made.near_duplicates,
        "clinical_review_required": sum(needs_review(made.reports[d.dialogue_id]) for d in made.kept),
        "variety": variety(made.kept, judges, near_duplicate),
        "dialogues": {d.dialogue_id: told(made.reports[d.dialogue_id]) for d in (*made.kept, *made.rejected)},
    }
    write_jsonl(folder / "conversations.jsonl", (record(d, made.reports[d.dialogue_id]) for d in made.kept))
    (folder / "rejected.jsonl").unlink(missing_ok=True)  # an empty one would count as a file that cannot be read
    if made.rejected:
        rows = ({**record(d, made.reports[d.dialogue_id]), "reasons": made.reports[d.dialogue_id].reasons} for d in made.rejected)
        write_jsonl(folder / "rejected.jsonl", rows)
    write_json(folder / "report.json", report)
    write_text(folder / "source.toml", recipe(provider))
    return report


def needs_review(report: ConsistencyReport) -> bool:
    """Danger that somebody names or that the judge finds: a clinician sees it before it is trained on."""
    return "safety" in report.details.get("needs", {}).values() or bool(report.details.get("possible_danger"))


def record(dialogue: DialogueSet, report: ConsistencyReport) -> dict[str, Any]:
    """A dialogue as a line of JSON; `messages` holds what was said."""
    return {
        "id": dialogue.dialogue_id,
        "scenario": dialogue.scenario,
        "client": dialogue.client,
        "provider": dialogue.provider,
        "personas": "+".join(dict.fromkeys(segment.persona for segment in dialogue.segments())),
        "course": "+".join(dialogue.metadata.get("course", ())),
        "clinical_review_required": needs_review(report),
        "messages": [
            {
                "role": turn.role,
                "content": turn.text,
                **{k: v for k, v in asdict(turn).items() if v and k not in ("role", "text")},
            }
            for turn in dialogue.turns
        ],
    }


def told(report: ConsistencyReport) -> dict[str, Any]:
    """A consistency report as plain data."""
    return {
        "consistent": report.consistent,
        "findings": [asdict(finding) for finding in report.findings],
        "segments": [asdict(segment) for segment in report.segments],
        "possible_danger": report.details.get("possible_danger", []),
    }


def variety(dialogues: Sequence[DialogueSet], judges: Judges, near_duplicate: float) -> dict[str, Any]:
    """Words, dispersion, how near each dialogue's nearest of its scenario is, and what of the scenarios is covered."""
    talks = [[turn.text for turn in d.turns] for d in dialogues]
    by_scenario: dict[str, list[list[str]]] = {}
    for dialogue, talk in zip(dialogues, talks, strict=True):
        by_scenario.setdefault(dialogue.scenario, []).append(talk)
    near = [alike for same in by_scenario.values() for alike in nearest(same)]
    return {
        **variety_of(talks, talk_vectors(talks, judges.embedder)),
        "nearest_in_scenario": spread_of(near, near_duplicate),
        "scenarios": {name: len(same) for name, same in sorted(by_scenario.items())},
        "switches": dict(Counter(f"{a.persona}>{b.persona}" for d in dialogues for a, b in _switches(d)).most_common()),
    }


def _switches(dialogue: DialogueSet) -> list[tuple[Any, Any]]:
    segments = dialogue.segments()
    return list(itertools.pairwise(segments))


def recipe(provider: str) -> str:
    """The `source.toml` of the folder. What a model wrote has its maker's terms, which only the user knows: no licence is stated."""
    own = provider == PROVIDER
    licence, licence_class = ("Apache-2.0", "R") if own else (f"written by {provider}: see its terms", "unknown")
    return f'''name = "personas-{"offline" if own else "model"}"
title = "Dialogues of a therapist in several personas ({provider})"
licence = "{licence}"
licence_class = "{licence_class}"
share = "dual_persona"

[[files]]
match = "conversations.jsonl"
shape = "dialog"
turns = "messages"
speaker = "role"
text = "content"
group = "personas/{{scenario}}"
metadata = ["id", "scenario", "client", "provider", "personas", "course", "clinical_review_required"]

[[files]]
match = "rejected.jsonl"
skip = "dialogues that were found inconsistent"

[[files]]
match = "report.json"
skip = "figures, no conversations"
'''
