"""How something is said: pitch, loudness, pauses and speed, frame by frame over a recording and as figures of a stretch of it.

Pitch is found by YIN (de Cheveigné & Kawahara 2002, steps 1 to 5), all frames of a block at once. A recording of three hours is kept as
6 bytes for each 10 ms: 6.5 MB. Figures of people's voices are evidence of how a passage was said, not of who or how somebody is.

Shapes: n samples at 16 kHz, f frames of 10 ms, t lags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attunement.records import SpokenWord

RATE, HOP = 16_000, 160
FRAME_SECONDS = HOP / RATE
SLOWER = 2
"""Pitch is found in every second sample: what lies above 4 kHz says nothing of it."""
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
WINDOW = 240
"""Samples at 8 kHz that are compared with later ones: 30 ms, nearly two periods of the lowest voice."""
DIP = 0.25
"""The first lag whose normalised difference falls below is the period (the paper takes 0.1). Of the diphone voice kal16
it finds a third of the frames voiced (0.15: a sixth), of slt 83 %, of noise none; at 0.35 the range of kal16 grows to 16 semitones."""
QUIET_DB = 35.0
"""A frame so far below the loud ones (95th percentile) of the recording is not voiced, whatever its period."""
PAUSE_SECONDS = 0.25
"""Shorter gaps are articulation (Goldman-Eisler 1968)."""
FLOOR_DB, BETWEEN = 60.0, 0.35
"""What lies below this share of the way from the recording's floor (5th percentile, at most so far down) to its loud frames is silence."""
FAINTEST_DB = -75.0
"""Nothing softer is sound: a file of 16 bits has its last step at -90 dB."""
LEAST_VOICED = 20
"""Frames: 0.2 s of voice, without which there is no figure of pitch."""
SILENCE_DB = -120.0
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Track:
    """`pitch_hz` `[f]` (0 where there is no voice) and `energy_db` `[f]` (RMS over full scale, in dB) of the frames of a recording;
    frame i is the 10 ms from i * 0.01 seconds on."""

    pitch_hz: NDArray[np.float32]
    energy_db: NDArray[np.float16]

    @cached_property
    def loud_db(self) -> float:
        """The level of the recording's loud frames."""
        return float(np.percentile(self.energy_db, 95)) if len(self.energy_db) else SILENCE_DB

    @cached_property
    def silent_below_db(self) -> float:
        """The level under which a frame is silence between words."""
        if not len(self.energy_db):
            return SILENCE_DB
        floor = max(float(np.percentile(self.energy_db, 5)), self.loud_db - FLOOR_DB)
        return max(FAINTEST_DB, floor + BETWEEN * (self.loud_db - floor))


