"""`attune generate edge-cases`: a folder that `attune data build` reads, made again to the same bytes, and gone on with.

conversations.jsonl   the conversations with provenance and what the safety reviewer found
examples.jsonl        the contract's rows
report.json           figures of variety and safety
source.toml           what the folder is, for `attune data build`: share, licence, what marks a conversation for review
run.json              what made it; another provider, seed or file of categories needs another folder
.answers/             a provider's answers, each paid once
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.records import Conversation, EdgeCasePrompt, to_dict
from attunement.sources.edge_cases.generator import NAME, SOURCE, EdgeCaseGenerator, licence_of
from attunement.sources.edge_cases.outcome import Outcome
from attunement.sources.edge_cases.report import report_of
from attunement.sources.edge_cases.scenarios import FACTORS
from attunement.storage.files import exclusive, file_hash, read_json, write_json, write_jsonl, write_text

KEPT = (
    "scenario_id",
    "profile",
    "beats",
    "category",
    "difficulty_level",
    "expected_challenges",
    "generated_by",
    "model",
    "prompt_sha256",
    "course",
    "crisis_level",
    "flags",
)
"""What `attune data build` keeps of a conversation, beside the marks for review, which every reader keeps."""
_SOURCE_TOML = """# Written by `attune generate edge-cases`, for `attune data build`.
name = "{name}"
title = "Generated edge cases by {by}"
licence = {licence}
licence_class = "{licence_class}"
share = "edge_case"

[[files]]
match = "conversations.jsonl"
source_type = "edge_case"
metadata = {kept}

[[files]]
match = "*.json*"
skip = "the report, the settings or the contract's rows of conversations.jsonl"
"""


def generate_folder(
    generator: EdgeCaseGenerator, prompts: Sequence[EdgeCasePrompt], out: Path, *, most: int, categories: Path | None = None
) -> dict[str, Any]:
    """Writes the folder and returns its report. What stopped the run is raised after everything that is done is written.

    Raises `DataError` when `out` was made by something else, or another run writes to it.
    """
    with exclusive(out / ".lock", f"another run writes to {out}: wait for it, or choose another --out"):
        _same_run(generator, out, categories)
        outcome = generator.generate(prompts, most)
        limit = generator.settings.data.near_duplicate_threshold
        report = report_of(outcome, generator.judges.embedder, _levels(generator), limit) | _run_facts(generator, len(prompts))
        if outcome.conversations or outcome.stopped is None:
            _write(generator, outcome, report, out)
    if outcome.stopped is not None:
        raise outcome.stopped
    return report


def _same_run(generator: EdgeCaseGenerator, out: Path, categories: Path | None) -> None:
    made_by = {"generated_by": generator.name, "seed": generator.seed, "categories": file_hash(categories) if categories else ""}
    path = out / "run.json"
    if path.exists():
        before = read_json(path)
        for name, value in made_by.items():
            if before.get(name) != value:
                raise DataError(
                    f"{out} was made with another {name.replace('_', ' ')} ({before.get(name)!r}): choose another --out"
                )
    else:
        write_json(path, made_by)


def _run_facts(generator: EdgeCaseGenerator, wanted: int) -> dict[str, Any]:
    account = getattr(generator.provider, "account", None)
    cost = {} if account is None else {"account": to_dict(account) | {"total_usd": round(account.total_usd, 6)}}
    return {"generated_by": generator.name, "seed": generator.seed, "wanted": wanted, **cost}


def _levels(generator: EdgeCaseGenerator) -> dict[str, dict[str, int]]:
    """For each category how many levels each factor has: of the written people, or of the grid."""
    found = {}
    for name, category in generator.categories.items():
        if generator.provider is None:
            grammar = generator.grammar(name)
            levels = {f: len({getattr(p, f) for p in grammar.profiles}) for f in FACTORS if f != "course"}
            found[name] = {**levels, "course": 3, "profile": len(grammar.profiles), "beats": len(grammar.beats)}
        else:
            grid = generator.grid
            found[name] = {
                "age_band": len(category.age_bands or grid.ages), "gender": len(grid.genders), "culture": len(grid.cultures),
                "setting": len(category.settings or grid.settings), "history": len(grid.histories),
                "attachment": len(grid.attachments), "speech": len(grid.speech), "course": len(grid.courses),
            }  # fmt: skip
    return found


def _write(generator: EdgeCaseGenerator, outcome: Outcome, report: dict[str, Any], out: Path) -> None:
    licence, licence_class = licence_of(generator.provider)
    write_jsonl(out / "conversations.jsonl", (_row(c) for c in outcome.conversations))
    write_jsonl(out / "examples.jsonl", (to_dict(e) for e in generator.create_training_format(outcome.conversations)))
    text = _SOURCE_TOML.format(
        name=NAME, by=generator.name.replace('"', "'").replace("\\", "/"), licence=json.dumps(licence), licence_class=licence_class,
        kept=json.dumps(list(KEPT)),
    )  # fmt: skip
    write_text(out / "source.toml", text)
    write_json(out / "report.json", report)


def _row(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.conversation_id,
        "source": SOURCE,
        "scenario_id": conversation.origin.locator,
        "licence": conversation.origin.licence,
        "turns": [
            {"role": turn.role, "text": turn.text, **({} if turn.learn else {"learn": False})} for turn in conversation.turns
        ],
        **conversation.metadata,
    }
