"""SRT and WebVTT: cues as what was spoken, by whom where a voice tag or a label tells it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from attunement.readers.decoding import Unreadable
from attunement.readers.turns import Spoken, bare_name, clean, label_of, role_of, seconds

_VOICE_TAG = re.compile(r"<v(?:\.[\w.]+)? +([^<>]{1,60})>")
_VOICE_MARK = "\u2063"
"""Before a name that a voice tag gave: it needs no other sign of being one."""
_NAME_CASE = re.compile(r"[A-Z][\w.'\u2019-]*(?: (?:[A-Z][\w.'\u2019-]*|\d+|de|van|von))*")


class Row(NamedTuple):
    """A line of a cue: what is shown, who says it ("narrator" until somebody is named), when its cue stands (seconds)."""

    text: str
    speaker: str
    start_seconds: float
    end_seconds: float


def rows(text: str, kind: str) -> list[Row]:
    """The lines of an SRT or VTT text; whoever speaks, speaks on until another one does. Raises `Unreadable`."""
    shown: list[tuple[str, float, float]] = []
    for content, start, end in _cues(text, kind):
        tagged = _VOICE_TAG.sub(lambda match: f"\n{_VOICE_MARK}{match[1]}: ", content)
        shown += [(row, start, end) for row in clean(tagged, markup=True).split("\n") if row.strip()]
    speakers = _speakers([row for row, *_ in shown])
    out: list[Row] = []
    speaker = "narrator"
    for row, start, end in shown:
        said = row
        label = label_of(row.lstrip(_VOICE_MARK))
        if label and (row.startswith(_VOICE_MARK) or bare_name(label.name).casefold() in speakers):
            speaker, said = label.name, label.text
        out.append(Row(said, speaker, start, end))
    return out


def subtitles(text: str, kind: str) -> list[Spoken]:
    """What was said by one speaker after the other, with when each began. Raises `Unreadable`."""
    out: list[Spoken] = []
    for row in rows(text, kind):
        if out and out[-1][0] == row.speaker:
            out[-1] = (row.speaker, f"{out[-1][1]} {row.text}".strip(), out[-1][2])
        else:
            out.append((row.speaker, row.text, row.start_seconds))
    return out


def _cues(text: str, kind: str) -> list[tuple[str, float, float]]:
    import srt
    import webvtt

    try:
        if kind == "srt":
            cues = [
                (cue.content, cue.start.total_seconds(), cue.end.total_seconds()) for cue in srt.parse(text, ignore_errors=True)
            ]
        else:
            cues = [(cue.raw_text, seconds(cue.start) or 0.0, seconds(cue.end) or 0.0) for cue in webvtt.from_string(text)]
    except (srt.SRTParseError, webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError, ValueError) as error:
        raise Unreadable("file", f"is broken {kind.upper()}: {error}") from error
    if not cues and "-->" in text:
        raise Unreadable("file", f"is broken {kind.upper()}: no cue could be read")
    return cues


def _speakers(rows: Sequence[str]) -> set[str]:
    """Which labels are names: those that tell a role; others where at least two come twice and are written as names.

    "One more thing: ..." and "Remember: ..." in a monologue are none.
    """
    labels = [label for row in rows if not row.startswith(_VOICE_MARK) and (label := label_of(row))]
    names = Counter(bare_name(label.name).casefold() for label in labels)
    known = {name for name in names if role_of(name) is not None}
    written = {bare_name(label.name).casefold() for label in labels if _NAME_CASE.fullmatch(bare_name(label.name))}
    others = {name for name in written - known if names[name] > 1}
    return known | others if known or len(others) > 1 else set()
