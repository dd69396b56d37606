"""What `attune voice ingest` leaves: a folder that `attune data build` reads as a source, and everything it was made from.

recordings.jsonl            every recording that was asked for: kept or failed, and why
transcripts/ID.json         what was said, by whom, how; left-out segments with their reasons
examples.jsonl              the contract's `VoiceDataExample`, one line a kept pair
profiles.jsonl              the `PersonalityProfile` of each speaker
rejected.jsonl              pairs that were left out, with their scores and reasons
report.json, report.html    counts and quality; the page shows who spoke when and how
dialogue/LICENCE/           conversations for `attune data build`, one folder a licence, each with its `source.toml`

All of it is for its owner only (0700): recordings of sessions are health data, and a transcript is no less.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attunement.records import REVIEW_MARK, REVIEW_REASONS, DialoguePair, QualityReport, to_dict
from attunement.sources.voice.checking import Checked, examples, report_of
from attunement.sources.voice.licences import licence_class
from attunement.sources.voice.making import Made
from attunement.sources.voice.page import page
from attunement.sources.voice.turns import SpokenTurn, turns_of
from attunement.storage.files import write_json, write_jsonl, write_text

DIALOGUE, TRANSCRIPTS = "dialogue", "transcripts"
TALKS, SESSIONS = "talks.jsonl", "sessions.jsonl"
SYSTEM = "You are an experienced lecturer in psychology. Somebody who listened asks about your talk; answer in your own words."
"""Keeps the voice of a lecture apart from how the model speaks to a client."""
KEPT = (
    "id",
    "transcript",
    "url",
    "title",
    "channel",
    "content_type",
    "transcription_quality",
    "naturalness",
    REVIEW_MARK,
    REVIEW_REASONS,
)
_AS_CLIENT, _AS_THERAPIST = ("client", "host"), ("therapist", "guest")


def write(made: Sequence[Made], recordings: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Writes all files but the transcripts, each whole or not at all; returns the report."""
    checked = [c for one in made for c in one.checked]
    by_transcript = {one.transcript.transcript_id: one for one in made}
    report = report_row(made, recordings, report_of(checked))
    profiles = ({"transcript": i, **to_dict(profile)} for i, one in by_transcript.items() for profile in one.profiles.values())
    _write_rows(folder / "recordings.jsonl", recordings)
    _write_rows(folder / "examples.jsonl", _examples(made))
    _write_rows(folder / "profiles.jsonl", profiles)
    _write_rows(folder / "rejected.jsonl", (to_dict(c) for c in checked if not c.kept))
    write_json(folder / "report.json", report)
    write_text(folder / "report.html", page(made, recordings, report))
    write_text(folder / "source.toml", _BESIDE)
    _write_dialogue(made, folder / DIALOGUE)
    return report


def _write_rows(path: Path, rows: Iterable[Any]) -> None:
    """An empty file would count as one that cannot be read: there is none."""
    if not write_jsonl(path, rows):
        path.unlink()


def _examples(made: Iterable[Made]) -> Iterator[dict[str, Any]]:
    for one in made:
        identity = one.transcript.transcript_id
        for example in examples(one.checked, {identity: one.profiles}, {identity: one.patterns}):
            yield to_dict(example)


def report_row(made: Sequence[Made], recordings: Sequence[Mapping[str, Any]], quality: QualityReport) -> dict[str, Any]:
    """The report as plain data; `quality` is that of all pairs."""
    failed = Counter(row["reason"] for row in recordings if row["outcome"] == "failed")
    segments = Counter(code for one in made for row in one.transcript.metadata["rejected"] for code in row["reasons"])
    return {
        "recordings": {
            "kept": len(made),
            "failed": sum(failed.values()),
            "failed_by_reason": dict(failed.most_common()),
            "seconds": round(sum(one.transcript.duration_seconds for one in made), 1),
        },
        "segments": {
            "kept": sum(len(one.transcript.segments) for one in made),
            "rejected": sum(len(one.transcript.metadata["rejected"]) for one in made),
            "rejected_by_reason": dict(segments.most_common()),
        },
        "content_types": dict(Counter(one.content_type for one in made).most_common()),
        "turns_without_pair": dict(sum((Counter(one.left_out) for one in made), Counter[str]()).most_common()),
        "pairs": {
            "kept": quality.metrics.kept_pairs,
            "rejected": quality.metrics.rejected_pairs,
            "rejected_by_reason": quality.details["rejected_by_reason"],
            REVIEW_MARK: quality.details[REVIEW_MARK],
        },
        "quality": {
            "coherence": quality.metrics.mean_semantic_score,
            **{
                name: quality.details[name]
                for name in ("transcription_quality", "naturalness", "consistency", "emotional_coherence")
            },
        },
    }


# --- conversations for `attune data build` --------------------------------------------------------------------------


