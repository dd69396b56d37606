"""PHI: recall by type and precision on labelled sets, false alarms on letters to counsellors, speed; Presidio's patterns beside.

A labelled span is found where at least half of its characters are covered (any type), and typed where at least half are covered by
spans of its Safe Harbor letter (`group`) or of its type. Precision is over our spans of types that the set labels at all: a span is
right where half of it lies in labelled spans (any type), and typed where they have its letter.
"""

from __future__ import annotations

import csv
import html
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attunement.security.phi.detector import PHIDetector
from attunement.security.phi.identifiers import TYPES, PHISpan
from attunement.security.phi.sets import PRESIDIO, Labelled, clinical, presidio

GROUP = {**TYPES, "TITLE": "TITLE", "NATIONALITY": "NATIONALITY", "ORGANIZATION": "ORGANIZATION", "AGE": "AGE"}
"""What counts as the same kind for typed figures: the Safe Harbor letter, but organisations and ages by themselves."""
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


THEIRS = {**PRESIDIO, "LOCATION": "LOCATION", "MEDICAL_LICENSE": "LICENSE", "US_PASSPORT": "LICENSE", "US_BANK_NUMBER": "ACCOUNT", "US_ITIN": "SSN",
          "URL": "URL", "US_MBI": "HEALTH_PLAN", "UK_NHS": "MRN", "MAC_ADDRESS": "DEVICE"}  # fmt: skip


def letters(data: Path) -> list[str]:
    """Questions and answers of CounselChat (MIT) without their HTML."""
    csv.field_size_limit(10**8)
    with open(data / "counselchat" / "counsel_chat.csv", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    texts = [row["answerText"] for row in rows] + list(
        {row["questionID"]: f"{row['questionTitle']} {row['questionText']}" for row in rows}.values()
    )
    return [re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text))).strip() for text in texts]


def measured(detector: PHIDetector, sets: dict[str, list[Labelled]], held: int | None) -> dict[str, Any]:
    """Figures on each set, or on the part of its templates that weights with `--held` have not seen."""
    out = {}
    for name, rows in sets.items():
        part = rows if held is None or name == "talks" else [r for r in rows if r.part == held]
        out[name] = figures(part, detector.detect_many([r.text for r in part]))
    return out


def alarms(detector: PHIDetector, texts: Sequence[str]) -> dict[str, Any]:
    """How many spans with a Safe Harbor letter there are in letters, and one in how many words. Most are names that are there."""
    found = [s for spans in detector.detect_many(texts) for s in spans if s.safe_harbor]
    words = sum(len(text.split()) for text in texts)
    return {
        "words": words,
        "spans": len(found),
        "words_per_span": round(words / max(1, len(found))),
        "by_type": dict(Counter(s.type for s in found)),
    }


def speed(detector: PHIDetector, texts: Sequence[str]) -> dict[str, Any]:
    """Words a second of one thread: of the processor's time, which other work on the machine does not lengthen, and of the clock."""
    detector.detect_many(texts[:5])
    words, clock, own = sum(len(text.split()) for text in texts), time.monotonic(), time.process_time()
    detector.detect_many(texts)
    return {
        "words": words,
        "words_per_cpu_second": round(words / (time.process_time() - own)),
        "words_per_second": round(words / (time.monotonic() - clock)),
    }


class Presidio:
    """Presidio's patterns alone: its recognisers over an engine that finds nothing. Nothing is fetched."""

    def __init__(self) -> None:
        import tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

        tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

        class Blank(NlpEngine):
            """No names, no lemmas: words between white space."""

            engine_name = "blank"

            def load(self) -> None: ...
            def is_loaded(self) -> bool:
                return True

            def process_text(self, text: str, language: str) -> NlpArtifacts:
                words = [(m.start(), m[0]) for m in re.finditer(r"\S+", text)]
                return NlpArtifacts(
                    [], [w for _, w in words], [i for i, _ in words], [w.lower() for _, w in words], self, language
                )  # type: ignore[arg-type]

            def process_batch(self, texts, language, **_):  # type: ignore[no-untyped-def]
                return ((text, self.process_text(text, language)) for text in texts)

            def is_stopword(self, word: str, language: str) -> bool:
                return False

            def is_punct(self, word: str, language: str) -> bool:
                return not any(c.isalnum() for c in word)

            def get_supported_entities(self) -> list[str]:
                return []

            def get_supported_languages(self) -> list[str]:
                return ["en"]

        self.engine = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])

    def detect_many(self, texts: Sequence[str]) -> list[list[PHISpan]]:
        """In our types; entities that we have no type for are left out."""
        return [
            [
                PHISpan(r.start, r.end, THEIRS[r.entity_type], r.score, "", "presidio")
                for r in self.engine.analyze(text, language="en")
                if r.entity_type in THEIRS
            ]
            for text in texts
        ]


def peers(sets: dict[str, list[Labelled]]) -> dict[str, Any]:
    """Presidio's patterns on the same texts; says so where it is not installed."""
    try:
        presidio_patterns = Presidio()
    except ImportError:
        print("phi: presidio-analyzer is not there (a virtual environment of its own, --peers)", file=sys.stderr)
        return {}
    out = {}
    for name, rows in sets.items():
        out[name] = figures(rows, presidio_patterns.detect_many([r.text for r in rows]))
    texts = [r.text for r in sets["presidio"]]
    start = time.process_time()
    presidio_patterns.detect_many(texts)
    out["words_per_cpu_second"] = round(sum(len(t.split()) for t in texts) / (time.process_time() - start))
    return out


def measure(shared: Path, held: dict[int, Path] | None = None) -> dict[str, Any]:
    """All figures. `held` gives weights that were trained without a part of the templates, by its number."""
    data = shared / "data"
    sets = {"presidio": presidio(data), "clinical": clinical(data), "talks": talks()}
    shipped, plain = PHIDetector(), PHIDetector(model=False)
    some = random.Random(7).sample(letters(data), 300)
    return {
        "shipped": measured(shipped, sets, None),
        "without_tagger": measured(plain, sets, None),
        "patterns_alone": measured(PHIDetector(model=False, lists=False), sets, None),
        "unseen_templates": {str(k): measured(PHIDetector(weights=path), sets, k) for k, path in (held or {}).items()},
        "presidio_patterns": peers(sets),
        "counselchat": {"shipped": alarms(shipped, some), "without_tagger": alarms(plain, some)},
        "speed": {"shipped": speed(shipped, some[:120]), "without_tagger": speed(plain, some[:120])},
    }
