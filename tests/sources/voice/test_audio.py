"""Sound from any file: formats, lies, damage, and memory that stays flat."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from sounds import CODECS, encode, tone

from attunement.errors import RecordingError
from attunement.sources.voice.audio import RATE, blocks, levels, pieces, probe


def heard(path: Path) -> np.ndarray:
    return np.concatenate(list(blocks(path)))


def hertz(sound: np.ndarray) -> float:
    """The loudest frequency."""
    return float(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax()) * RATE / len(sound)


@pytest.mark.parametrize("kind", CODECS)
def test_every_format_gives_the_same_sound(kind: str, tmp_path: Path) -> None:
    rate = 48000 if kind == "opus" else 44100
    left, right = tone(2.0, 440, rate=rate), tone(2.0, 440, level=0.1, rate=rate)
    path = encode(tmp_path / f"s.{kind}", np.stack([left, right]), rate=rate)
    sound, lying = probe(path), path.rename(tmp_path / "s.txt")
    samples = heard(lying)
    assert samples.dtype == np.float32 and abs(len(samples) / RATE - 2) < 0.1 and abs(sound.duration_seconds - 2) < 0.1
    assert abs(hertz(samples) - 440) < 2 and abs(np.abs(samples[8000:24000]).max() - 0.2) < 0.03
    assert (sound.rate, sound.channels, sound.fault) == (rate, 2, "") and abs(sound.loudest_db - -17) < 1.5


def test_samples_are_finite_and_within_one(tmp_path: Path) -> None:
    wild = tone(1.0, level=3.0)
    wild[100], wild[200] = np.nan, np.inf
    head = b"RIFF" + struct.pack("<I", 36 + wild.nbytes) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 16000, 64000, 4, 32)
    path = tmp_path / "wild.wav"
    path.write_bytes(head + b"data" + struct.pack("<I", wild.nbytes) + wild.tobytes())
    samples = heard(path)
    assert len(samples) == 16000 and np.isfinite(samples).all() and np.abs(samples).max() == 1.0


def test_a_channel_wired_the_wrong_way_does_not_cancel_the_other(tmp_path: Path) -> None:
    sound = tone(1.0)
    assert np.abs(heard(encode(tmp_path / "s.wav", np.stack([sound, -sound])))).max() > 0.25


def test_pieces_are_the_samples_of_their_spans(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 70 * RATE, dtype=np.float32)
    path = encode(tmp_path / "ramp.wav", ramp)
    spans = [(0.0, 0.5), (0.25, 31.0), (29.9, 60.1), (60.1, 60.1), (69.5, 75.0), (80.0, 81.0)]
    found = list(pieces(path, spans))
    for (start, end), piece in zip(spans, found, strict=True):
        assert np.allclose(piece, ramp[round(start * RATE) : round(end * RATE)], atol=1e-4)
    assert [len(piece) for piece in found[-3:]] == [0, 8000, 0]
    with pytest.raises(AssertionError, match="sorted"):
        list(pieces(path, [(2.0, 3.0), (1.0, 2.0)]))


def test_a_cut_file_gives_what_decodes_and_tells(tmp_path: Path) -> None:
    for kind in ("wav", "mp3", "flac"):
        path = encode(tmp_path / f"s.{kind}", tone(10.0))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        sound = probe(path)
        assert 3 < sound.duration_seconds < 7 and abs(sound.duration_seconds + sound.missing_seconds - 10) < 0.5, sound
        assert "missing" in sound.fault


def test_damage_in_the_middle_is_counted_and_keeps_the_time(tmp_path: Path) -> None:
    sound = np.concatenate([tone(5.0, 440), tone(5.0, 880)])
    for kind in ("opus", "m4a"):
        path = encode(tmp_path / f"s.{kind}", sound + 0.001 * np.random.default_rng(0).normal(size=len(sound)).astype(np.float32))
        whole = bytearray(path.read_bytes())
        at = len(whole) * 3 // 10
        whole[at : at + 2000] = np.random.default_rng(1).bytes(2000)
        path.write_bytes(whole)
        told = probe(path)
        assert (told.damaged_packets or told.gap_seconds) and told.fault, told
        assert abs(told.duration_seconds - 10) < 0.3
        samples = heard(path)
        assert abs(hertz(samples[6 * RATE : 9 * RATE]) - 880) < 2 and abs(hertz(samples[RATE : 2 * RATE]) - 440) < 2


def picture(path: Path) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(b"".join(b"\0" + bytes(48) for _ in range(16)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_what_is_no_recording_has_one_clear_line(tmp_path: Path) -> None:
    half = encode(tmp_path / "half.m4a", tone(3.0))
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])  # its index stood at the end
    made = {
        "page.mp3": b"<!doctype html><html><body>" + b"<p>hello there this is text</p>\n" * 500,
        "text.wav": "Grüße aus dem Text.\n".encode() * 3000,
        "utf16.wav": ("hello " * 900).encode("utf-16"),
        "list.mp3": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "noise.mp3": np.random.default_rng(0).bytes(200_000),
        "picture.mp3": picture(tmp_path),
        "zip.m4a": b"PK\x03\x04" + zlib.compress(bytes(range(256)) * 200),
        "empty.mp3": b"",
        "header.wav": b"RIFF\x24\x10\0\0WAVE",
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    with av.open(str(tmp_path / "mute.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    encode(tmp_path / "silent.wav", tone(2.0, level=1e-4))
    expected = dict.fromkeys(made, "not_audio") | {"empty.mp3": "broken", "header.wav": "broken", "half.m4a": "broken"}
    expected |= {"mute.mp4": "no_audio", "silent.wav": "silent", "gone.wav": "not_found"}
    for name, reason in expected.items():
        with pytest.raises(RecordingError) as error:
            probe(tmp_path / name)
        assert (name, error.value.reason) == (name, reason) and name in str(error.value) and "\n" not in str(error.value)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Ten minutes against one, each in its own process. The file's sound is a hole: nothing is written for it."""
    code = (
        "import resource, sys; from pathlib import Path; from attunement.sources.voice.audio import blocks, pieces\n"
        "p = Path(sys.argv[1]); n = sum(len(b) for b in blocks(p))\n"
        "list(map(len, pieces(p, [(t, t + 20) for t in range(0, n // 16000, 25)])))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for seconds in (60, 600):
        path, size = tmp_path / f"{seconds}.wav", seconds * 32000
        head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
        with open(path, "wb") as file:
            file.write(head + b"data" + struct.pack("<I", size))
            file.truncate(44 + size)
        told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout.split()
        assert int(told[0]) == seconds * RATE
        peaks[seconds] = int(told[1]) / 1024
    assert peaks[600] < peaks[60] + 8, peaks  # MiB; ten minutes of floats are 37


def test_levels_are_root_mean_squares_of_frames() -> None:
    sound = np.concatenate([np.full(512, 0.5), np.zeros(512), np.full(256, -0.25)]).astype(np.float32)
    assert np.allclose(levels(sound), [0.5, 0.0, 0.25])