def track(blocks: Iterable[Samples]) -> Track:
    """The track of a recording from its samples (mono, 16 kHz, -1 to 1) in blocks that follow each other; a block and 60 ms are held."""
    pitch, energy = [np.zeros(0, np.float32)], [np.zeros(0, np.float16)]
    held: Samples = np.zeros(0, dtype=np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        whole = max(0, (len(held) - _REACH) // HOP)
        if whole:
            pitch.append(_pitches(held[: whole * HOP + _REACH], whole))
            energy.append(_energies(held[: whole * HOP]))
            held = held[whole * HOP :]
    rest = -(-len(held) // HOP)
    if rest:
        pitch.append(_pitches(np.pad(held, (0, rest * HOP + _REACH - len(held))), rest))
        energy.append(_energies(np.pad(held, (0, rest * HOP - len(held)))))
    found = Track(np.concatenate(pitch), np.concatenate(energy))
    found.pitch_hz[found.energy_db < found.loud_db - QUIET_DB] = 0
    return found


def track_of(path: Path) -> Track:
    """The track of an audio file. Raises `RecordingError`."""
    from attunement.sources.voice.audio import blocks

    return track(blocks(path))


def figures(track: Track, start_seconds: float, end_seconds: float, words: Sequence[SpokenWord] | int = ()) -> dict[str, float]:
    """What can be said of a stretch; a figure that has too little to go by is missing.

    `pitch_hz`: median of the voiced frames. `pitch_range_semitones`: between their 5th and 95th percentiles. `energy_db`: mean power of
    what is not silence, dB of full scale. `energy_range_db`: between its 5th and 95th percentiles. `voiced_share`: voiced frames of what
    is not silence. `pause_share`: silences of a quarter of a second or more between sounds, of the time from the first sound to the last;
    `pauses_per_minute`: how many in a minute of that time; `pause_seconds`: their mean length. `words_per_second`: of that time;
    `spoken_words_per_second`: without the pauses. `words` are those of the stretch, or how many there are.
    """
    first, last = max(0, round(start_seconds / FRAME_SECONDS)), round(end_seconds / FRAME_SECONDS)
    energy, pitch = track.energy_db[first:last].astype(np.float64), track.pitch_hz[first:last]
    sounding = np.flatnonzero(energy >= track.silent_below_db)
    if not len(sounding):
        return {}
    inner = slice(sounding[0], sounding[-1] + 1)
    energy, pitch = energy[inner], pitch[inner]
    loud = energy >= track.silent_below_db
    pauses = _pauses(loud)
    seconds, paused = len(energy) * FRAME_SECONDS, float(sum(pauses)) * FRAME_SECONDS
    low, high = np.percentile(energy[loud], [5, 95])
    found = {
        "energy_db": 10 * float(np.log10(np.mean(10 ** (energy[loud] / 10)))),
        "energy_range_db": float(high - low),
        "voiced_share": float((pitch[loud] > 0).mean()),
        "pause_share": paused / seconds,
        "pauses_per_minute": len(pauses) * 60 / seconds,
    }
    if pauses:
        found["pause_seconds"] = paused / len(pauses)
    voiced = pitch[pitch > 0].astype(np.float64)
    if len(voiced) >= LEAST_VOICED:
        low, high = np.percentile(voiced, [5, 95])
        found |= {"pitch_hz": float(np.median(voiced)), "pitch_range_semitones": 12 * float(np.log2(high / low))}
    many = words if isinstance(words, int) else len(words)
    if many:
        found |= {"words_per_second": many / seconds, "spoken_words_per_second": many / max(seconds - paused, FRAME_SECONDS)}
    return {name: round(value, 3) for name, value in found.items()}


def _pauses(loud: NDArray[np.bool_]) -> list[int]:
    """Lengths in frames of the silences that are long enough; `loud` begins and ends with sound."""
    edges = np.flatnonzero(np.diff(loud.astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return [int(n) for n in lengths if n * FRAME_SECONDS >= PAUSE_SECONDS - 1e-9]


def _energies(samples: Samples) -> NDArray[np.float16]:
    power = np.square(samples.reshape(-1, HOP), dtype=np.float32).mean(1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10))), dtype=np.float16)


# --- pitch -------------------------------------------------------------------------------------------------------

_SLOW_RATE = RATE // SLOWER
_LONGEST, _SHORTEST = int(_SLOW_RATE / LOWEST_HZ) + 1, int(_SLOW_RATE / HIGHEST_HZ)
_REACH = (WINDOW + _LONGEST + 1) * SLOWER
"""Samples from the start of a frame that its pitch is found in."""


def _pitches(samples: Samples, count: int) -> NDArray[np.float32]:
    """Pitch `[count]` of the frames that begin every 160 samples; `samples` `[(count - 1) * 160 + reach]` or more."""
    slow = np.convolve(samples, np.asarray([0.25, 0.5, 0.25], dtype=np.float32), "same")[::SLOWER]
    length = WINDOW + _LONGEST
    frames = np.lib.stride_tricks.sliding_window_view(slow, length)[:: HOP // SLOWER][:count]
    parts = [_yin(frames[at : at + 1000]) for at in range(0, count, 1000)]  # 1,000 frames need 20 MB
    return _without_jumps(np.concatenate(parts))


def _yin(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """The period of each of `frames` `[f, window + lags]` as a pitch, 0 where none is found."""
    normed = _normalised_difference(frames)
    low = normed < DIP
    low[:, :_SHORTEST] = False
    found = low.any(1)
    lag = np.where(found, low.argmax(1), _SHORTEST)
    rows = np.arange(len(frames))
    for _ in range(_LONGEST):  # down to the bottom of the dip
        further = np.minimum(lag + 1, _LONGEST - 1)
        falls = normed[rows, further] < normed[rows, lag]
        if not falls.any():
            break
        lag = np.where(falls, further, lag)
    inner = np.clip(lag, 1, _LONGEST - 2)
    before, at, after = normed[rows, inner - 1], normed[rows, inner], normed[rows, inner + 1]
    bend = before - 2 * at + after
    shift = np.where(bend > 1e-9, (before - after) / (2 * np.maximum(bend, 1e-9)), 0.0)
    return np.where(found, _SLOW_RATE / (inner + np.clip(shift, -1, 1)), 0).astype(np.float32)


def _normalised_difference(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """YIN's cumulative mean normalised difference `[f, t]` of lags 0 to t - 1."""
    size = 1 << (frames.shape[1] + WINDOW - 1).bit_length()
    spectrum = np.fft.rfft(frames, size) * np.conj(np.fft.rfft(frames[:, :WINDOW], size))
    product = np.fft.irfft(spectrum, size)[:, :_LONGEST]
    power = np.cumsum(np.pad(np.square(frames, dtype=np.float64), ((0, 0), (1, 0))), axis=1)
    later = power[:, WINDOW : WINDOW + _LONGEST] - power[:, :_LONGEST]
    difference = np.maximum(later[:, :1] + later - 2 * product, 0)
    lags = np.arange(1, _LONGEST)
    mean = np.cumsum(difference[:, 1:], axis=1) / lags
    # Rounding leaves a digital silence without a difference and without a mean: it has no period.
    normed = np.where(mean > 1e-12, difference[:, 1:] / np.maximum(mean, 1e-12), 1.0)
    return np.concatenate([np.ones((len(frames), 1)), normed], axis=1)


def _without_jumps(pitch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without frames that lie more than half an octave off the median of the voiced ones within 50 ms, or have none beside them."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(pitch, 5), 11)
    near = np.where(around > 0, around, np.nan)
    many = (around > 0).sum(1)
    middle = np.ones(len(pitch))
    some = many > 2
    middle[some] = np.nanmedian(near[some], axis=1)
    kept = some & (np.abs(np.log2(np.maximum(pitch, 1) / middle)) < 0.5)
    return np.where(kept, pitch, 0).astype(np.float32)
