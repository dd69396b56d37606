"""Where somebody speaks. The speech is made by source and filter (no program is needed), the music by arithmetic."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from sounds import babble, encode

from attunement.errors import RecordingError
from attunement.sources.voice.activity import MOST_SECONDS, spans_of, speech_spans
from attunement.sources.voice.audio import RATE
from attunement.sources.voice.decoding import BLOCK


def music(seconds: float) -> np.ndarray:
    """Chords, a melody and drums."""
    generator, out = np.random.default_rng(3), np.zeros(round(seconds * RATE))
    time = np.arange(RATE * 2) / RATE
    for at in range(0, len(out) - RATE, RATE // 4):
        note = 440 * 2 ** (generator.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        tones = [(note, 4000, 0.15)]
        if at % (2 * RATE) == 0:
            tones += [(220 * 2 ** (step / 12), RATE * 2, 0.1) for step in (0, 4, 7)]
        for hertz, length, level in tones:
            part = time[: min(length, len(out) - at)]
            sound = sum(np.sin(2 * np.pi * hertz * k * part) / k for k in range(1, 7))
            out[at : at + len(part)] += level * sound * np.exp(-2 * part / (length / RATE))
        if at % (RATE // 2) == 0:
            out[at : at + 2000] += 0.3 * generator.normal(size=2000) * np.exp(-np.arange(2000) / 250)
    return out.astype(np.float32)


def test_speech_is_found_where_it_is(tmp_path: Path) -> None:
    """Also over the edge of two blocks (30 s)."""
    generator = np.random.default_rng(1)
    sound = 0.0003 * generator.normal(size=36 * RATE).astype(np.float32)
    truth = [(2.0, 6.0), (27.0, 33.0)]
    for start, end in truth:
        sound[round(start * RATE) : round(end * RATE)] += babble(end - start, generator)
    ticks: list[float] = []
    spans = speech_spans(encode(tmp_path / "talk.wav", sound), tick=ticks.append)
    inside = np.zeros(36 * 100, bool)
    for start, end in spans:
        inside[round(start * 100) : round(end * 100)] = True
    spoken = np.zeros_like(inside)
    for start, end in truth:
        spoken[round(start * 100) : round(end * 100)] = True
    assert inside[spoken].mean() > 0.95 and inside[~spoken].mean() < 0.1
    assert ticks == pytest.approx([BLOCK / RATE, 36.0])


@pytest.mark.parametrize("kind", ["music", "noise", "hiss"])
def test_a_recording_without_speech_says_why(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(size=15 * RATE).astype(np.float32)
    sound = {"music": music(15), "noise": 0.1 * noise, "hiss": 0.0006 * noise}[kind]
    with pytest.raises(RecordingError) as error:
        speech_spans(encode(tmp_path / f"{kind}.wav", sound))
    assert error.value.reason == ("silent" if kind == "hiss" else "no_speech") and f"{kind}.wav" in str(error.value)


def test_speech_over_music_is_still_found(tmp_path: Path) -> None:
    sound = 0.1 * music(12)
    sound[4 * RATE : 9 * RATE] += babble(5, np.random.default_rng(2))
    spans = speech_spans(encode(tmp_path / "talk.wav", sound))
    assert spans[0][0] == pytest.approx(4, abs=0.7) and spans[-1][1] == pytest.approx(9, abs=0.7)


def test_long_stretches_are_split_at_the_quietest_place() -> None:
    frames = round(100 / 0.032)
    level = np.full(frames, 0.1, np.float32)
    pauses = (22.0, 49.0, 70.5)
    for pause in pauses:
        level[round(pause / 0.032) : round((pause + 0.25) / 0.032)] = 0.001
    spans = spans_of(np.ones(frames, np.float32), level, 100.0)
    assert spans[0][0] == 0 and spans[-1][1] == 100 and all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    assert all(0 < end - start <= MOST_SECONDS for start, end in spans)
    assert [start for start, _ in spans[1:4]] == pytest.approx([p + 0.12 for p in pauses], abs=0.1)


def test_blips_are_dropped_gaps_joined_and_edges_padded() -> None:
    likely = np.zeros(1000, np.float32)
    likely[100:104] = 1.0  # 0.13 s: a click
    likely[300:350] = likely[362:400] = 1.0  # 0.38 s between them
    likely[600:700] = 0.9
    spans = spans_of(likely, np.full(1000, 0.1, np.float32), 32.0)
    assert spans == [pytest.approx((9.4, 13.0), abs=0.01), pytest.approx((19.0, 22.6), abs=0.01)]
