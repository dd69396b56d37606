"""Who spoke when: stretches of a recording, each with a label of its speaker (`S1`, `S2`, ... in the order they are first heard).

`Clustering` is the default and needs nothing but the packaged speaker encoder: vectors of windows of 1.6 s are clustered, the number of
speakers follows from how alike the halves of a cluster are, and a Viterbi pass over frames of 0.1 s puts the borders where the sound is low.
`Pyannote` hands the recording to a pipeline of pyannote.audio. Neither hears two people at once as two; error rates are in
`benchmarks/results/voice.json`.

Shapes: w windows, k speakers, f frames of 0.1 s of speech, 256 dimensions of a vector.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.config import VoiceSettings
from attunement.errors import ConfigError, MissingExtraError, ModelError
from attunement.sources.voice.speaker_encoder import HOP, RATE, SpeakerEncoder

MOST_CLUSTERED = 1500
"""Of more windows than these evenly spread ones are clustered (quadratic in time and memory: 9 MB here); the others take the nearest."""
BESIDE = 2
"""Windows on either side that are joined with one before clustering."""
SAME_VOICE = 0.9
"""Halves whose means are more alike (cosine) than this are one speaker. On flite's voices with pink noise 5 dB below them the halves of
one voice came to .91 and more, those of two to .90 and less; without noise to .96 and to .77."""
UNSURE, UNSURE_SECONDS = 0.06, 8.0
"""A mean of little speech depends on what was said: `SAME_VOICE` is lower by so much at nothing, and less with each eight seconds."""
LEAST_SECONDS, LEAST_SHARE = 4.0, 0.02
"""A speaker with less than this much speech, or in short recordings less than this share of it, is none."""
REFINED = 5
"""Rounds of k-means after a cluster was parted."""
FRAME_SECONDS = 0.1
SHARPNESS = 20.0
"""What a difference in cosine counts beside `SWITCH`."""
SWITCH, QUIET_SWITCH, SPAN_SWITCH = 12.0, 4.0, 1.0
"""What a change of speaker costs in the middle of sound, where it is low, and between two spans of speech."""
QUIET_DB = 15.0
"""A frame so far below its span's median level is low."""
Vectors = NDArray[np.float32]
Samples = NDArray[np.float32]
Piece = tuple[float, Samples]


@dataclass(frozen=True)
class Stretch:
    """One speaker without a break. Times in seconds from the start of the recording; `speaker` is a label within it."""

    start_seconds: float
    end_seconds: float
    speaker: str


class Diariser(ABC):
    """Tells speakers apart."""

    name: str

    @abstractmethod
    def stretches(self, path: Path, spans: Sequence[tuple[float, float]]) -> list[Stretch]:
        """Who speaks in the `spans` (start, end in seconds, sorted) of the recording, in order of time, without overlap; together they
        cover the spans. Raises `RecordingError` for a recording that cannot be read."""


class Clustering(Diariser):
    """Ward's clustering of GE2E vectors, top down. Deterministic; one core needs about 3 % of the recording's length."""

    name = "clustering"

    def __init__(self, most_speakers: int = 6, encoder: SpeakerEncoder | None = None) -> None:
        self.most_speakers = most_speakers
        self.encoder = encoder or SpeakerEncoder()

    def stretches(self, path: Path, spans: Sequence[tuple[float, float]]) -> list[Stretch]:
        from attunement.sources.voice.audio import pieces

        return self.of_pieces(zip((start for start, _ in spans), pieces(path, spans), strict=True))

    def of_pieces(self, pieces: Iterable[Piece]) -> list[Stretch]:
        """The same of (start in seconds, samples at 16 kHz), one span after the other; each is held only while it is read."""
        heard = [_Span.of(start, samples, self.encoder) for start, samples in pieces if len(samples)]
        if not heard:
            return []
        step = self.encoder.step_frames * HOP / RATE
        labels = speakers_of(np.concatenate([smoothed(span.vectors) for span in heard]), self.most_speakers, step)
        return _named(_joined(_decoded(*_contrasted(heard, labels))))


@dataclass(frozen=True)
class _Span:
    """A span of speech as it is kept: its windows and how loud its frames are. 1 KiB for each 0.4 s: 28 MB for three hours."""

    start_seconds: float
    end_seconds: float
    times: NDArray[np.float64]
    vectors: Vectors
    levels: NDArray[np.float32]

    @classmethod
    def of(cls, start: float, samples: Samples, encoder: SpeakerEncoder) -> _Span:
        times, vectors = encoder.windows(samples, start)
        hop = int(FRAME_SECONDS * RATE)
        padded = np.pad(samples, (0, -len(samples) % hop)).reshape(-1, hop)
        levels = 10 * np.log10(np.square(padded).mean(1) + 1e-10)
        return cls(start, start + len(samples) / RATE, times, vectors, levels.astype(np.float32))


# --- how many speakers, and what each sounds like ------------------------------------------------------------------


