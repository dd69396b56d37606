"""The sound of one open file through PyAV: what it is, its packets, and what of them does not decode.

What a file is, is found by its content. Nothing that it names (a playlist's parts, another file, an address) is ever opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from attunement.errors import MissingExtraError, RecordingError

RATE = 16_000
"""Samples a second that every engine here is given (Silero, pocketsphinx, Whisper and speaker encoders are trained on it)."""
BLOCK = 937 * 512
"""Samples of a block, 30 s: whole steps of Silero's, so that no frame lies in two blocks."""
MOSTLY = 0.5
"""Share of damaged packets from which a file is broken rather than damaged."""
GAP_SECONDS = 0.25
"""From here on a jump in the stamps is filled with silence; encoders' delays are below it (AAC 0.1 s at 22 kHz)."""
LONGEST_GAP_SECONDS = 60.0
"""From here on a jump is taken for a damaged stamp and nothing is filled in."""
STUCK = 8
"""Errors of the container in a row after which its end is taken to be reached."""

_PICTURES = ("_pipe", "image2", "gif", "apng")
_SOUND_MARKS = (
    b"RIFF",
    b"RF64",
    b"ID3",
    b"OggS",
    b"fLaC",
    b"FORM",
    b"caff",
    b"#!AMR",
    b"\x1aE\xdf\xa3",
    b"0&\xb2u",
    b".snd",
    b"wvpk",
    b"MAC ",
)
_TEXT_CONTROLS = frozenset(range(32)) - {9, 10, 12, 13, 27}

Samples = NDArray[np.float32]


@contextmanager
def opened(path: Path) -> Iterator[Decoding]:
    """The sound of `path`; the file is closed in the end. Raises `RecordingError`."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise RecordingError("not_found", f"{path} cannot be read: {error.strerror}") from error
        decoding = Decoding(path, file)
        stack.callback(decoding.close)
        yield decoding


class _Readable:
    """A file for PyAV without its name: FFmpeg weighs the extension, and a wrong one would mislead it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


class Decoding:
    """One pass over the sound of an open file, with what was found on the way."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.damaged, self.packets, self.gap_seconds = 0, 0, 0.0
        self._input = _container(path, file)
        stream = self._input.streams.best("audio")
        if stream is None:
            name = self._input.format.name
            if not self._input.streams.video or any(mark in name for mark in _PICTURES):
                raise RecordingError("not_audio", f"{path.name} is not a recording: it holds {name.split(',')[0]}")
            raise RecordingError("no_audio", f"{path.name} is a video without sound")
        self._stream = stream
        self.container, self.codec = self._input.format.name.split(",")[0], stream.codec_context.name
        self.rate, self.channels = int(stream.rate or 0), int(stream.channels or 0)
        self.stated_seconds = self._stated(path)

    def _stated(self, path: Path) -> float:
        """Seconds that the header promises; 0 where it promises nothing."""
        with open(path, "rb") as file:
            head = file.read(4096)
        if head.startswith(b"RIFF"):  # FFmpeg cuts the length to what is there
            promised = int.from_bytes(head[4:8], "little") + 8
            rate = self._stream.bit_rate or 0
            return promised * 8 / rate if rate and promised < 0xFFFF0000 else 0.0
        if self.container == "mp3" and b"Xing" not in head and b"Info" not in head:
            return 0.0
        if self.container in ("aac", "amr", "amrnb", "amrwb"):  # FFmpeg guesses by the bit rate
            return 0.0
        stream = self._stream
        return float(stream.duration * stream.time_base) if stream.duration else (self._input.duration or 0) / 1_000_000

    def close(self) -> None:
        self._input.close()

    def check(self) -> None:
        """Raises `RecordingError` where most of it was damaged, or nothing was there."""
        if self.damaged > MOSTLY * self.packets or self.packets == self.damaged:
            if _marked(self.path):
                raise RecordingError(
                    "broken", f"{self.path.name} is broken: {self.damaged} of {self.packets} packets do not decode"
                )
            raise RecordingError("not_audio", f"{self.path.name} is not a recording: nothing in it decodes as sound")

    def blocks(self) -> Iterator[Samples]:
        """Blocks of `BLOCK` samples; the last has what is left."""
        block, filled = np.empty(BLOCK, np.float32), 0
        for piece in self._mono():
            while len(piece):
                taken = min(len(piece), BLOCK - filled)
                block[filled : filled + taken] = piece[:taken]
                filled, piece = filled + taken, piece[taken:]
                if filled == BLOCK:
                    yield block
                    block, filled = np.empty(BLOCK, np.float32), 0
        if filled:
            yield block[:filled].copy()

    def _mono(self) -> Iterator[Samples]:
        """Two seconds at a time: a packet may hold 20 ms, and numpy's cost is by the call."""
        waiting: list[NDArray[np.float32]] = []
        held = 0
        for part in self._resampled():
            if waiting and (held > 2 * RATE or len(part) != len(waiting[0])):
                yield _mixed(np.concatenate(waiting, axis=1))
                waiting, held = [], 0
            waiting.append(part)
            held += part.shape[1]
        if waiting:
            yield _mixed(np.concatenate(waiting, axis=1))

    def _resampled(self) -> Iterator[NDArray[np.float32]]:
        """Parts `[channels, n]`; a gap is one of one channel."""
        resampler = _Resampler()
        for frame in self._frames():
            if isinstance(frame, float):
                yield np.zeros((1, round(frame * RATE)), np.float32)
            else:
                yield from resampler.resample(frame)
        yield from resampler.resample(None)

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; a float is seconds of silence, where the stamps say that something is missing."""
        import av

        clock, start = 0.0, (self._input.start_time or 0) / 1_000_000
        for packet in self._packets():
            if packet.pts is not None and packet.time_base:
                gap = float(packet.pts * packet.time_base) - start - clock
                if GAP_SECONDS < gap < LONGEST_GAP_SECONDS:
                    clock += gap
                    self.gap_seconds += gap
                    yield gap
            try:
                for frame in packet.decode():
                    clock += frame.samples / frame.sample_rate
                    yield frame
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream; goes on after an error of the container, until it is stuck."""
        import av

        stuck = 0
        while stuck < STUCK:
            try:
                for packet in self._input.demux(self._stream):
                    if packet.size:
                        self.packets += 1
                        stuck = 0
                    yield packet  # the last one is empty: it empties the decoder
                return
            except av.error.FFmpegError:
                stuck += 1
                self.packets += 1
                self.damaged += 1


