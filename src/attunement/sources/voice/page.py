"""`report.html`: what was heard, by whom, how well, and what became of it; one page without scripts, nothing from elsewhere.

Beside each recording a strip of time: who speaks when, and what was left out. Charts are inline SVG with the same figures in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from attunement.records import REVIEW_MARK, PersonalityProfile, SpokenSegment
from attunement.sources.voice.making import Made

COLOURS = ("#1f6f8b", "#b8572a", "#5b6abf", "#4c7a34", "#8a4f8f", "#7a6a2b")
"""Of speakers, in the order in which they are first heard; 3:1 and more on white."""
MOST_REJECTED = 5
"""Examples a recording that the page shows; the files have them all."""


def page(made: Sequence[Made], recordings: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> str:
    """The page as HTML."""
    import jinja2

    text = resources.files("attunement.sources.voice").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["clock"] = clock
    failed = [row for row in recordings if row["outcome"] == "failed"]
    return environment.from_string(text).render(
        report=report, failed=failed, talks=[_talk(one) for one in made], mark=REVIEW_MARK
    )


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _talk(made: Made) -> dict[str, Any]:
    transcript = made.transcript
    total = max(transcript.duration_seconds, transcript.segments[-1].end_seconds, 1e-9)
    colour = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(made.profiles)}
    rejected = [c for c in made.checked if not c.kept]
    return {
        "title": transcript.title,
        "where": transcript.metadata["url"] or transcript.metadata["file"],
        "licence": transcript.licence,
        "seconds": transcript.duration_seconds,
        "engine": transcript.engine,
        "content_type": made.content_type,
        "fault": transcript.metadata["fault"],
        "strip": [
            *(_bar(s.start_seconds, s.end_seconds, total, colour[s.speaker]) for s in transcript.segments),
            *(_bar(r["start_seconds"], r["end_seconds"], total, "#d3d7de") for r in transcript.metadata["rejected"]),
        ],
        "speakers": [_speaker(made, name, profile, colour[name]) for name, profile in made.profiles.items()],
        "left_out": _seconds(transcript.metadata["rejected"]),
        "kept": [c for c in made.checked if c.kept],
        "rejected": rejected,
        "shown": rejected[:MOST_REJECTED],
    }


def _bar(start: float, end: float, total: float, colour: str) -> dict[str, Any]:
    """A stretch in per mille of the recording."""
    return {"x": round(1000 * start / total, 2), "width": round(max(1000 * (end - start) / total, 0.6), 2), "colour": colour}


def _speaker(made: Made, name: str, profile: PersonalityProfile, colour: str) -> dict[str, Any]:
    segments = [s for s in made.transcript.segments if s.speaker == name]
    told = made.transcript.metadata["speakers"].get(name, {})
    return {
        "name": name or "speaker",
        "role": told.get("role", "not known"),
        "probability": told.get("probability"),
        "colour": colour,
        "words": profile.words,
        "seconds": profile.seconds,
        "confidence": _mean_confidence(segments),
        "markers": [
            {
                "name": marker.replace("_", " "),
                "value": value,
                "low": max(0.0, value - 1.96 * profile.uncertainty.get(marker, 0.0)),
                "high": min(1.0, value + 1.96 * profile.uncertainty.get(marker, 0.0)),
                "evidence": "; ".join(profile.evidence.get(marker, ())),
            }
            for marker, value in sorted(profile.markers.items())
        ],
        "emotions": [f"{clock(p.start_seconds)} {p.emotion} {p.intensity:.2f}" for p in made.patterns.get(name, ())],
    }


def _mean_confidence(segments: Sequence[SpokenSegment]) -> float:
    """By words."""
    words = [max(1, len(s.text.split())) for s in segments]
    return sum(s.confidence * n for s, n in zip(segments, words, strict=True)) / max(1, sum(words))


def _seconds(rejected: Sequence[Mapping[str, Any]]) -> float:
    return sum((float(row["end_seconds"]) - float(row["start_seconds"]) for row in rejected), 0.0)
