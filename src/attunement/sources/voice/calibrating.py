"""Confidence calibrated on a user's own recordings: what an engine hears beside subtitles that people have checked.

Each stretch of the subtitles is one example: the words that were heard within it, and what was said. The figures of the model are of
recordings that it had not seen (of one recording: of its other half).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attunement.config import Settings
from attunement.errors import DataError
from attunement.sources.voice.activity import speech_spans
from attunement.sources.voice.audio import pieces
from attunement.sources.voice.captions import caption_segments
from attunement.sources.voice.confidence import Calibration, calibration_error, example, fit, load, save
from attunement.sources.voice.engines import Transcriber, open_transcriber
from attunement.sources.voice.recordings import Recording, local
from attunement.storage.files import file_hash

FILE = "hearing.json"
"""In the home."""
FOLDS = 5


def calibrate(paths: Sequence[Path], settings: Settings, told: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Fits the engine of the settings and writes the model to the home; returns its figures. `told` gets a line a recording.

    Raises `DataError` for a recording without subtitles beside it, and for fewer than 30 stretches in all.
    """
    recordings = [local(path) for path in paths]
    for recording in recordings:
        if recording.subtitles is None:
            raise DataError(f"{recording.path} has no reference: put checked subtitles (.srt, .vtt) of the same name beside it")
    engine = open_transcriber(settings.voice)
    features, right, group = [], [], []
    for number, recording in enumerate(recordings):
        found = examples_of(recording, engine)
        features += [row for row, _ in found]
        right += [share for _, share in found]
        group += [number] * len(found)
        told(f"{recording.path.name}: {len(found)} stretches, {np.mean([s for _, s in found] or [0]):.0%} of the words right")
    rows, shares = np.asarray(features).reshape(len(features), -1), np.asarray(right)
    made = {"of": {r.path.name: file_hash(r.subtitles) for r in recordings if r.subtitles}, "segments": len(rows)}
    model = fit(engine.name, rows, shares, made=made)
    figures = {
        "engine": engine.name,
        "segments": len(rows),
        "right_share": round(float(shares.mean()), 4),
        "calibration_error": round(calibration_error(_held_out(engine.name, rows, shares, np.asarray(group)), shares), 4),
        "calibration_error_before": round(calibration_error(np.clip(rows[:, 1], 0, 1), shares), 4),
    }
    path = settings.home.expanduser() / FILE
    known = load(path) if path.is_file() else {}
    save(path, list({**known, engine.name: model}.values()))
    return figures | {"written": str(path)}


def examples_of(recording: Recording, engine: Transcriber) -> list[tuple[Any, float]]:
    """(features, share of right words) of each stretch of the subtitles in which something was heard."""
    assert recording.subtitles is not None
    spans = speech_spans(recording.path)
    engine.begin()
    heard = [
        word
        for (start, _), samples in zip(spans, pieces(recording.path, spans), strict=True)
        for word in engine.hear(samples, start)
    ]
    found = []
    for segment in caption_segments(recording.subtitles):
        inside = [w for w in heard if segment.start_seconds <= (w.start_seconds + w.end_seconds) / 2 < segment.end_seconds]
        found.append(example(inside, segment.text))
    return [one for one in found if one is not None]


def _held_out(engine: str, rows: Any, shares: Any, group: Any) -> Any:
    """What models say of examples that they were not fitted on: by recording where there are several, else by blocks in time.

    Where a part is too small to fit on, the mean of the others stands in.
    """
    many = len(np.unique(group)) > 1
    folds = group % FOLDS if many else (np.arange(len(rows)) * FOLDS) // len(rows)
    said = np.empty(len(rows))
    for fold in np.unique(folds):
        rest = folds != fold
        try:
            model: Calibration | None = fit(engine, rows[rest], shares[rest])
        except DataError:
            model = None
        said[~rest] = shares[rest].mean() if model is None else model.expected(rows[~rest])
    return said
