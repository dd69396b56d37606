"""The knowledge share on disk: grounded questions and answers as a folder that `attune data build` reads.

One folder a licence, each with a `source.toml` that names licence and share, so that what may not ship can be left out.
Questions about one concept stay together when a training set is split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attunement.records import Conversation, Origin, Turn
from attunement.sources.knowledge import licences
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.examples import KnowledgeQuestion, untraced
from attunement.storage.files import canonical, content_hash, write_jsonl, write_text

SYSTEM = "You are an experienced supervisor. A trainee therapist asks about psychology; answer briefly and exactly."
"""Keeps the voice of these answers apart from how the model speaks to a client."""
FILE = "knowledge.jsonl"
_STRICTER = ("R", "SA", "NC", "N")


def licence_class(licence: str) -> str:
    """The strictest class of the licences that `licence` joins: what is not known allows nothing (`licences.licence_class`)."""
    return max((licences.licence_class(part) for part in licence.split(" AND ")), key=_STRICTER.index)


def row_of(question: KnowledgeQuestion, concepts: Mapping[str, Concept], score: float) -> dict[str, Any]:
    """A question as a record of the folder: chat messages, and what it cites."""
    return {
        "id": question.example_id,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": question.question},
            {"role": "assistant", "content": question.answer},
        ],
        "subject": question.concept_ids[0],
        "concept_ids": " ".join(question.concept_ids),
        "form": question.form,
        "coherence": score,
        "checked": question.checked,
        "licence": licence_of(question, concepts),
    }


def licence_of(question: KnowledgeQuestion, concepts: Mapping[str, Concept]) -> str:
    """The licences of all concepts whose words are in the answer; ours gives way to a stricter one."""
    found = sorted({concepts[i].licence for i in question.concept_ids} - {"Apache-2.0"})
    return " AND ".join(found) or "Apache-2.0"


def conversation_of(question: KnowledgeQuestion, concepts: Mapping[str, Concept], score: float) -> Conversation:
    """The same as a `Conversation` of the share `knowledge`, for who builds without a folder."""
    row = row_of(question, concepts, score)
    digest = content_hash(row)
    licence = row["licence"]
    origin = Origin("attunement-knowledge", FILE, "", question.example_id, digest, licence, licence_class(licence))
    turns = (Turn("system", SYSTEM), Turn("client", question.question), Turn("therapist", question.answer))
    metadata = {key: row[key] for key in ("form", "coherence", "checked")} | {"concept_ids": list(question.concept_ids)}
    return Conversation(question.example_id, turns, origin, share="knowledge", metadata=metadata)


def write_share(
    folder: Path,
    questions: Sequence[KnowledgeQuestion],
    concepts: Mapping[str, Concept],
    *,
    scores: Sequence[float],
    unchecked_evidence: bool = False,
) -> dict[str, int]:
    """Writes the folder; returns how many were written and how many left out, by reason.

    Left out are answers with a sentence that stands in no cited concept (`ungrounded`), and, without `unchecked_evidence`,
    answers on evidence of which a row is from memory (`unchecked_evidence`).
    """
    by_licence: dict[str, list[dict[str, Any]]] = {}
    counts = {"written": 0, "ungrounded": 0, "unchecked_evidence": 0}
    for question, score in zip(questions, scores, strict=True):
        if untraced(question, concepts):
            counts["ungrounded"] += 1
        elif not question.checked and not unchecked_evidence:
            counts["unchecked_evidence"] += 1
        else:
            row = row_of(question, concepts, score)
            by_licence.setdefault(row["licence"], []).append(row)
            counts["written"] += 1
    for licence, rows in by_licence.items():
        place = folder / licence.replace(" AND ", "-and-")
        write_text(place / "source.toml", _recipe(licence))
        write_jsonl(place / FILE, rows)
    return counts


def cited(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The concepts that the rows of a folder cite."""
    return {concept_id for row in rows for concept_id in str(row["concept_ids"]).split()}


def _recipe(licence: str) -> str:
    lines = {
        "name": "attunement-knowledge-" + licence.replace(" AND ", "-and-").casefold(),
        "title": "Questions about concepts of psychology, answered from their definitions",
        "licence": licence,
        "licence_class": licence_class(licence),
        "share": "knowledge",
    }
    told = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
    columns = canonical(["subject", "concept_ids", "form", "coherence", "checked"])
    return f'{told}\n[[files]]\nmatch = "{FILE}"\ninstruction = true\ngroup = "knowledge/{{subject}}"\nmetadata = {columns}\n'
