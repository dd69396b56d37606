"""Sound from any file: decoded by PyAV (no ffmpeg program), 16 kHz, mono, float32 in -1..1, streamed in blocks of flat memory.

What a file is, is found by its content: an extension that lies does not matter. A file that has lost its end gives what decodes,
and `Sound.missing_seconds` tells how much its header promised beyond that. Damaged packets are left out
and counted; where the stamps show a gap there is silence, so that the times of what follows stay true.

Reason codes of the `RecordingError`s here:

    not_found  there is no such file
    not_audio  text, a page, a picture, an archive: not a recording at all
    broken     a recording that does not decode: empty, cut before its index, mostly damaged
    no_audio   a video without sound
    silent     nothing in it is louder than `SILENT_DB`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attunement.errors import RecordingError
from attunement.sources.voice.decoding import BLOCK as BLOCK
from attunement.sources.voice.decoding import RATE as RATE
from attunement.sources.voice.decoding import Samples as Samples
from attunement.sources.voice.decoding import opened
from attunement.storage.files import file_hash

FRAME = 512
"""Samples (32 ms) over which loudness is measured; also Silero's step."""
SILENT_DB = -70.0
"""A recording whose loudest frame is below it holds nothing; flite's speech at -60 dBFS (its loudest frames at -50) is still found."""


@dataclass(frozen=True)
class Sound:
    """What a recording holds, known by decoding all of it. Levels in dB of full scale, over frames of 32 ms."""

    duration_seconds: float
    sha256: str
    container: str
    codec: str
    rate: int
    channels: int
    loudest_db: float
    damaged_packets: int = 0
    gap_seconds: float = 0.0
    missing_seconds: float = 0.0

    @property
    def fault(self) -> str:
        """A line that tells what is missing of it; empty for a whole file."""
        told = []
        if self.damaged_packets:
            told.append(f"{self.damaged_packets} damaged packets were left out")
        if self.gap_seconds:
            told.append(f"{self.gap_seconds:.1f} s are missing within it and are silent")
        if self.missing_seconds:
            told.append(f"the last {self.missing_seconds:.0f} s are missing: the file is cut")
        return "; ".join(told)


def probe(path: Path) -> Sound:
    """What `path` holds. Decodes it once, in flat memory. Raises `RecordingError`: see the codes above."""
    with opened(path) as decoding:
        seconds, loudest = 0.0, 0.0
        for block in decoding.blocks():
            seconds += len(block) / RATE
            loudest = max(loudest, float(levels(block).max()))
        decoding.check()
        missing = decoding.stated_seconds - seconds
        sound = Sound(
            duration_seconds=round(seconds, 3),
            sha256=file_hash(path),
            container=decoding.container,
            codec=decoding.codec,
            rate=decoding.rate,
            channels=decoding.channels,
            loudest_db=round(decibels(loudest), 1),
            damaged_packets=decoding.damaged,
            gap_seconds=round(decoding.gap_seconds, 2),
            # formats round their length up to whole packets or estimate it: less than 1 s and 1 % is no loss
            missing_seconds=round(missing, 1) if missing > max(1.0, 0.01 * seconds) else 0.0,
        )
    if sound.loudest_db < SILENT_DB:
        raise RecordingError("silent", f"{path.name} is silent: nothing in it is louder than {SILENT_DB:.0f} dBFS")
    return sound


def blocks(path: Path) -> Iterator[Samples]:
    """The samples of `path` in order, `[n]`: `BLOCK` of them (30 s), fewer in the last. Raises `RecordingError`."""
    with opened(path) as decoding:
        yield from decoding.blocks()
        decoding.check()


def pieces(path: Path, spans: Iterable[tuple[float, float]]) -> Iterator[Samples]:
    """The samples `[n]` of each of `spans` (start, end in seconds; sorted by start), in one pass. Memory: a span and two blocks.

    A span beyond the end gives what there is of it, an empty array where there is none. Raises `RecordingError`.
    """
    source, held, base, before = blocks(path), np.zeros(0, np.float32), 0, 0
    for start, end in spans:
        first, last = round(start * RATE), round(end * RATE)
        assert before <= first <= last, f"spans are sorted and run forwards: {start} to {end}"
        before = first
        while base + len(held) < last and (block := next(source, None)) is not None:
            kept = held[max(0, first - base) :]
            base += len(held) - len(kept)
            held = np.concatenate((kept, block))
        yield held[max(0, first - base) : max(0, last - base)].copy()


def levels(samples: Samples) -> Samples:
    """Root mean square of each frame of 32 ms, `[ceil(n / 512)]`; of the last what there is."""
    whole = len(samples) // FRAME * FRAME
    out: Samples = np.sqrt(np.mean(np.square(samples[:whole].reshape(-1, FRAME)), axis=1))
    if whole < len(samples) or not len(samples):
        rest = samples[whole:]
        out = np.append(out, np.sqrt(np.mean(np.square(rest))) if len(rest) else np.float32(0))
    return out


def decibels(level: float) -> float:
    """A level of 0 to 1 in dB of full scale; -120 at the least."""
    return float(20 * np.log10(max(level, 1e-6)))
