"""The two public sets whose personal data is labelled, in our types, and the part of their templates to which a text belongs.

Training leaves a part out and measuring asks for that part: both read it here, or a figure would be of texts that were learnt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attunement.security.phi.words import hashed

FOLDS = 3
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
    """A text with its spans (start, end, our type), and the template it comes from; `masked` is the template's own text, if it has one."""

    text: str
    spans: Sequence[tuple[int, int, str]]
    template: str
    masked: str = ""

    @property
    def part(self) -> int:
        """Of the `FOLDS` parts of the templates, by hash."""
        return hashed(self.template) % FOLDS


def presidio(data: Path) -> list[Labelled]:
    """The synthetic set of presidio-research (MIT)."""
    rows = json.loads((data / "presidio-synth" / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    return [
        Labelled(
            r["full_text"],
            [(s["start_position"], s["end_position"], PRESIDIO[s["entity_type"]]) for s in r["spans"]],
            str(r["template_id"]),
            r["masked"],
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
