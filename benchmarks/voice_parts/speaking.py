"""Speech whose words, times and speakers are known, made by Debian's `flite` from sentences of our own (`data/spoken.txt`).

Four voices (`kal16` of diphones, `rms`, `slt` and `awb` of recorded units), all at 16 kHz. A turn is cut to its sound, so its times
are where it is heard; between turns there are pauses. Noise is pink, or a babble of five reversed voices (speech without words).
It is synthetic speech: evenly spoken, without hesitation, room or overlap. Figures on it say how parts of the chain compare and
whether they work, nothing on real recordings.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 16000
VOICES = ("kal16", "rms", "slt", "awb")
STOCK = Path(__file__).resolve().parents[1] / "data" / "spoken.txt"
KINDS = {"T": "therapist", "C": "client", "L": "lecturer"}
_SILENT = 10 ** (-40 / 20)
"""Of its peak: what is softer at either end of a turn is cut."""
_LEVEL = 0.08
"""Root mean square of a turn before its own gain."""
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Said:
    """A turn: when it is heard (seconds), in which voice, and its text with punctuation."""

    start_seconds: float
    end_seconds: float
    voice: str
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Speech:
    """`samples[n]` float32 at 16 kHz within -1..1, and what is in them."""

    samples: Samples
    turns: tuple[Said, ...]
    snr_db: float | None = None
    noise: str = ""

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


def available() -> bool:
    """Whether flite is on this machine: `apt install flite`."""
    return shutil.which("flite") is not None


def stock(part: str = "") -> list[tuple[str, str]]:
    """(kind, text) of each line. `part`: "fit" for the even lines, "held_out" for the odd ones, all without a name."""
    rows = [line.split(": ", 1) for line in STOCK.read_text(encoding="utf-8").splitlines() if line[:1] in KINDS]
    rows = rows[{"fit": 0, "held_out": 1}.get(part, 0) :: 2 if part else 1]
    return [(KINDS[kind], text) for kind, text in rows]


def words_of(text: str) -> list[str]:
    """Words as a reference for the word error rate: lower case, no punctuation, apostrophes kept."""
    plain = "".join(c if c.isalnum() or c == "'" else " " for c in text.lower())
    return plain.split()


@lru_cache(maxsize=2048)
def _spoken(text: str, voice: str, stretch: float, pitch_hz: float) -> Samples:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        pitch = ["--setf", f"int_f0_target_mean={pitch_hz}"] if pitch_hz else []
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", *pitch, "-t", text, "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        samples = read_wav(path)
    loud = np.flatnonzero(np.abs(samples) > _SILENT * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    samples.setflags(write=False)
    return samples


def say(text: str, voice: str, *, stretch: float = 1.0, pitch_hz: float = 0.0, gain_db: float = 0.0) -> Samples:
    """One turn, cut to its sound, at an even level. `stretch` over 1 is slower; `pitch_hz` 0 is the voice's own."""
    samples = _spoken(text, voice, round(stretch, 2), round(pitch_hz))
    level = float(np.sqrt(np.mean(samples**2)))
    return np.clip(samples * (_LEVEL / level * 10 ** (gain_db / 20)), -1, 1).astype(np.float32)


def talk(turns: Sequence[tuple[str, str]], rng: np.random.Generator, *, kinds: Sequence[str] = ()) -> Speech:
    """(voice, text) one after the other, with pauses of 0.2-1 s, speed within 12 % and level within 3 dB."""
    parts: list[Samples] = [_silence(rng.uniform(0.2, 1.0))]
    said: list[Said] = []
    at = len(parts[0])
    for number, (voice, text) in enumerate(turns):
        samples = say(text, voice, stretch=rng.uniform(0.88, 1.12), gain_db=rng.uniform(-3, 3))
        said.append(Said(at / RATE, (at + len(samples)) / RATE, voice, text, kinds[number] if kinds else ""))
        pause = _silence(rng.uniform(0.2, 1.0))
        parts += [samples, pause]
        at += len(samples) + len(pause)
    return Speech(np.concatenate(parts), tuple(said))


def monologue(voice: str, sentences: int, rng: np.random.Generator, *, part: str = "", kind: str = "lecturer") -> Speech:
    """One voice, `sentences` lines of the stock of one kind (of all where it has too few), none twice while it lasts."""
    lines = [text for k, text in stock(part) if k == kind]
    lines = _drawn(lines if len(lines) >= sentences else [text for _, text in stock(part)], sentences, rng)
    return talk([(voice, text) for text in lines], rng, kinds=[kind] * len(lines))


def dialogue(therapist: str, client: str, turns: int, rng: np.random.Generator, *, part: str = "") -> Speech:
    """Two voices that take turns of one or two lines, the one who helps first."""
    lines = {kind: _drawn([t for k, t in stock(part) if k == kind], 2 * turns, rng) for kind in ("therapist", "client")}
    rows: list[tuple[str, str]] = []
    kinds: list[str] = []
    for number in range(turns):
        kind = "client" if number % 2 else "therapist"
        text = " ".join(lines[kind].pop() for _ in range(int(rng.integers(1, 3))))
        rows.append((client if number % 2 else therapist, text))
        kinds.append(kind)
    return talk(rows, rng, kinds=kinds)


def noisy(speech: Speech, snr_db: float, rng: np.random.Generator, *, noise: str = "pink") -> Speech:
    """With `pink` or `babble` noise, `snr_db` below the level of what is spoken (pauses are not counted)."""
    heard = np.concatenate([speech.samples[int(t.start_seconds * RATE) : int(t.end_seconds * RATE)] for t in speech.turns])
    made = (_pink if noise == "pink" else _babble)(len(speech.samples), rng)
    made *= np.sqrt(np.mean(heard**2) / np.mean(made**2)) * 10 ** (-snr_db / 20)
    mixed = speech.samples + made
    mixed /= max(1.0, float(np.abs(mixed).max()))
    return replace(speech, samples=mixed.astype(np.float32), snr_db=snr_db, noise=noise)


def backwards(speech: Speech) -> Speech:
    """The same sound reversed: like speech, but nothing in it is a word."""
    turns = [
        replace(t, start_seconds=speech.seconds - t.end_seconds, end_seconds=speech.seconds - t.start_seconds, text="")
        for t in reversed(speech.turns)
    ]
    return replace(speech, samples=speech.samples[::-1].copy(), turns=tuple(turns))


def read_wav(path: Path) -> Samples:
    """Samples of a mono WAV of 16 bit at 16 kHz."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2), (
            f"{path} is not mono, 16 bit, 16 kHz"
        )
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / 32768


def write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def _silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), dtype=np.float32)


def _drawn(lines: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += [lines[i] for i in rng.permutation(len(lines))]
    return drawn[:count]


def _pink(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Power falls with frequency, flat below 20 Hz. Made in blocks of 30 s, so that an hour costs no memory of its spectrum."""
    block = 30 * RATE
    shape = 1 / np.sqrt(np.maximum(np.fft.rfftfreq(block, 1 / RATE), 20.0))
    parts = [np.fft.irfft(np.fft.rfft(rng.standard_normal(block)) * shape) for _ in range(-(-count // block))]
    return np.concatenate(parts)[:count]


def _babble(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Five voices at once, each reversed."""
    made = np.zeros(count)
    lines = [text for _, text in stock()][::19]  # eight: flite is the slow part
    for number in range(5):
        at = 0
        while at < count:
            part = say(lines[int(rng.integers(len(lines)))], VOICES[number % len(VOICES)])[::-1][: count - at]
            made[at : at + len(part)] += part
            at += len(part)
    return made
