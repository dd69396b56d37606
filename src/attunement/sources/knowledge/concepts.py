"""One concept of psychology, as every importer gives it and the knowledge base keeps it.

A file of our own concepts is JSONL with these field names, one concept a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

CATEGORIES = (
    "therapeutic_technique", "therapy_modality", "clinical_diagnosis", "symptom", "emotion", "cognition", "behaviour",
    "development", "social", "assessment", "biology", "behaviour_change", "research", "clinical_framework",
)  # fmt: skip


@dataclass(frozen=True)
class Concept:
    """`concept_id`: `<source>:<local id>`, stable. `label`: the preferred name. `content`: the definition in full sentences.

    `category`: one of `CATEGORIES`. `licence`: SPDX-like (`CC-BY-4.0`, `CC0-1.0`, `CC-BY-SA-3.0`, `WordNet-3.0`, `Apache-2.0`
    for ours; `unknown`). `related_concepts`: concept ids (hierarchy, mentions, neighbours); `parents` among them by hierarchy.
    `therapeutic_approaches`: labels (`EMDR`, `CPT`). `steps`: of a technique, in order. `evidence`: of a condition, rows of
    approach, level, guideline. `links`: concept ids that the source itself names as related; they come first among
    `related_concepts`.
    """

    concept_id: str
    label: str
    category: str
    content: str
    source: str
    licence: str
    synonyms: Sequence[str] = ()
    parents: Sequence[str] = ()
    related_concepts: Sequence[str] = ()
    therapeutic_approaches: Sequence[str] = ()
    clinical_context: str = ""
    steps: Sequence[str] = ()
    contrasts: Sequence[str] = ()
    evidence: Sequence[dict[str, str]] = ()
    links: Sequence[str] = ()


def to_row(concept: Concept) -> dict[str, Any]:
    """`concept` as plain data, as it stands in a JSONL file."""
    return asdict(concept)


def from_row(row: Mapping[str, Any]) -> Concept:
    """The concept of a row that `to_row` gave; unknown fields are left aside, so that a newer file can be read."""
    known = {f.name for f in fields(Concept)}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items() if key in known
    }
    return Concept(**values)