def smoothed(vectors: Vectors) -> Vectors:
    """Each window of a span joined with those beside it: what is said varies the vectors of one voice, and 3.2 s vary them less."""
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0, dtype=np.float64)])
    places = np.arange(len(vectors))
    return _unit(sums[np.minimum(places + BESIDE + 1, len(vectors))] - sums[np.maximum(places - BESIDE, 0)])


def speakers_of(vectors: Vectors, most: int, step_seconds: float) -> NDArray[np.int64]:
    """The speaker `[w]` (0 to at most `most` - 1) of each of windows' unit vectors `[w, 256]` that are `step_seconds` apart.

    Top down: of the groups the one whose halves are least alike is parted, as long as they are less alike than one voice's are.
    """
    chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), MOST_CLUSTERED)).astype(int)
    each = step_seconds * len(vectors) / len(chosen)
    least = min(LEAST_SECONDS, LEAST_SHARE * len(vectors) * step_seconds + step_seconds)
    groups = [_parted(vectors[chosen], np.arange(len(chosen)), each, least)]
    while len(groups) < most:
        place = min(range(len(groups)), key=lambda i: groups[i][0])
        alike, _, halves = groups[place]
        if alike >= SAME_VOICE:
            break
        groups[place : place + 1] = [_parted(vectors[chosen], half, each, least) for half in halves]
    if len(groups) == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    means = _unit(np.stack([vectors[chosen[rows]].mean(0) for _, rows, _ in groups]))
    labels = np.asarray((vectors @ means.T).argmax(1), dtype=np.int64)
    for number, (_, rows, _) in enumerate(groups):
        labels[chosen[rows]] = number
    return labels


_Group = tuple[float, NDArray[np.int64], tuple[NDArray[np.int64], ...]]


def _parted(vectors: Vectors, rows: NDArray[np.int64], each: float, least: float) -> _Group:
    """How alike the halves of a group are, the group, and its halves: by Ward's method on standardised vectors, so that what all have in
    common (a room, noise) does not hide the voices."""
    from scipy.cluster.hierarchy import fcluster, linkage

    own = vectors[rows]
    if len(rows) < 4:
        return 1.0, rows, ()
    scaled = _standardised(own)
    labels = fcluster(linkage(scaled.astype(np.float64), "ward"), 2, "maxclust")
    for _ in range(REFINED):
        means = _unit(np.stack([scaled[labels == k].mean(0) for k in (1, 2)]))
        found = (scaled @ means.T).argmax(1) + 1
        if len(np.unique(found)) < 2:
            break
        labels = found
    halves = tuple(rows[labels == k] for k in (1, 2))
    seconds = min(map(len, halves)) * each
    if seconds < least:
        return 1.0, rows, halves
    first, second = _unit(np.stack([vectors[half].mean(0) for half in halves]))
    return float(first @ second + UNSURE * np.exp(-seconds / UNSURE_SECONDS)), rows, halves


def _standardised(vectors: Vectors) -> Vectors:
    """Unit vectors of what differs from the mean, each dimension over its deviation."""
    return _unit((vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6))


def _unit(vectors: NDArray[Any]) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32)


# --- where one stops and another begins ---------------------------------------------------------------------------


def _contrasted(spans: Sequence[_Span], labels: NDArray[np.int64]) -> tuple[list[_Span], Vectors]:
    """The spans with standardised vectors, and the means `[k, 256]` of the speakers in these."""
    sizes = np.cumsum([len(span.vectors) for span in spans])[:-1]
    vectors = _standardised(np.concatenate([span.vectors for span in spans]))
    means = _unit(np.stack([vectors[labels == name].mean(0) for name in np.unique(labels)]))
    return [replace(span, vectors=own) for span, own in zip(spans, np.split(vectors, sizes), strict=True)], means


def _decoded(spans: Sequence[_Span], means: Vectors) -> Iterator[Stretch]:
    """The likeliest speaker of each frame (Viterbi), as stretches whose speaker is the row of `means`."""
    scores = np.concatenate([_frame_scores(span, means) for span in spans])
    costs = np.concatenate([_switch_costs(span) for span in spans])
    path, at = _viterbi(scores, costs), 0
    for span in spans:
        own = path[at : at + len(span.levels)]
        at += len(own)
        borders = [0, *(np.flatnonzero(np.diff(own)) + 1), len(own)]
        for first, last in pairwise(borders):
            end = span.end_seconds if last == len(own) else span.start_seconds + float(last) * FRAME_SECONDS
            yield Stretch(span.start_seconds + float(first) * FRAME_SECONDS, end, str(own[first]))


def _frame_scores(span: _Span, means: Vectors) -> NDArray[np.float64]:
    """`[f, k]`: likeness of the windows that a frame lies in, those counting most in whose middle it is."""
    likeness = SHARPNESS * (span.vectors @ means.T).astype(np.float64)
    middles = span.start_seconds + (np.arange(len(span.levels)) + 0.5) * FRAME_SECONDS
    away = np.abs(middles[:, None] - span.times.mean(1))
    weight = np.exp(-np.square(away / 0.4)) + 1e-9
    return np.asarray(weight / weight.sum(1, keepdims=True) @ likeness * FRAME_SECONDS / 0.4)