class _Resampler:
    """To 16 kHz floats, mono or stereo; begins anew where the stream changes its form."""

    def __init__(self) -> None:
        self._inner: Any = None
        self._form: tuple[Any, ...] = ()

    def resample(self, frame: Any) -> list[NDArray[np.float32]]:
        """Arrays `[channels, n]`; None empties it."""
        import av

        if frame is None:
            return [] if self._inner is None else [out.to_ndarray() for out in self._inner.resample(None)]
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        out: list[NDArray[np.float32]] = []
        if form != self._form:
            out = self.resample(None)
            layout = "mono" if len(frame.layout.channels) == 1 else "stereo"
            self._inner, self._form = av.AudioResampler(format="fltp", layout=layout, rate=RATE), form
        frame.pts = None  # a jump in the stamps would become a jump in the sound
        return out + [part.to_ndarray() for part in self._inner.resample(frame)]


def _mixed(channels: NDArray[np.float32]) -> Samples:
    """`[channels, n]` to `[n]` in -1..1. Channels that would cancel each other (one is wired the wrong way) give the first alone."""
    sound = np.nan_to_num(channels, nan=0.0, posinf=1.0, neginf=-1.0)
    mono: Samples = sound.mean(axis=0, dtype=np.float32)
    if len(sound) == 2 and np.square(mono).sum() < 0.01 * np.square(sound).sum() / 2:
        mono = sound[0]
    return np.clip(mono, -1.0, 1.0)


def _container(path: Path, file: IO[bytes]) -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading recordings", "voice") from error

    head = file.read(4096)
    file.seek(0)
    if not head:
        raise RecordingError("broken", f"{path.name} is empty")
    if _is_text(head):
        page = b"<html" in head.lower() or b"<!doctype" in head.lower()
        raise RecordingError("not_audio", f"{path.name} is not a recording: it holds {'a web page' if page else 'text'}")
    try:
        return av.open(_Readable(file), io_open=_refused, options={"protocol_whitelist": "none"}, metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        if _marked(path):
            raise RecordingError("broken", f"{path.name} is broken: its beginning or its index is damaged or cut off") from error
        raise RecordingError("not_audio", f"{path.name} is not a recording: no format of sound or video fits it") from error


def _refused(url: str, flags: int, options: dict[str, str]) -> Any:
    """What a file names is not opened: a playlist could name a private file or an address."""
    raise PermissionError(url)


def _is_text(head: bytes) -> bool:
    """Whether it is text: FFmpeg takes a page for AMR frames, 750 of which decode."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and len(head) > 3 and 0 in head[2:4]:
        return True
    return not _TEXT_CONTROLS.intersection(head) and 127 not in head and sum(byte > 127 for byte in head) < 0.5 * len(head)


def _marked(path: Path) -> bool:
    """Whether it begins as a recording does."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head.startswith(_SOUND_MARKS) or head[4:8] == b"ftyp" or (head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0)
