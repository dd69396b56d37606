"""The whole chain on synthetic speech: 200 files of five formats with noise, and memory from one minute to three hours.

`files`: two-voice dialogues, a quarter each clean and at 20, 10 and 5 dB, as WAV, MP3, M4A, Ogg Opus and FLAC; a file has failed where
something broke (`empty`: too little of it was understood to keep anything, which is the filter at work). `memory`: one process a length,
its peak resident memory. Real-time factors are of processor time over the sound's length, and of wall clock where the machine is calm.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import av
import machine
import numpy as np

from attunement.config import load_settings
from attunement.sources.voice.run import ingest
from voice_parts import speaking

FORMATS = {"wav": "pcm_s16le", "mp3": "libmp3lame", "m4a": "aac", "ogg": "libopus", "flac": "flac"}
NOISES = (None, 20.0, 10.0, 5.0)
FILES, TURNS = 200, 2
MINUTES = (1, 10, 180)
UNDERSTOOD_TOO_LITTLE = ("nothing_understood",)


def save(samples: speaking.Samples, path: Path) -> Path:
    """The samples as a file of the format that its ending names."""
    with av.open(str(path), "w") as container:
        rate = 48000 if path.suffix == ".ogg" else speaking.RATE
        stream = container.add_stream(FORMATS[path.suffix[1:]], rate=rate)
        stream.layout = "mono"
        resampler = av.AudioResampler(format=stream.codec_context.format or "s16", layout="mono", rate=rate)
        step = 60 * speaking.RATE
        for at in range(0, len(samples), step):
            block = (np.clip(samples[at : at + step], -1, 1) * 32767).astype("<i2")
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = speaking.RATE
            for resampled in resampler.resample(frame):
                container.mux(stream.encode(resampled))
        for resampled in resampler.resample(None):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return path


def files(folder: Path, count: int = FILES) -> float:
    """Writes `count` recordings; returns their length in seconds."""
    rng = np.random.default_rng(11)
    seconds = 0.0
    for number in range(count):
        one, other = rng.permutation(speaking.VOICES)[:2]
        speech = speaking.dialogue(str(one), str(other), TURNS, rng)
        noise = NOISES[number % len(NOISES)]
        if noise is not None:
            speech = speaking.noisy(speech, noise, rng, noise="babble" if number % 8 > 3 else "pink")
        ending = list(FORMATS)[number % len(FORMATS)]
        save(speech.samples, folder / f"{number:03}-{'clean' if noise is None else f'{noise:g}db'}.{ending}")
        seconds += speech.seconds
    return seconds


def measure_files(count: int = FILES) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "in", Path(name) / "out"
        folder.mkdir()
        seconds = files(folder, count)
        lines: list[str] = []
        began, cpu = time.perf_counter(), time.process_time()
        report = ingest([str(folder)], out, load_settings().settings, told=lines.append)
        took, worked = time.perf_counter() - began, time.process_time() - cpu
        rows = json.loads((out / ".work" / "recordings.json").read_text(encoding="utf-8"))
    by_noise: dict[str, Counter[str]] = {}
    for row in rows:
        noise = Path(row["source"]).stem.split("-")[1]
        by_noise.setdefault(noise, Counter())[row["outcome"] if row["outcome"] == "kept" else row["reason"]] += 1
    empty = sum(report["recordings"]["failed_by_reason"].get(code, 0) for code in UNDERSTOOD_TOO_LITTLE)
    return {
        "files": count,
        "audio_seconds": round(seconds),
        "failed": report["recordings"]["failed"] - empty,
        "empty": empty,
        "outcomes_by_noise": {noise: dict(found) for noise, found in sorted(by_noise.items())},
        "real_time_factor_wall": round(took / seconds, 3),
        "real_time_factor_cpu": round(worked / seconds, 3),
        "report": report,
        "failures": [line for line in lines if not line.split(": ")[0].endswith(tuple(FORMATS))][:10],
    }


def measure_memory(minutes: tuple[int, ...] = MINUTES) -> dict[str, Any]:
    """Peak resident memory of one process for each length. The sound is two-voice dialogue without a pause longer than a second."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for length in minutes:
            path = Path(name) / f"{length}.m4a"
            _long(path, length)
            found[str(length)] = _alone(path, Path(name) / f"out-{length}")
            path.unlink()
    first, last = found[str(minutes[0])], found[str(minutes[-1])]
    return {"by_minutes": found, "peak_ratio": round(last["peak_mib"] / first["peak_mib"], 3)}


def _long(path: Path, minutes: int) -> None:
    """Ten minutes of talk, as often as it takes."""
    rng = np.random.default_rng(5)
    parts, seconds = [], 0.0
    while seconds < 60 * min(minutes, 10):
        speech = speaking.dialogue("rms", "slt", 20, rng)
        parts.append(speech.samples)
        seconds += speech.seconds
    block = np.concatenate(parts)[: 60 * min(minutes, 10) * speaking.RATE]
    save(np.tile(block, max(1, minutes // 10)), path)


def _alone(path: Path, out: Path) -> dict[str, Any]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "voice_parts.chain", str(path), str(out)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(machine.ROOT / "src"), str(machine.ROOT / "benchmarks")])}
    told = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    row: dict[str, Any] = json.loads(told.splitlines()[-1])
    return row | {"wall_seconds": round(time.perf_counter() - began, 1)}


def measure(parts: tuple[str, ...] = ("files", "memory")) -> dict[str, Any]:
    return ({"files": measure_files()} if "files" in parts else {}) | ({"memory": measure_memory()} if "memory" in parts else {})


if __name__ == "__main__":  # one length of `memory`, in a process of its own
    source, target = sys.argv[1:]
    report = ingest([source], Path(target), load_settings().settings)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    row = {
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "recordings": report["recordings"],
        "pairs": report["pairs"]["kept"],
        "segments": report["segments"]["kept"],
    }
    print(json.dumps(row))
