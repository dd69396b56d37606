"""PHI: recall by type and precision on labelled sets, false alarms on letters to counsellors, speed; Presidio's patterns beside.

A labelled span is found where at least half of its characters are covered (any type), and typed where at least half are covered by
spans of its Safe Harbor letter (`group`) or of its type. Precision is over our spans of types that the set labels at all: a span is
right where half of it lies in labelled spans (any type), and typed where they have its letter.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attunement.security.phi.identifiers import TYPES, PHISpan
from attunement.security.phi.words import hashed

GROUP = {**TYPES, "TITLE": "TITLE", "NATIONALITY": "NATIONALITY", "ORGANIZATION": "ORGANIZATION", "AGE": "AGE"}
"""What counts as the same kind for typed figures: the Safe Harbor letter, but organisations and ages by themselves."""
PRESIDIO = {
    "PERSON": "NAME", "STREET_ADDRESS": "ADDRESS", "GPE": "LOCATION", "ORGANIZATION": "ORGANIZATION", "CREDIT_CARD": "ACCOUNT", "DATE_TIME": "DATE", "TITLE": "TITLE",
    "AGE": "AGE", "NRP": "NATIONALITY", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "DOMAIN_NAME": "URL", "ZIP_CODE": "ZIP", "US_SSN": "SSN",
    "IBAN_CODE": "ACCOUNT", "IP_ADDRESS": "IP", "US_DRIVER_LICENSE": "LICENSE",
}  # fmt: skip
CLINICAL = {
    "NAME": "NAME", "GEOGRAPHIC_LOCATION": "LOCATION", "DATE": "DATE", "MEDICAL_RECORD_NUMBER": "MRN", "HEALTH_PLAN_BENEFICIARY_NUMBER": "HEALTH_PLAN",
    "PHONE_NUMBER": "PHONE", "SOCIAL_SECURITY_NUMBER": "SSN", "EMAIL_ADDRESS": "EMAIL", "UNIQUE_IDENTIFIER": "ID", "ACCOUNT_NUMBER": "ACCOUNT", "FAX_NUMBER": "FAX",
    "CERTIFICATE_LICENSE_NUMBER": "LICENSE", "IP_ADDRESS": "IP",
}  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """A text with its spans (start, end, our type), and the template it comes from."""

    text: str
    spans: Sequence[tuple[int, int, str]]
    template: str


def presidio(data: Path) -> list[Labelled]:
    """The synthetic set of presidio-research (MIT)."""
    rows = json.loads((data / "presidio-synth" / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    return [
        Labelled(
            r["full_text"],
            [(s["start_position"], s["end_position"], PRESIDIO[s["entity_type"]]) for s in r["spans"]],
            str(r["template_id"]),
        )
        for r in rows
    ]


def clinical(data: Path) -> list[Labelled]:
    """Clinical queries (MIT), labelled by value; the group is their first five words, as the set has no templates."""
    out = []
    for part in (
        (data / "synthetic-clinical-queries" / "synthetic_dataset.txt").read_text(encoding="utf-8").split("===QUERY===")[1:]
    ):
        text, _, told = part.partition("===PHI_TAGS===")
        text = text.strip()
        spans: list[tuple[int, int, str]] = []
        for line in filter(str.strip, told.splitlines()):
            row = json.loads(line)
            at = text.find(row["value"])
            while at >= 0 and any(s < at + len(row["value"]) and at < e for s, e, _ in spans):
                at = text.find(row["value"], at + 1)
            if at >= 0:
                spans.append((at, at + len(row["value"]), CLINICAL[row["identifier_type"]]))
        out.append(Labelled(text, spans, str(hashed(" ".join(text.split()[:5]).lower()))))
    return out


TALKS = Path(__file__).resolve().parents[1] / "data" / "phi-talks.jsonl"


def talks() -> list[Labelled]:
    """Dialogues and notes of our own (`benchmarks/data/phi-talks.jsonl`), labelled by marks in the text: `<NAME|Anna>`."""
    out = []
    if not TALKS.is_file():
        return out
    for line in TALKS.read_text(encoding="utf-8").splitlines():
        marked, text, spans = json.loads(line)["text"], "", []
        for part in marked.split("<"):
            kind, bar, rest = part.partition("|")
            if bar and kind in TYPES:
                value, _, after = rest.partition(">")
                spans.append((len(text), len(text) + len(value), kind))
                text += value + after
            else:
                text += part
        out.append(Labelled(text, spans, str(len(out))))
    return out


def covered(place: tuple[int, int], spans: Sequence[PHISpan] | Sequence[tuple[int, int]]) -> float:
    """Share of the characters of `place` that lie in one of `spans`."""
    pairs = [(s.start, s.end) if isinstance(s, PHISpan) else s for s in spans]
    marks = {i for s, e in pairs for i in range(max(s, place[0]), min(e, place[1]))}
    return len(marks) / max(1, place[1] - place[0])


def figures(rows: Sequence[Labelled], found: Sequence[Sequence[PHISpan]]) -> dict[str, Any]:
    """Recall of any type and typed, precision, F2, and recall by type."""
    labelled_kinds = {GROUP[k] for row in rows for _, _, k in row.spans}
    total: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    typed = right = right_typed = said = 0
    missed: dict[str, int] = defaultdict(int)
    for row, spans in zip(rows, found, strict=True):
        for start, end, kind in row.spans:
            total[kind] += 1
            hit[kind] += covered((start, end), spans) >= 0.5
            typed += covered((start, end), [s for s in spans if GROUP[s.type] == GROUP[kind]]) >= 0.5
        for span in spans:
            if GROUP[span.type] not in labelled_kinds:
                continue
            said += 1
            place = (span.start, span.end)
            right += covered(place, [(s, e) for s, e, _ in row.spans]) >= 0.5
            right_typed += covered(place, [(s, e) for s, e, k in row.spans if GROUP[k] == GROUP[span.type]]) >= 0.5
    every = sum(total.values())
    recall, precision = typed / max(1, every), right_typed / max(1, said)
    return {
        "texts": len(rows),
        "spans": every,
        "recall_any": round(sum(hit.values()) / max(1, every), 4),
        "precision_any": round(right / max(1, said), 4),
        "recall_typed": round(recall, 4),
        "precision_typed": round(precision, 4),
        "f2_typed": round(5 * precision * recall / max(1e-9, 4 * precision + recall), 4),
        "recall_by_type": {k: f"{hit[k]}/{n}" for k, n in total.most_common()},
    }