def _write_dialogue(made: Sequence[Made], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    by_licence: dict[str, list[Made]] = {}
    for one in made:
        by_licence.setdefault(one.transcript.licence, []).append(one)
    for licence, group in by_licence.items():
        name = re.sub(r"[^a-z0-9.]+", "-", licence.casefold()).strip("-") or "unknown"
        _write_rows(folder / name / SESSIONS, (row for one in group for row in sessions(one)))
        _write_rows(folder / name / TALKS, (row for one in group for row in talks(one)))
        write_text(folder / name / "source.toml", _source_toml(name, licence))


def sessions(made: Made) -> Iterator[dict[str, Any]]:
    """Talk of two and more as conversations: runs of turns in which every answer was kept.

    A turn that was rejected, or that something is missing before, ends the run: nothing of it stands in a context.
    """
    turns = turns_of(made.transcript.segments)
    kept = {_place(c.pair): c for c in made.checked if c.kept and c.pair.metadata["kind"] == "question_answer"}
    answering = {speaker for speaker, _ in kept}
    run: list[SpokenTurn] = []
    for turn in [*turns, None]:
        if turn is None or (turn.speaker in answering and _key(turn) not in kept):
            while run and _key(run[-1]) not in kept:
                run.pop()
            if run:
                yield _session(made, run, [kept[_key(t)] for t in run if _key(t) in kept])
            run = []
        elif turn.speaker in answering and _key(turn) in kept and not run:
            continue  # what it answers was lost with the turn before
        else:
            run.append(turn)


def _key(turn: SpokenTurn) -> tuple[str, int]:
    return turn.speaker, turn.places[-1]


def _place(pair: DialoguePair) -> tuple[str, int]:
    """The answering turn of a pair: its speaker and last segment."""
    return pair.speaker, int(pair.metadata["segments"][-1])


def _session(made: Made, run: Sequence[SpokenTurn], checked: Sequence[Checked]) -> dict[str, Any]:
    answering = {c.pair.speaker for c in checked}
    messages = [{"role": "therapist" if turn.speaker in answering else "client", "content": turn.text} for turn in run]
    return {"id": f"{made.transcript.transcript_id}-{run[0].places[0]}", **_told(made, checked), "messages": messages}


def talks(made: Made) -> Iterator[dict[str, Any]]:
    """Questions on a talk, each with the speaker's passage."""
    for c in made.checked:
        if c.kept and c.pair.metadata["kind"] == "contextual":
            messages = [
                {"role": "system", "content": SYSTEM},
                {"role": "client", "content": c.pair.prompt},
                {"role": "therapist", "content": c.pair.response},
            ]
            yield {"id": c.pair.metadata["id"], **_told(made, [c]), "messages": messages}


def _told(made: Made, checked: Sequence[Checked]) -> dict[str, Any]:
    """Where a conversation is from, and how good it is."""
    transcript, marks = made.transcript, [c.pair.metadata for c in checked if c.pair.metadata.get(REVIEW_MARK)]
    reasons = " ".join(dict.fromkeys(code for mark in marks for code in str(mark[REVIEW_REASONS]).split()))
    return {
        "transcript": transcript.transcript_id,
        "url": str(transcript.metadata["url"]),
        "title": transcript.title,
        "channel": str(transcript.metadata["channel"]),
        "content_type": made.content_type,
        "transcription_quality": round(sum(c.transcription for c in checked) / len(checked), 4),
        "naturalness": round(sum(c.naturalness.score for c in checked) / len(checked), 4),
        **({REVIEW_MARK: True, REVIEW_REASONS: reasons} if marks else {}),
    }


_BESIDE = """# Written by `attune voice ingest`: what `attune data build` reads is in dialogue/.
name = "voice"
title = "Recordings: transcripts, profiles and reports beside the dialogue"
licence = "see recordings.jsonl"
licence_class = "unknown"

[[files]]
match = "*.json*"
skip = "a transcript, a report or the contract's rows of the dialogue"
"""


def _source_toml(name: str, licence: str) -> str:
    return f"""# Written by `attune voice ingest`, for `attune data build`.
name = "voice-{name}"
title = "Recordings made into dialogue ({name})"
licence = {json.dumps(licence)}
licence_class = "{licence_class(licence)}"
share = "voice"
examples = "../../examples.jsonl"

[[files]]
match = "{SESSIONS}"
shape = "dialog"
turns = "messages"
speaker = "role"
text = "content"
group = "voice/{{transcript}}"
metadata = {json.dumps(list(KEPT))}

[[files]]
match = "{TALKS}"
shape = "dialog"
turns = "messages"
speaker = "role"
text = "content"
group = "voice/{{transcript}}"
source_type = "speech"
instruction = true
metadata = {json.dumps(list(KEPT))}
"""
