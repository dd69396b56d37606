"""The concepts that were written for Attunement: therapies, techniques, conditions with their evidence, frameworks.

No open source has them, so they stand in `written/knowledge/*.jsonl`, one `Concept` a line, in our own words and under
Apache-2.0. How they were written and what the levels of evidence mean is told in docs/knowledge-examples.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path

from attunement.errors import DataError
from attunement.records import from_dict
from attunement.sources import WRITTEN
from attunement.sources.knowledge.concepts import Concept
from attunement.storage.files import read_jsonl

FOLDER = WRITTEN / "knowledge"
EVIDENCE_LEVELS = {
    "recommended": "a guideline says to offer it (or recommends it strongly), or, without a guideline, several trials or reviews agree",
    "suggested": "a guideline says to consider it (or recommends it conditionally), or, without a guideline, trials are few or mixed",
    "emerging": "first trials or case series; no guideline carries it",
    "consensus": "experts agree; controlled evidence is thin or impossible",
    "against": "a guideline or the experts advise against it",
}
CHECKED = ("stored copy or summary of the guideline", "from memory of the literature")
"""How a row of evidence was checked: against a text at hand, or not yet."""


@cache
def written_concepts() -> tuple[Concept, ...]:
    """All concepts of our own, in the order of their files. Raises `DataError` when a line is no concept."""
    return tuple(concept for path in sorted(FOLDER.glob("*.jsonl")) for concept in concepts_in(path))


def concepts_in(path: Path) -> list[Concept]:
    """The concepts in a JSON lines file with the fields of `Concept`. Raises `DataError` with the first line that is none."""
    found: list[Concept] = []
    try:
        for row in read_jsonl(path):
            found.append(from_dict(Concept, row))
    except (TypeError, ValueError, AttributeError) as error:
        known = ", ".join(field.name for field in fields(Concept))
        raise DataError(f"{path}, concept {len(found) + 1}: {error}; a concept has the fields {known}") from error
    return found


def names_of(concepts: Iterable[Concept]) -> dict[str, str]:
    """Every label and synonym, in lower case, to the id of its concept; of equal names the first concept's."""
    names: dict[str, str] = {}
    for concept in concepts:
        for name in (concept.label, *concept.synonyms):
            names.setdefault(name.casefold(), concept.concept_id)
    return names


def contrast_of(text: str) -> tuple[str, str]:
    """A row of `contrasts` as (label of the other concept, the sentences that tell them apart)."""
    label, _, told = text.partition(": ")
    return label, told
