"""The quality report: what came in, what stayed and why the rest did not; as JSON and as a page with plots.

Nothing in it depends on the clock or the machine, so the same input gives the same bytes.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from attunement.config import DataSettings
from attunement.curation.mixture import mixture
from attunement.curation.questions import Candidate
from attunement.curation.scoring import Judged
from attunement.curation.variety import Variety
from attunement.quality.looking import BANK_SIZE
from attunement.readers.files import SourceFile
from attunement.records import SHARES, QualityMetrics
from attunement.storage.files import write_json, write_text

BINS = 20
MOST_FAILURES = 200
"""Failures that the report lists; `rejected.jsonl` has them all."""


@dataclass
class Tally:
    """Counts of a build, filled row by row."""

    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    pair_reasons: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    content_types: Counter[str] = field(default_factory=Counter)
    shares: Counter[str] = field(default_factory=Counter)
    train_shares: Counter[str] = field(default_factory=Counter)
    available: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    answer_words: Counter[str] = field(default_factory=Counter)
    histogram: Counter[int] = field(default_factory=Counter)
    rejected_histogram: Counter[int] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    held: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)
    unreviewed: int = 0
    variety: Variety = field(default_factory=Variety)
    score_total: float = 0.0
    personal: Counter[str] = field(default_factory=Counter)
    personal_conversations: int = 0

    def _source(self, file: SourceFile) -> dict[str, Any]:
        return self.sources.setdefault(
            file.source,
            {
                "licence": file.licence,
                "licence_class": file.licence_class,
                "share": file.share,
                "files": [],
                "conversations_in": 0,
                "conversations_kept": 0,
                "conversations_rejected": 0,
                "failed": 0,
                "pairs_in": 0,
                "pairs_kept": 0,
                "score_total": 0.0,
            },
        )

    def row(self, file: SourceFile, kind: str) -> None:
        source = self._source(file)
        if file.name not in source["files"]:
            source["files"].append(file.name)
        source["conversations_in"] += 1
        source["failed"] += kind == "failure"

    def fail(self, file: SourceFile, failure: Mapping[str, Any]) -> None:
        if len(self.failures) < MOST_FAILURES:
            self.failures.append({"file": file.name, "locator": failure["locator"], "error": failure["error"]})

    def conversation(self, file: SourceFile, reason: str | None) -> None:
        self._source(file)["conversations_kept" if reason is None else "conversations_rejected"] += 1
        if reason is not None:
            self.reasons[reason] += 1

    def pair(
        self, file: SourceFile, reason: str | None, judged: Judged | None, pair: Candidate, source_type: str, split: str | None
    ) -> None:
        source = self._source(file)
        source["pairs_in"] += 1
        score = None if judged is None else judged["coherence"]
        if reason is not None:
            self.pair_reasons[reason] += 1
            if judged is not None and reason == "incoherent":
                self.misfits[judged["fit"] if judged["fit"] != "fit" else "unsure"] += 1
            if score is not None:
                self.rejected_histogram[min(BINS - 1, int(score * BINS))] += 1
            return
        source["pairs_kept"] += 1
        self.questions[pair.question_type] += 1
        self.content_types[source_type] += 1
        self.shares[file.share] += 1
        self.train_shares[file.share] += split == "train"
        if judged is not None and score is not None:
            source["score_total"] += score
            self.score_total += score
            self.histogram[min(BINS - 1, int(score * BINS))] += 1
            self.variety.add(file.source, pair, judged)

    def personal_data(self, found: Mapping[str, int]) -> None:
        """Of a conversation that was kept."""
        self.personal.update(found)
        self.personal_conversations += 1

    def share_tokens(self, share: str, answer: str) -> None:
        self.answer_words[share] += len(answer.split())

    def total(self, name: str) -> int:
        return sum(source[name] for source in self.sources.values())

    def metrics(self) -> QualityMetrics:
        kept = self.total("pairs_kept")
        return QualityMetrics(
            mean_semantic_score=round(self.score_total / kept, 4) if kept else 0.0,
            extracted_share=round(self.questions["extracted"] / kept, 4) if kept else 0.0,
            contextual_share=round(self.questions["contextual"] / kept, 4) if kept else 0.0,
            kept_pairs=kept,
            rejected_pairs=self.total("pairs_in") - kept,
        )

    def success_rate(self) -> float:
        """Share of what came in that could be processed, whatever the judgement (contract: at least 0.99)."""
        came_in = self.total("conversations_in")
        return round(1 - self.total("failed") / came_in, 6) if came_in else 0.0


def quality_report(
    tally: Tally,
    settings: DataSettings,
    skipped: list[dict[str, str]],
    min_coherence: float,
    generated: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The report as plain data. `generated` is what a full build made, by share."""
    kept = tally.total("pairs_kept")
    metrics = tally.metrics()
    sources = {}
    for name, source in sorted(tally.sources.items()):
        figures = {k: v for k, v in source.items() if k != "score_total"}
        sources[name] = {
            **figures,
            "mean_semantic_score": round(source["score_total"] / source["pairs_kept"], 4) if source["pairs_kept"] else None,
        }
    return {
        "conversations": {
            "in": tally.total("conversations_in"),
            "kept": tally.total("conversations_kept"),
            "rejected": tally.total("conversations_rejected"),
            "failed": tally.total("failed"),
            "rejected_by_reason": dict(tally.reasons),
        },
        "pairs": {
            "in": tally.total("pairs_in"),
            "kept": kept,
            "rejected": metrics.rejected_pairs,
            "rejected_by_reason": dict(tally.pair_reasons),
            "incoherent_by_reason": dict(tally.misfits),
        },
        "review": {"mode": settings.review, "reasons": dict(tally.held), "released_unreviewed": tally.unreviewed},
        "personal_data": {
            "mode": settings.phi,
            "conversations": tally.personal_conversations,
            "found": dict(sorted(tally.personal.items())),
        },
        "processing_success_rate": tally.success_rate(),
        "splits": dict(tally.splits),
        "questions": {
            "extracted": tally.questions["extracted"],
            "contextual": tally.questions["contextual"],
            "extracted_share": metrics.extracted_share,
            "contextual_share": metrics.contextual_share,
        },
        "content_types": dict(tally.content_types),
        "balance": mixture(
            settings, tally.available, {"kept": tally.shares, "train": tally.train_shares}, tally.waiting, generated or {}
        ),
        "source_distribution": {
            share: {
                "examples": tally.shares[share],
                "share": round(tally.shares[share] / kept, 4) if kept else 0.0,
                "answer_words": tally.answer_words[share],
                "target": settings.target_balance.get(share, 0.0),
            }
            for share in SHARES
        },
        "semantic_score": {
            "mean": metrics.mean_semantic_score,
            "threshold": min_coherence,
            "histogram": {
                "bin_width": 1 / BINS,
                "kept": [tally.histogram[i] for i in range(BINS)],
                "rejected": [tally.rejected_histogram[i] for i in range(BINS)],
            },
        },
        "sources": sources,
        "distributions": tally.variety.spread_by_source(),
        "consistency": tally.variety.consistency(),
        "diversity": tally.variety.diversity(BANK_SIZE),
        "patterns": tally.variety.patterns(),
        "failures": tally.failures,
        "skipped_files": skipped,
    }


