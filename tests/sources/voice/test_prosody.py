"""Pitch, loudness and pauses of sounds whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from attunement.sources.voice.prosody import RATE, Track, figures, track


def pulses(hz: float, seconds: float, *, formants: tuple[float, ...] = (500, 1500, 2500)) -> np.ndarray:
    """A voice of the simplest kind: a pulse train through three resonances."""
    from scipy.signal import lfilter

    count = int(seconds * RATE)
    samples = np.zeros(count)
    samples[np.unique((np.arange(0, seconds, 1 / hz) * RATE).astype(int))] = 1.0
    for formant in formants:
        r, angle = np.exp(-np.pi * 80 / RATE), 2 * np.pi * formant / RATE
        samples = lfilter([1.0], [1.0, -2 * r * np.cos(angle), r * r], samples)
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), dtype=np.float32)


@pytest.mark.parametrize("hz", [75.0, 98.5, 130.0, 210.0, 333.0, 440.0])
def test_pitch_of_a_pulse_train(hz: float) -> None:
    found = figures(track([pulses(hz, 1.0)]), 0, 1)
    assert found["pitch_hz"] == pytest.approx(hz, rel=0.01)
    assert found["pitch_range_semitones"] < 0.5
    assert found["voiced_share"] > 0.9


def test_pitch_in_noise_and_no_pitch_in_noise_alone() -> None:
    rng = np.random.default_rng(1)
    hiss = rng.standard_normal(RATE).astype(np.float32)
    voice = pulses(150, 1.0)
    noisy = voice + hiss * np.float32(np.sqrt(np.mean(voice**2)) * 10 ** (-15 / 20))
    assert figures(track([noisy]), 0, 1)["pitch_hz"] == pytest.approx(150, rel=0.01)
    assert "pitch_hz" not in figures(track([0.1 * hiss]), 0, 1)


def test_range_of_a_glide_in_semitones() -> None:
    times = np.arange(2 * RATE) / RATE
    hz = 120 * 2 ** (times / 2)  # an octave
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    glide = sum(np.sin(k * phase) / k for k in range(1, 8)).astype(np.float32) * 0.1
    found = figures(track([glide]), 0, 2)
    assert found["pitch_range_semitones"] == pytest.approx(0.9 * 12, abs=0.5)
    assert found["pitch_hz"] == pytest.approx(120 * 2**0.5, rel=0.02)


def test_pauses_speed_and_level() -> None:
    tone = pulses(140, 1.0)
    samples = np.concatenate([silence(0.5), tone, silence(0.5), tone, silence(0.1), tone, silence(0.7)])
    found = figures(track([samples]), 0, len(samples) / RATE, 12)
    sounding = 3 * 1.0 + 0.5 + 0.1  # silence at the ends is no pause
    assert found["pause_share"] == pytest.approx(0.5 / sounding, abs=0.02)
    assert found["pauses_per_minute"] == pytest.approx(60 / sounding, rel=0.03)  # a tenth of a second is none either
    assert found["pause_seconds"] == pytest.approx(0.5, abs=0.04)
    assert found["words_per_second"] == pytest.approx(12 / sounding, rel=0.03)
    level = 20 * np.log10(np.sqrt(np.mean(tone**2)))
    assert found["energy_db"] == pytest.approx(level, abs=1.0)
    quieter = figures(track([samples / 4]), 0, len(samples) / RATE)
    assert found["energy_db"] - quieter["energy_db"] == pytest.approx(20 * np.log10(4), abs=0.1)


def test_blocks_make_no_difference_and_silence_gives_nothing() -> None:
    rng = np.random.default_rng(2)
    samples = np.concatenate([pulses(110, 0.7), silence(0.4), pulses(190, 0.5)]) + 1e-4 * rng.standard_normal(
        int(1.6 * RATE)
    ).astype(np.float32)
    whole = track([samples])
    parts = track(np.split(samples, [1000, 7777, 20000]))
    assert len(whole.pitch_hz) == len(parts.pitch_hz) == len(whole.energy_db) == 160
    np.testing.assert_array_equal(whole.energy_db, parts.energy_db)
    assert (np.abs(whole.pitch_hz - parts.pitch_hz) < 1).mean() > 0.9  # near a border fewer neighbours are known
    assert figures(track([silence(1.0)]), 0, 1) == {}
    assert figures(track([]), 0, 1) == {}
    assert isinstance(whole, Track)