def _switch_costs(span: _Span) -> NDArray[np.float64]:
    """`[f]`: what it costs to change speaker before each frame."""
    low = span.levels < np.median(span.levels) - QUIET_DB
    low[1:] |= low[:-1]
    costs = np.where(low, QUIET_SWITCH, SWITCH)
    costs[0] = SPAN_SWITCH
    return costs


def _viterbi(scores: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The path `[f]` through `scores` `[f, k]` of greatest sum, less the cost of each change."""
    best, came = scores[0].copy(), np.zeros(scores.shape, dtype=np.int8)
    stays = np.arange(scores.shape[1])
    for frame in range(1, len(scores)):
        leader = int(best.argmax())
        changed = best[leader] - costs[frame] > best
        came[frame] = np.where(changed, leader, stays)
        best = np.where(changed, best[leader] - costs[frame], best) + scores[frame]
    path = np.zeros(len(scores), dtype=np.int64)
    path[-1] = best.argmax()
    for frame in range(len(scores) - 1, 0, -1):
        path[frame - 1] = came[frame, path[frame]]
    return path


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Those of one speaker that touch as one."""
    out: list[Stretch] = []
    for stretch in stretches:
        if out and out[-1].speaker == stretch.speaker and stretch.start_seconds - out[-1].end_seconds < 1e-6:
            out[-1] = replace(out[-1], end_seconds=stretch.end_seconds)
        else:
            out.append(stretch)
    return out


def _named(stretches: Sequence[Stretch]) -> list[Stretch]:
    """With labels `S1`, `S2`, ... in the order in which speakers are first heard."""
    names: dict[str, str] = {}
    return [replace(s, speaker=names.setdefault(s.speaker, f"S{len(names) + 1}")) for s in stretches]


# --- another's work ------------------------------------------------------------------------------------------------


class Pyannote(Diariser):
    """A pipeline of pyannote.audio 3 or 4: `model` is its folder, or a name that it downloads itself, once.

    Its models ask for conditions to be accepted, so no test here runs it: what is tested is how its answer is read (`read_annotation`).
    """

    name = "pyannote"

    def __init__(self, model: str, most_speakers: int = 6) -> None:
        if not model:
            raise ConfigError("voice.pyannote_model is empty: give the folder or the name of a pyannote pipeline")
        os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")  # version 4 would report its use to its makers
        try:
            from pyannote.audio import Pipeline
        except ImportError as error:
            raise MissingExtraError("diarisation by pyannote", "pyannote") from error
        try:
            self._pipeline = Pipeline.from_pretrained(model)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"the pyannote pipeline {model} cannot be loaded: {error}") from error
        if self._pipeline is None:  # what it gives where conditions are not accepted
            raise ModelError(f"the pyannote pipeline {model} cannot be loaded: accept its conditions, or name a folder")
        self.most_speakers = most_speakers

    def stretches(self, path: Path, spans: Sequence[tuple[float, float]]) -> list[Stretch]:
        import torch

        from attunement.sources.voice.audio import blocks

        samples = np.concatenate(list(blocks(path)))  # pyannote wants the whole of it: 230 MB an hour
        answer = self._pipeline(
            {"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE}, min_speakers=1, max_speakers=self.most_speakers
        )
        return assign(spans, read_annotation(answer))


def read_annotation(answer: Any) -> list[Stretch]:
    """pyannote's answer (an `Annotation`, or what version 4 wraps it in) as stretches in order of time."""
    annotation = getattr(answer, "exclusive_speaker_diarization", None) or getattr(answer, "speaker_diarization", answer)
    found = [Stretch(turn.start, turn.end, str(label)) for turn, _, label in annotation.itertracks(yield_label=True)]
    return sorted(found, key=lambda s: (s.start_seconds, s.end_seconds))


def assign(spans: Sequence[tuple[float, float]], heard: Sequence[Stretch]) -> list[Stretch]:
    """`heard` within `spans`: each moment of a span goes to the stretch in which it lies (the later one of two), else to the nearest."""
    if not heard:
        return [Stretch(start, end, "S1") for start, end in spans]
    starts, ends = np.asarray([s.start_seconds for s in heard]), np.asarray([s.end_seconds for s in heard])
    found = []
    for start, end in spans:
        inside = np.concatenate([starts, ends, (starts[1:] + ends[:-1]) / 2])
        borders = [start, *np.unique(inside[(inside > start) & (inside < end)]), end]
        for first, last in pairwise(borders):
            middle = (first + last) / 2
            away = np.maximum(0.0, np.maximum(starts - middle, middle - ends))
            place = len(away) - 1 - int(away[::-1].argmin())
            found.append(Stretch(float(first), float(last), heard[place].speaker))
    return _named(_joined(found))


def open_diariser(settings: VoiceSettings) -> Diariser:
    """The one that `voice.diarisation` names. Raises `ConfigError`, `MissingExtraError` or `ModelError`."""
    if settings.diarisation == "pyannote":
        return Pyannote(settings.pyannote_model, settings.most_speakers)
    return Clustering(settings.most_speakers)