def write_report(report: Mapping[str, Any], out: Path) -> None:
    """`quality_report.json` and `quality_report.html`."""
    import jinja2

    write_json(out / "quality_report.json", report)
    text = resources.files("attunement.curation").joinpath("quality_report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    write_text(out / "quality_report.html", environment.from_string(text).render(report=report, plots=_plots(report)))


def _plots(report: Mapping[str, Any]) -> dict[str, str]:
    """PNG pictures as data addresses, by name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    out = {}
    drawings = {"scores": _draw_scores, "shares": _draw_shares, "sources": _draw_sources}
    for name, draw in drawings.items():
        rows = min(max(1, len(report["sources"])), DRAWN_SOURCES + 1) if name == "sources" else 0
        figure, axes = pyplot.subplots(figsize=(7.2, 3.0 if not rows else 1.0 + 0.34 * rows), layout="constrained")
        draw(axes, report)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        pyplot.close(figure)
        out[name] = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return out


DRAWN_SOURCES = 30
"""The biggest sources have a bar each; the others share one. The report's table and JSON have them all."""
KEPT, LEFT_OUT, TARGET = "#1b6f72", "#c98a3d", "#8a94a6"


def _draw_scores(axes: Any, report: Mapping[str, Any]) -> None:
    histogram = report["semantic_score"]["histogram"]
    edges = [i * histogram["bin_width"] for i in range(BINS)]
    axes.bar(edges, histogram["kept"], width=0.045, align="edge", color=KEPT, label="kept")
    axes.bar(edges, histogram["rejected"], width=0.045, align="edge", bottom=histogram["kept"], color=LEFT_OUT, label="left out")
    axes.axvline(report["semantic_score"]["threshold"], color="#333333", linestyle="--", linewidth=1)
    axes.annotate(" threshold", (report["semantic_score"]["threshold"], axes.get_ylim()[1] * 0.93), fontsize=8)
    axes.set_xlabel("coherence of question, context and answer")
    axes.set_ylabel("pairs")
    axes.legend(frameon=False)


def _draw_shares(axes: Any, report: Mapping[str, Any]) -> None:
    rows = report["source_distribution"]
    places = list(range(len(rows)))
    axes.bar([p - 0.2 for p in places], [100 * r["share"] for r in rows.values()], width=0.38, color=KEPT, label="this dataset")
    axes.bar([p + 0.2 for p in places], [100 * r["target"] for r in rows.values()], width=0.38, color=TARGET, label="target")
    axes.set_xticks(places, [name.replace("_", " ") for name in rows])
    axes.set_ylabel("% of examples")
    axes.legend(frameon=False)


def _draw_sources(axes: Any, report: Mapping[str, Any]) -> None:
    rows = sorted(report["sources"].items(), key=lambda item: item[1]["conversations_in"])
    if len(rows) > DRAWN_SOURCES:
        others, rows = rows[:-DRAWN_SOURCES], rows[-DRAWN_SOURCES:]
        counts = {key: sum(row[key] for _, row in others) for key in ("conversations_kept", "conversations_rejected", "failed")}
        rows.insert(0, (f"{len(others):,} others", counts))
    places = list(range(len(rows)))
    left = [0] * len(rows)
    for key, colour, label in (
        ("conversations_kept", KEPT, "kept"),
        ("conversations_rejected", LEFT_OUT, "left out"),
        ("failed", "#b03a48", "failed"),
    ):
        values = [row[key] for _, row in rows]
        axes.barh(places, values, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_yticks(places, [name.replace("$", r"\$") for name, _ in rows])
    axes.set_xlabel("conversations")
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)  # above: bars may fill the plot
