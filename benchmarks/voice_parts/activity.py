"""Stretches of speech: how much of flite's speech is found, what is taken for speech where nobody speaks, memory and speed.


Truth: an utterance is from its first to its last frame above -50 dBFS. "False" is the share of the time more than 0.35 s from any
utterance that lies in a stretch (0.2 s of padding are wanted).
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np

from attunement.errors import RecordingError
from attunement.sources.voice.activity import speech_spans
from attunement.sources.voice.audio import RATE, blocks, levels

VOICES = ("kal16", "rms", "slt", "awb")
SAID = (
    "I have been feeling very tired lately, and I do not sleep.",
    "Tell me more about what happens at night.",
    "When I lie down my thoughts begin to race, and then I get up again.",
    "That sounds exhausting. What do you do then?",
    "Mostly I sit in the kitchen and look at my phone.",
    "And how do you feel in the morning?",
    "Terrible. As if I had not slept at all.",
)
EDGE_SECONDS = 0.35


def save(sound: np.ndarray, path: Path) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def talk(voice: str, folder: Path, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Seven utterances with 1 to 3 s between them, `[n]` at -3 dB, and which samples are speech."""
    parts, marks = [], []
    for said in SAID:
        gap = round(RATE * generator.uniform(1, 3))
        path = folder / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", said, "-o", str(path)], check=True)
        sound = np.concatenate(list(blocks(path)))
        loud = np.flatnonzero(levels(sound) > 10 ** (-50 / 20))
        mark = np.zeros(len(sound), bool)
        mark[loud[0] * 512 : (loud[-1] + 1) * 512] = True
        parts += [np.zeros(gap, np.float32), sound]
        marks += [np.zeros(gap, bool), mark]
    whole = np.concatenate([*parts, np.zeros(2 * RATE, np.float32)])
    return whole * 0.7 / np.abs(whole).max(), np.concatenate([*marks, np.zeros(2 * RATE, bool)])


def score(sound: np.ndarray, speech: np.ndarray, path: Path) -> dict[str, float]:
    inside = np.zeros(len(sound), bool)
    try:
        spans = speech_spans(save(sound, path))
    except RecordingError:
        spans = []
    for start, end in spans:
        inside[round(start * RATE) : round(end * RATE)] = True
    edge = np.ones(2 * round(EDGE_SECONDS * RATE) + 1)
    far = np.convolve(speech[::160], edge[::160], "same") < 0.5  # by 10 ms
    return {"found": round(float(inside[speech].mean()), 4), "false": round(float(inside[::160][far].mean()), 4)}


def music(seconds: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """What is not speech, by name."""
    n = seconds * RATE
    t = np.arange(n) / RATE
    out = {name: np.zeros(n) for name in ("chords", "melody", "drums")}

    def note(hertz: float, length: int, decay: float) -> np.ndarray:
        part = t[:length]
        return sum(np.sin(2 * np.pi * hertz * k * part) / k for k in range(1, 9)) * np.exp(-decay * part)

    for at in range(0, n - 2 * RATE, RATE // 4):
        out["melody"][at : at + RATE // 4] += 0.15 * note(
            440 * 2 ** (generator.choice([0, 2, 4, 5, 7, 9, 11]) / 12), RATE // 4, 8
        )
        if at % (2 * RATE) == 0:
            root = 220 * 2 ** (generator.choice([0, 5, 7, -3]) / 12)
            out["chords"][at : at + 2 * RATE] += 0.1 * sum(note(root * 2 ** (k / 12), 2 * RATE, 1) for k in (0, 4, 7))
        if at % (RATE // 2) == 0:
            out["drums"][at : at + 2000] += 0.3 * generator.normal(size=2000) * np.exp(-np.arange(2000) / 250)
    out["band"] = out["chords"] + out["melody"] + out["drums"]
    out["vibrato"] = 0.3 * np.sin(2 * np.pi * 330 * t + 3 * np.sin(2 * np.pi * 5.5 * t))
    out["white_noise"] = 0.1 * generator.normal(size=n)
    out["mains_hum"] = 0.2 * note(50, n, 0)
    out["clicks"] = 0.9 * (generator.random(n) < 1e-4)
    out["hiss_65_db"] = 10 ** (-65 / 20) * generator.normal(size=n)
    return out


def found_figures(folder: Path, generator: np.random.Generator) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for voice in VOICES:
        sound, speech = talk(voice, folder, generator)
        power = float(np.sqrt(np.mean(np.square(sound[speech]))))
        noise = generator.normal(size=len(sound)) * power
        band = music(len(sound) // RATE + 1, generator)["band"][: len(sound)]
        band *= power / np.sqrt(np.mean(np.square(band)))
        long_noise = generator.normal(size=60 * RATE) * power * 0.1
        kinds = {
            "clean": (sound, speech),
            "noise_10_db": (sound + noise * 10**-0.5, speech),
            "noise_5_db": (sound + noise * 10**-0.25, speech),
            "at_minus_60_dbfs": (sound * 1e-3 / power, speech),
            "music_10_db_below": (sound + band * 10**-0.5, speech),
            "music_as_loud": (sound + band, speech),
            "noise_20_db_after_a_minute_of_it": (
                np.concatenate([long_noise, sound + noise * 0.1]),
                np.concatenate([np.zeros(60 * RATE, bool), speech]),
            ),
        }
        out[voice] = {kind: score(*pair, folder / "talk.wav") for kind, pair in kinds.items()}
    return out


def none_figures(folder: Path, generator: np.random.Generator) -> dict[str, str]:
    """The reason that each recording without speech is refused with; `heard` where speech is found in it."""
    out = {}
    for kind, sound in music(30, generator).items():
        try:
            speech_spans(save(sound, folder / "none.wav"))
            out[kind] = "heard"
        except RecordingError as error:
            out[kind] = error.reason
    return out


CHILD = """
import resource, sys, time; from pathlib import Path
from attunement.sources.voice.audio import blocks; from attunement.sources.voice.activity import speech_spans
from attunement.errors import RecordingError
start = time.process_time(); path = Path(sys.argv[1])
try: n = sum(map(len, blocks(path))) / 16000 if sys.argv[2] == "blocks" else speech_spans(path)
except RecordingError: pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time() - start)
"""


def memory_figures(folder: Path) -> dict[str, Any]:
    """Peak memory and processor time over a file whose sound is a hole; Silero works as hard on silence."""
    out: dict[str, Any] = {}
    for what, minutes in (("blocks", 1), ("blocks", 180), ("speech_spans", 1), ("speech_spans", 10)):
        size, path = minutes * 60 * 32000, folder / "hole.wav"
        head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 32000, 2, 16)
        with open(path, "wb") as file:
            file.write(head + b"data" + struct.pack("<I", size))
            file.truncate(44 + size)
        told = subprocess.run([sys.executable, "-c", CHILD, str(path), what], capture_output=True, text=True, check=True)
        peak, seconds = map(float, told.stdout.split())
        out[f"{what}_{minutes}_min"] = {
            "peak_mib": round(peak, 1),
            "cpu_seconds_per_audio_second": round(seconds / minutes / 60, 4),
        }
    return out


PARTS = {"memory": lambda folder, generator: memory_figures(folder), "no_speech": none_figures, "speech": found_figures}


def measure() -> dict[str, Any]:
    """All figures of this part."""
    found = {}
    for name, part in PARTS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = part(Path(folder), np.random.default_rng(1))
    return found
