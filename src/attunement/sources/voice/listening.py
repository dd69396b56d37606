"""One recording listened to: what is said, by whom, how; made into a `Transcript`.

Each pass streams the sound, so memory does not grow with its length: where there is speech, who speaks when, what is said in each
stretch, pitch and loudness. What is heard is written stretch by stretch: a run that was killed goes on behind the last.
"""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from attunement.config import VoiceSettings
from attunement.errors import RecordingError
from attunement.records import SpokenSegment, SpokenWord, Transcript, from_dict, to_dict
from attunement.sources.voice.activity import Spans, speech_spans
from attunement.sources.voice.audio import pieces
from attunement.sources.voice.captions import ENGINE as CAPTIONS
from attunement.sources.voice.captions import caption_segments
from attunement.sources.voice.confidence import Confidence, snr_db
from attunement.sources.voice.diarisation import Diariser, Stretch
from attunement.sources.voice.engines import Transcriber
from attunement.sources.voice.language import Language, language_of
from attunement.sources.voice.prosody import Track, figures, track_of
from attunement.sources.voice.punctuating import punctuated
from attunement.sources.voice.recordings import SUBTITLES, Recording
from attunement.sources.voice.screening import Screen
from attunement.sources.voice.segments import segmented, spread_words
from attunement.storage.files import canonical, content_hash, file_hash, read_json, write_json

VERSION = 1
"""Goes up when the same sound would give another transcript."""
Tick = Callable[[str, float, float], None]
"""Told the step, the seconds done and the seconds in all."""


class Heard(NamedTuple):
    """The words of one span of speech, and how far speech stands above the noise there (dB)."""

    words: Sequence[SpokenWord]
    snr_db: float


@dataclass(frozen=True)
class Ears:
    """What listens; each is made when the first recording needs it."""

    settings: VoiceSettings
    transcriber: Callable[[], Transcriber]
    diariser: Callable[[], Diariser]
    confidence: Confidence

    def key(self, recording: Recording) -> str:
        """Changes with everything that decides what the transcript of `recording` says."""
        told = recording.row() | {"path": "", "subtitles": file_hash(recording.subtitles) if recording.subtitles else ""}
        calibration = to_dict(self.confidence.calibration) if self.confidence.calibration else ""
        return content_hash([VERSION, told, self.settings.model_dump(mode="json"), calibration])


def listen(recording: Recording, ears: Ears, work: Path, tick: Tick = lambda *_: None) -> Transcript:
    """The transcript of a recording. `work` is a folder of its own for what is heard so far.

    Raises `RecordingError` where there is nothing to hear, where it is in another language, or where nothing is good enough.
    """
    sound = recording.path.suffix.casefold() not in SUBTITLES
    spans = _spans(recording, work, tick) if sound else []
    stretches = _stretches(recording, ears, spans, work) if sound else []
    heard_languages: Mapping[str, float] = {}
    if recording.subtitles is not None:
        engine, segments = CAPTIONS, _by_speaker(caption_segments(recording.subtitles), stretches)
    else:
        transcriber = ears.transcriber()
        heard = list(_heard(recording, transcriber, spans, work, tick))
        engine, heard_languages = transcriber.name, transcriber.languages()
        segments = _segments(heard, spans, stretches, ears.confidence, bare=not transcriber.punctuates)
    language = language_of(" ".join(segment.text for segment in segments), heard_languages)
    if language.is_other_than(ears.settings.language):
        raise RecordingError(
            "other_language",
            f"{shown_name(recording)} is in another language ({language.code}) than voice.language ({ears.settings.language})",
        )
    kept, rejected = _screened(segments, ears.settings)
    if not kept:
        raise RecordingError("nothing_understood", _nothing_understood(recording, rejected))
    if sound:
        kept = _with_prosody(kept, track_of(recording.path))
    return _transcript(recording, kept, rejected, engine, language)


def shown_name(recording: Recording) -> str:
    """What a user knows it by."""
    return recording.url or recording.path.name


# --- the passes over the sound ------------------------------------------------------------------------------------


def _spans(recording: Recording, work: Path, tick: Tick) -> Spans:
    path = work / "spans.json"
    if not path.is_file():
        total = recording.duration_seconds
        write_json(path, speech_spans(recording.path, tick=lambda done: tick("finding speech", done, total)))
    return [(float(start), float(end)) for start, end in read_json(path)]


def _stretches(recording: Recording, ears: Ears, spans: Spans, work: Path) -> list[Stretch]:
    path = work / "speakers.json"
    if not path.is_file():
        write_json(path, [to_dict(stretch) for stretch in ears.diariser().stretches(recording.path, spans)])
    return [from_dict(Stretch, row) for row in read_json(path)]


