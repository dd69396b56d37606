"""Sound made by arithmetic and encoded by PyAV, and a server on 127.0.0.1 that can be slow, break off or lead astray."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np

CODECS = {"wav": "pcm_s16le", "mp3": "mp3", "m4a": "aac", "flac": "flac", "opus": "libopus"}


def tone(seconds: float, hertz: float = 440.0, level: float = 0.3, rate: int = 16000) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(path: Path, channels: np.ndarray, *, kind: str = "", rate: int = 16000, options: dict[str, str] | None = None) -> Path:
    """`channels` `[channels, n]` or `[n]`, to a file of the `kind` that its extension (or `kind`) names."""
    kind = kind or path.suffix[1:]
    channels = np.atleast_2d(channels)
    layout = "mono" if len(channels) == 1 else "stereo"
    container_format = {"m4a": "ipod", "opus": "ogg"}.get(kind, kind)
    with av.open(str(path), "w", format=container_format, options=options or {}) as out:
        stream = out.add_stream(CODECS[kind], rate=rate, layout=layout)
        for at in range(0, channels.shape[1], 16000):
            part = np.ascontiguousarray(channels[:, at : at + 16000])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


class Site:
    """What a test's server serves, and what it was asked. `cut` maps a path to bytes after which it hangs up, once each in turn."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.cut: dict[str, list[int]] = {}
        self.slow: dict[str, float] = {}
        self.asked: list[tuple[str, str, str]] = []  # path, Range, Authorization
        self.url = ""

    def ranges(self, path: str) -> list[str]:
        return [found for asked, found, _ in self.asked if asked == path]


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, body: bool = True) -> None:
            path = self.path.split("?")[0]
            if body:
                site.asked.append((path, self.headers.get("Range") or "", self.headers.get("Authorization") or ""))
            if path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[path])
                self.end_headers()
                return
            if path in site.statuses or path not in site.files:
                self.send_error(site.statuses.get(path, 404))
                return
            kind, content = site.files[path]
            start = int(found[1]) if (found := re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")) else 0
            self.send_response(206 if found else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if found:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            for name, value in site.headers.get(path, {}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self._send(path, content[start:])

        def _send(self, path: str, content: bytes) -> None:
            most = site.cut[path].pop(0) if site.cut.get(path) else len(content)
            with contextlib.suppress(OSError):
                for at in range(0, most, 8192):
                    self.wfile.write(content[at : min(at + 8192, most)])
                    if path in site.slow:
                        stop.wait(site.slow[path])
            self.close_connection = True

    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""Formants in Hz of a, i, u, e and o (Peterson and Barney 1952, men)."""


def babble(seconds: float, generator: np.random.Generator, rate: int = 16000) -> np.ndarray:
    """Syllables of noise and vowel by source and filter: nobody's words, and speech to a detector. Whole syllables, at most `seconds`."""
    parts, length = [], 0
    while True:
        n = round(rate * generator.uniform(0.11, 0.19))
        if length + n > seconds * rate:
            break
        hertz = generator.uniform(105, 145) * np.linspace(1.05, 0.92, n)
        pulses = np.diff(np.floor(np.cumsum(hertz) / rate), prepend=0.0) + 0.01 * generator.normal(size=n)
        voice = pulses
        for formant, width in zip(VOWELS[generator.integers(5)], (90, 130, 180), strict=True):
            voice = _resonance(voice, formant, width, rate)
        shape = np.minimum(1, np.minimum(np.arange(n) / (0.02 * rate), np.arange(n)[::-1] / (0.04 * rate)))
        breath = generator.normal(size=n) * np.exp(-np.arange(n) / (0.015 * rate))
        parts.append(0.3 * shape * voice / np.abs(voice).max() + 0.05 * breath)
        length += n
    return np.concatenate([*parts, np.zeros(round(seconds * rate) - length)]).astype(np.float32)


def _resonance(sound: np.ndarray, hertz: float, width: float, rate: int) -> np.ndarray:
    from scipy.signal import lfilter

    radius = np.exp(-np.pi * width / rate)
    return lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hertz / rate), radius**2], sound)
