"""The speaker encoder and who spoke when: voices of numpy, and flite's where it is installed; error rates of hand cases."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attunement.config import VoiceSettings
from attunement.errors import ConfigError, MissingExtraError
from attunement.sources.voice import diarisation
from attunement.sources.voice.diarisation import Clustering, Stretch, assign, open_diariser, read_annotation, speakers_of
from attunement.sources.voice.speaker_encoder import RATE, SpeakerEncoder, mel_spectrogram

ROOT = Path(__file__).resolve().parents[3]
TONE_BAND, TONE_POWERS = 13, (22.105159759521484, 26.129993438720703, 0.782134473323822)
VOICES = {"deep": (95.0, (600, 1000, 2400)), "high": (230.0, (350, 2100, 3000))}


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder()


def voice(name: str, seconds: float, seed: int) -> np.ndarray:
    """Syllables of a voice: a pulse train whose pitch and resonances move about its own."""
    from scipy.signal import lfilter

    rng, (hz, formants) = np.random.default_rng(seed), VOICES[name]
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * RATE:
        count = int(rng.uniform(0.12, 0.3) * RATE)
        pitch = hz * rng.uniform(0.9, 1.1) * np.linspace(1.05, 0.95, count)
        samples = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
        for formant in formants:
            r, angle = np.exp(-np.pi * 90 / RATE), 2 * np.pi * formant * rng.uniform(0.8, 1.2) / RATE
            samples = lfilter([1.0], [1.0, -2 * r * np.cos(angle), r * r], samples)
        parts += [0.2 * samples / np.abs(samples).max() * np.hanning(count) ** 0.3, np.zeros(int(rng.uniform(0.05, 0.12) * RATE))]
    return np.concatenate(parts)[: int(seconds * RATE)].astype(np.float32)


def test_mel_bands_are_slaneys() -> None:
    """Figures of librosa 0.11's `melspectrogram(sr=16000, n_fft=400, hop_length=160, n_mels=40)` of the same tone."""
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    mel = mel_spectrogram(tone)
    assert mel.shape == (101, 40)
    middle = mel[50]
    assert int(middle.argmax()) == TONE_BAND
    np.testing.assert_allclose(middle[TONE_BAND - 1 : TONE_BAND + 2], TONE_POWERS, rtol=1e-4)


def test_windows_of_a_voice(encoder: SpeakerEncoder) -> None:
    times, vectors = encoder.windows(voice("deep", 5.0, 1), start_seconds=10.0)
    assert vectors.shape == (len(times), 256) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.diff(times[:, 0]), 0.4)
    assert times[0, 0] == 10.0 and times[-1, 1] <= 15.0 + 1e-9
    short_times, short = encoder.windows(voice("deep", 0.5, 2))
    assert short.shape == (1, 256) and short_times[0].tolist() == [0.0, 0.5]
    assert encoder.windows(np.zeros(0, dtype=np.float32))[1].shape == (0, 256)


def test_a_voice_is_nearer_to_itself(encoder: SpeakerEncoder) -> None:
    means = {(name, seed): encoder.windows(voice(name, 4.0, seed))[1].mean(0) for name in VOICES for seed in (3, 4)}
    means = {key: value / np.linalg.norm(value) for key, value in means.items()}
    same = min(means[name, 3] @ means[name, 4] for name in VOICES)
    assert same > 0.9 > max(means["deep", seed] @ means["high", other] for seed in (3, 4) for other in (3, 4)) + 0.1


def test_two_voices_in_turn(encoder: SpeakerEncoder) -> None:
    """Spans of one turn, and one that holds the end of a turn and the beginning of the next."""
    pieces = [
        (0.0, voice("deep", 6.0, 5)),
        (7.0, voice("high", 6.0, 6)),
        (14.0, np.concatenate([voice("deep", 5.0, 7), voice("high", 6.0, 8)])),
    ]
    heard = Clustering(encoder=encoder).of_pieces(pieces)
    assert [s.speaker for s in heard] == ["S1", "S2", "S1", "S2"]
    assert heard[2].end_seconds == pytest.approx(19.0, abs=0.5)
    assert [(heard[0].start_seconds, heard[0].end_seconds), heard[3].end_seconds] == [(0.0, 6.0), 25.0]
    assert Clustering(1, encoder).of_pieces(pieces)[-1].speaker == "S1"


def test_one_voice_is_one_speaker(encoder: SpeakerEncoder) -> None:
    heard = Clustering(encoder=encoder).of_pieces([(10.0 * i, voice("high", 8.0, 20 + i)) for i in range(5)])
    assert {s.speaker for s in heard} == {"S1"}
    assert Clustering(encoder=encoder).of_pieces([]) == []
    assert len(Clustering(encoder=encoder).of_pieces([(0.0, voice("deep", 0.4, 9))])) == 1


@pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed (apt install flite)")
def test_flites_voices(encoder: SpeakerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two that are most alike, and one alone, from file to stretches."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from voice_parts import speaking
    from voice_parts.diarisation_error import error_rate

    from attunement.sources.voice.activity import speech_spans

    path, rng = tmp_path / "talk.wav", np.random.default_rng(4)
    speech = speaking.dialogue("rms", "awb", 6, rng)
    speaking.write_wav(path, speech.samples)
    heard = Clustering(encoder=encoder).stretches(path, speech_spans(path))
    rate = error_rate(
        [(t.start_seconds, t.end_seconds, t.voice) for t in speech.turns],
        [(s.start_seconds, s.end_seconds, s.speaker) for s in heard],
    )
    assert rate["rate"] < 0.15
    speaking.write_wav(path, speaking.monologue("slt", 6, rng).samples)
    assert {s.speaker for s in Clustering(encoder=encoder).stretches(path, speech_spans(path))} == {"S1"}


def test_as_many_speakers_as_there_are_means() -> None:
    """Clusters of known number with a spread like speech's, more windows than are clustered, one of them a tenth of the talk."""
    rng = np.random.default_rng(11)
    means = rng.standard_normal((4, 256))
    sizes = (900, 600, 500, 200)
    vectors = np.concatenate([m + 0.5 * rng.standard_normal((n, 256)) for m, n in zip(means, sizes, strict=True)])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert len(np.unique(speakers_of(vectors, 6, 0.4))) == 4
    assert len(np.unique(speakers_of(vectors, 3, 0.4))) == 3
    assert len(np.unique(speakers_of(vectors[:900], 6, 0.4))) == 1


def test_the_path_of_least_cost() -> None:
    """A stray frame is no change of speaker; where the sound is low less evidence is enough."""
    likes = np.repeat([[1.0, 0.0], [0.0, 1.0]], 10, axis=0)
    likes[4] = [0.0, 1.0]
    path = diarisation._viterbi(likes, np.full(20, 3.0))
    assert path.tolist() == [0] * 10 + [1] * 10
    assert diarisation._viterbi(likes, np.full(20, 30.0)).tolist() == [1] * 20
    cheap = np.full(20, 3.0)
    cheap[[4, 5]] = 0.1
    assert diarisation._viterbi(likes, cheap)[4] == 1


def test_another_systems_answer_within_the_spans() -> None:
    rows = [(SimpleNamespace(start=4.0, end=9.0), "x", "SPEAKER_01"), (SimpleNamespace(start=0.5, end=4.2), "y", "SPEAKER_00")]
    annotation: Any = SimpleNamespace(itertracks=lambda yield_label: iter(rows))
    for answer in (annotation, SimpleNamespace(speaker_diarization=annotation)):  # versions 3 and 4
        heard = read_annotation(answer)
        assert [s.speaker for s in heard] == ["SPEAKER_00", "SPEAKER_01"]
    found = assign([(0.0, 3.0), (3.5, 10.0)], heard)
    assert found == [Stretch(0.0, 3.0, "S1"), Stretch(3.5, 4.0, "S1"), Stretch(4.0, 10.0, "S2")]
    assert assign([(0.0, 1.0)], []) == [Stretch(0.0, 1.0, "S1")]


def test_which_diariser() -> None:
    assert isinstance(open_diariser(VoiceSettings()), Clustering)
    with pytest.raises(ConfigError, match="pyannote_model"):
        open_diariser(VoiceSettings(diarisation="pyannote"))
    with pytest.raises(MissingExtraError, match=r"attunement\[pyannote\]"):
        open_diariser(VoiceSettings(diarisation="pyannote", pyannote_model="somewhere"))


def test_error_rates_of_hand_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from voice_parts.diarisation_error import error_rate

    said = [(0.0, 10.0, "a"), (10.0, 20.0, "b")]
    assert error_rate(said, [(0.0, 10.0, "1"), (10.0, 20.0, "2")], 0)["rate"] == 0
    assert error_rate(said, [(0.0, 20.0, "1")], 0) == pytest.approx(
        {"rate": 0.5, "missed": 0, "false_alarm": 0, "confused": 0.5, "seconds": 20}
    )
    shifted = [(0.0, 10.2, "1"), (10.2, 20.2, "2")]
    assert error_rate(said, shifted, 0) == pytest.approx(
        {"rate": 0.02, "missed": 0, "false_alarm": 0.01, "confused": 0.01, "seconds": 20}
    )
    assert error_rate(said, shifted, 0.25)["rate"] == 0
    assert error_rate(said, [(0.0, 8.0, "1")], 0)["missed"] == pytest.approx(0.6)
    both = [(0.0, 10.0, "a"), (0.0, 10.0, "b")]
    assert error_rate(both, [(0.0, 10.0, "1")], 0) == pytest.approx(
        {"rate": 0.5, "missed": 0.5, "false_alarm": 0, "confused": 0, "seconds": 20}
    )