def _heard(recording: Recording, transcriber: Transcriber, spans: Spans, work: Path, tick: Tick) -> Iterator[Heard]:
    """What is said in each span. Spans that an earlier run heard are read; a line that it did not finish is heard again."""
    transcriber.begin()
    path = work / "heard.jsonl"
    before = _read_heard(path)
    yield from before
    work.mkdir(parents=True, exist_ok=True)
    _write_lines(path, before)
    left = spans[len(before) :]
    total = sum(end - start for start, end in spans)
    done = total - sum(end - start for start, end in left)
    with open(path, "a", encoding="utf-8") as file:
        for (start, end), samples in zip(left, pieces(recording.path, left), strict=True):
            heard = Heard(transcriber.hear(samples, start), snr_db(samples))
            file.write(_line(heard))
            file.flush()
            done += end - start
            tick("transcribing", done, total)
            yield heard


def _line(heard: Heard) -> str:
    noise = None if math.isnan(heard.snr_db) else round(heard.snr_db, 2)
    return canonical({"snr_db": noise, "words": [to_dict(word) for word in heard.words]}) + "\n"


def _write_lines(path: Path, heard: Sequence[Heard]) -> None:
    """The whole lines again, without a torn one behind them."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(map(_line, heard))


def _read_heard(path: Path) -> list[Heard]:
    found: list[Heard] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # killed while it was written
            break
        noise = math.nan if row["snr_db"] is None else float(row["snr_db"])
        found.append(Heard([from_dict(SpokenWord, word) for word in row["words"]], noise))
    return found


# --- segments -----------------------------------------------------------------------------------------------------


def _segments(
    heard: Sequence[Heard], spans: Spans, stretches: Sequence[Stretch], confidence: Confidence, *, bare: bool
) -> list[SpokenSegment]:
    """Words to segments, each with its calibrated confidence and, where the engine gives bare words, with punctuation."""
    starts = [start for start, _ in spans]
    found = []
    for segment in segmented([word for part in heard for word in part.words], stretches):
        noise = heard[max(bisect.bisect_right(starts, segment.start_seconds) - 1, 0)].snr_db
        words = punctuated(segment.words) if bare else segment.words
        text = " ".join(word.text for word in words)
        found.append(replace(segment, text=text, words=tuple(words), confidence=confidence.of(segment.words, noise)))
    return found


def _by_speaker(segments: Sequence[SpokenSegment], stretches: Sequence[Stretch]) -> list[SpokenSegment]:
    """Subtitles with the names that they give; where they give none, by the voices."""
    if not stretches or any(segment.speaker for segment in segments):
        return list(segments)
    return [part for segment in segments for part in segmented(spread_words(segment), stretches)]


def _screened(segments: Sequence[SpokenSegment], settings: VoiceSettings) -> tuple[list[SpokenSegment], list[dict[str, Any]]]:
    """What stays, and what is left out with its reasons."""
    screen = Screen(settings.least_confidence, settings.language)
    kept, rejected = [], []
    for segment in segments:
        if reasons := screen.reasons(segment):
            rejected.append({**to_dict(replace(segment, words=())), "reasons": reasons})
        else:
            kept.append(segment)
    return kept, rejected


def _nothing_understood(recording: Recording, rejected: Sequence[Mapping[str, Any]]) -> str:
    if not rejected:
        return f"no word was understood in {shown_name(recording)}"
    reasons = ", ".join(f"{code} {count}" for code, count in Counter(c for row in rejected for c in row["reasons"]).most_common())
    return f"nothing that was heard in {shown_name(recording)} is good enough to keep ({reasons})"


def _with_prosody(segments: Sequence[SpokenSegment], track: Track) -> list[SpokenSegment]:
    return [
        replace(s, prosody=figures(track, s.start_seconds, s.end_seconds, len(s.words) or len(s.text.split()))) for s in segments
    ]


def _transcript(
    recording: Recording,
    segments: Sequence[SpokenSegment],
    rejected: Sequence[Mapping[str, Any]],
    engine: str,
    language: Language,
) -> Transcript:
    metadata = {
        "url": recording.url,
        "file": recording.path.name,
        "channel": recording.channel,
        "upload_date": recording.upload_date,
        "chapters": [to_dict(chapter) for chapter in recording.chapters],
        "licence_class": recording.licence_class,
        "source_type": recording.source_type,
        "audio_sha256": recording.sha256,
        "fault": recording.fault,
        "language_probability": language.probability,
        "rejected": list(rejected),
    }
    return Transcript(
        transcript_id=transcript_id(recording),
        text=" ".join(segment.text for segment in segments),
        title=recording.title,
        source=recording.channel or recording.url or recording.path.name,
        licence=recording.licence,
        metadata=metadata,
        segments=tuple(segments),
        engine=engine,
        language=language.code,
        duration_seconds=recording.duration_seconds,
    )


def transcript_id(recording: Recording) -> str:
    """The same for the same sound, wherever it lies."""
    return "v-" + recording.sha256[:16]
