"""Subtitles as an engine: segments with times, and names where a voice tag or a label gives them.

What subtitles add is taken out again: `[applause]`, music marks, tags within words. Automatic captions roll: each cue shows the line
before it again, and every second cue is the last line alone for 10 ms; there a line is taken once. Lines of one speaker are joined up
to a sentence's end or a gap.

Format of rolling captions: YouTube's WebVTT, as yt-dlp saves it (`--write-auto-subs`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from attunement.errors import RecordingError
from attunement.readers.decoding import Unreadable, encoding_of, head_of, whole_text
from attunement.readers.subtitles import Row, rows
from attunement.records import SpokenSegment

ENGINE = "captions"
_MOST_CHARACTERS = 8_000_000
"""Of a file of subtitles: an hour of rolling captions has about 400,000."""
_NOT_SAID = re.compile(r"\[[^\]]{1,40}\]|\((?:[a-z ]{1,30}|[A-Z ]{1,30})\)|[\u266a\u266b]+|^\s*>+\s*|^\s*-\s+")
"""[applause], (laughs), notes, the `>>` or `-` of a new speaker. A bracket with capitals and small letters may be speech."""
_ENDED = re.compile(r"[.!?\u2026][\"'\u201d\u2019)]*$")
_GAP_SECONDS = 1.5
_LONGEST_SECONDS = 30.0
_ROLLING = 0.4
"""Share of cues whose first line is the last of the cue before: nearly all in rolling captions, none or few where people wrote them
(who says "No." in two cues, says it twice)."""


def caption_segments(path: Path) -> list[SpokenSegment]:
    """The segments of an SRT or VTT file (by its ending). Raises `RecordingError` (`captions`) where none can be read."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("srt", "vtt"):
        raise RecordingError("captions", f"{path.name}: subtitles are read from .srt and .vtt")
    try:
        shown = rows(whole_text(path, encoding_of(head_of(path)), _MOST_CHARACTERS), kind)
    except Unreadable as error:
        raise RecordingError("captions", f"{path.name} {error.error}") from error
    segments = list(joined(row for row in once(shown) if row.text))
    if not segments:
        raise RecordingError("captions", f"{path.name} holds no subtitles")
    return segments


def once(shown: Sequence[Row]) -> Iterator[Row]:
    """The rows, said text only; of rolling captions each line once, from when it first stands to when its next one comes."""
    cues: list[list[Row]] = []
    for row in shown:
        row = row._replace(text=said(row.text))
        if cues and (row.start_seconds, row.end_seconds) == (cues[-1][0].start_seconds, cues[-1][0].end_seconds):
            cues[-1].append(row)
        else:
            cues.append([row])
    pairs = [(a[-1].text, b[0].text) for a, b in itertools.pairwise(cues)]
    rolls = len(pairs) > 2 and sum(a == b != "" for a, b in pairs) > _ROLLING * len(pairs)
    before: list[str] = []
    for cue in cues:
        texts = [row.text for row in cue]
        yield from cue[_overlap(before, texts) if rolls else 0 :]
        before = texts


def said(text: str) -> str:
    """A line without what nobody says."""
    return re.sub(r"\s+", " ", _NOT_SAID.sub(" ", text)).strip()


def joined(lines: Iterable[Row]) -> Iterator[SpokenSegment]:
    """Segments: lines of one speaker up to a sentence's end, a gap of 1.5 s, or 30 s. Confidence 1: nobody measured it."""
    held: Row | None = None
    for line in lines:
        if held is not None:
            apart = line.start_seconds - held.end_seconds > _GAP_SECONDS or line.speaker != held.speaker
            too_long = line.end_seconds - held.start_seconds > _LONGEST_SECONDS
            if not (apart or too_long or _ENDED.search(held.text)):
                held = held._replace(text=f"{held.text} {line.text}", end_seconds=max(held.end_seconds, line.end_seconds))
                continue
            yield _segment(held)
        held = line
    if held is not None:
        yield _segment(held)


def _segment(line: Row) -> SpokenSegment:
    speaker = "" if line.speaker == "narrator" else line.speaker
    return SpokenSegment(line.text, line.start_seconds, line.end_seconds, speaker=speaker)


def _overlap(before: Sequence[str], now: Sequence[str]) -> int:
    """How many lines at the beginning of `now` are the last ones of `before`."""
    return next((count for count in range(min(len(before), len(now)), 0, -1) if before[-count:] == now[:count]), 0)
