"""Who hears: words with times from PocketSphinx and from a real (tiny) Whisper; errors that say what to do."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_whisper import make_whisper

from attunement.config import VoiceSettings
from attunement.errors import ModelError
from attunement.sources.voice.engines import RATE, PocketSphinx, Whisper, levelled, open_transcriber
from attunement.sources.voice.language import language_of


@pytest.fixture(scope="module")
def engine() -> PocketSphinx:
    return PocketSphinx()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    if not shutil.which("flite"):
        pytest.skip("flite is not installed (apt install flite): no speech to hear")
    path = tmp_path_factory.mktemp("flite") / "said.wav"
    subprocess.run(["flite", "-voice", "kal16", "-t", "one small walk every day", "-o", str(path)], check=True)
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / 32768


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(int(seconds * RATE)) * 0.05).astype(np.float32)


def test_pocketsphinx_hears_words_at_their_times(engine: PocketSphinx, spoken: NDArray[np.float32]) -> None:
    words = engine.hear(spoken, start_seconds=100.0)
    assert [word.text for word in words] == ["one", "small", "walk", "every", "day"]
    assert all(100 <= w.start_seconds < w.end_seconds <= 100 + len(spoken) / RATE and 0 < w.confidence <= 1 for w in words)
    assert all(a.end_seconds <= b.start_seconds + 0.011 for a, b in itertools.pairwise(words))
    assert engine.pieces and engine.heard_seconds >= len(spoken) / RATE and engine.took_seconds > 0


def test_what_was_heard_before_and_loudness_change_nothing(engine: PocketSphinx, spoken: NDArray[np.float32]) -> None:
    first = engine.hear(spoken)
    engine.hear(noise(1.5))
    assert engine.hear(spoken) == first
    assert [w.text for w in engine.hear(spoken * 0.02)] == [w.text for w in first]


def test_noise_and_silence_give_no_fillers(engine: PocketSphinx) -> None:
    assert engine.hear(np.zeros(RATE, dtype=np.float32)) == []
    assert engine.hear(np.zeros(0, dtype=np.float32)) == []
    assert all(re.fullmatch(r"[a-z'.-]+", word.text) for word in engine.hear(noise(2.0)))


def test_levelled_brings_loud_and_soft_to_one_level_and_leaves_silence() -> None:
    for scale in (0.05, 0.3, 5.0):  # of a level of 0.05: at most 40 dB are put on
        made = levelled(noise(0.5) * np.float32(scale) + np.float32(0.2))
        assert np.sqrt(np.mean(made**2)) == pytest.approx(0.1, rel=0.02) and abs(made.mean()) < 1e-3
    assert not levelled(np.full(800, 0.3, dtype=np.float32)).any()


def test_whisper_from_a_folder_gives_words_and_the_language(whisper: Path) -> None:
    engine = open_transcriber(VoiceSettings.model_construct(engine="whisper", whisper_model=str(whisper), device="cpu"))
    tries = (engine.hear(noise(3.0), start_seconds=10.0) for _ in range(20))
    words = next(filter(None, tries), [])  # random weights, sampled at a temperature, write nothing now and then
    assert words and all(type(w.start_seconds) is float and 10 <= w.start_seconds <= w.end_seconds <= 13 for w in words)
    assert all(type(w.confidence) is float and 0 <= w.confidence <= 1 and w.text == w.text.strip() != "" for w in words)
    assert engine.punctuates and sum(engine.languages().values()) == pytest.approx(1, abs=0.01)
    assert language_of("", engine.languages()).by == "sound"
    engine.begin()
    assert not engine.languages() and engine.pieces >= 1


def test_a_whisper_that_cannot_be_had_is_told_in_one_line(whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    partial = tmp_path / "partial"
    partial.mkdir()
    (partial / "model.bin").write_bytes(b"x")
    broken = tmp_path / "broken"
    shutil.copytree(whisper, broken)
    (broken / "model.bin").write_bytes(b"not a model")
    for model, told in (
        (str(partial), "tokenizer.json"),
        (str(tmp_path / "none"), "no folder"),
        (str(broken), "cannot be had"),
        ("no-such-size", "cannot be had"),
        ("nobody/no-such-model", "cannot be had"),
    ):
        with pytest.raises(ModelError, match=told) as error:
            Whisper(model, "cpu")
        assert "\n" not in str(error.value) and "voice.whisper_model" in str(error.value)
