"""Who speaks when, measured on two voices of flite: error rates by pair and noise, one voice alone, MFCCs instead, three hours.

The constants of `diarisation` and `speaker_encoder` were chosen on the even lines of the stock; these are the odd ones. Spans come from
the voice-activity detector, so a rate holds its errors too. `told_two`: the number of speakers is given, the vectors alone are compared.
`cpu_share` is processor time over the sound's length.
"""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from attunement.sources.voice import diarisation
from attunement.sources.voice.activity import speech_spans
from attunement.sources.voice.audio import pieces
from attunement.sources.voice.diarisation import Clustering, Stretch
from attunement.sources.voice.speaker_encoder import HOP, RATE, WINDOW_FRAMES, SpeakerEncoder, mel_spectrogram
from voice_parts import speaking
from voice_parts.diarisation_error import error_rate

NOISES = (None, 20.0, 10.0, 5.0)
TURNS, SENTENCES = 8, 8


class MfccEncoder(SpeakerEncoder):
    """The baseline: means and deviations of 20 cepstral coefficients (without the level) in the same windows, `[w, 38]`."""

    def windows(self, samples: Any, start_seconds: float = 0.0) -> tuple[Any, Any]:
        from scipy.fft import dct

        starts = self._starts(len(samples))
        padded = np.pad(samples, (0, max(0, (starts[-1] + WINDOW_FRAMES) * HOP - len(samples))))
        cepstra = dct(np.log(mel_spectrogram(padded) + 1e-8), type=2, norm="ortho")[:, 1:20]
        parts = [cepstra[at : at + WINDOW_FRAMES] for at in starts]
        times = np.asarray([[at * HOP / RATE, min((at + WINDOW_FRAMES) * HOP, len(samples)) / RATE] for at in starts])
        return times + start_seconds, np.stack([np.concatenate([p.mean(0), p.std(0)]) for p in parts]).astype(np.float32)


class Remembering(SpeakerEncoder):
    """Computes the windows of a piece once."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[float, int], Any] = {}

    def windows(self, samples: Any, start_seconds: float = 0.0) -> tuple[Any, Any]:
        key = (start_seconds, len(samples))
        if key not in self.kept:
            self.kept[key] = super().windows(samples, start_seconds)
        return self.kept[key]


def measured() -> dict[str, Any]:
    """All figures of this part."""
    rows, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "talk.wav"
        for first, second in combinations(speaking.VOICES, 2):
            rng = np.random.default_rng([6, *map(speaking.VOICES.index, (first, second))])
            clean = speaking.dialogue(first, second, TURNS, rng, part="held_out")
            rows += [row | {"pair": f"{first}-{second}"} for row in _by_noise(path, clean, rng, NOISES, baseline=True)]
        for voice in speaking.VOICES:
            rng = np.random.default_rng([7, speaking.VOICES.index(voice)])
            clean = speaking.monologue(voice, SENTENCES, rng, part="held_out")
            alone += [row | {"voice": voice} for row in _by_noise(path, clean, rng, (None, 10.0), baseline=False)]
    return {
        "pairs": rows,
        "by_noise": {_name(snr): _mean([r for r in rows if r["noise"] == _name(snr)]) for snr in NOISES},
        "worst_clean_pair": max(r["error_rate"] for r in rows if r["noise"] == "clean"),
        "equal_error_of_window_pairs": {kind: _equal_error(alone, kind) for kind in ("ge2e", "mfcc")},
        "one_voice": [{name: value for name, value in row.items() if name[0] != "_"} for row in alone],
        "one_voice_heard_as_one": {
            n: float(np.mean([r["speakers"] == 1 for r in alone if r["noise"] == n])) for n in ("clean", "10 dB")
        },
        "cpu_share": sum(r["cpu_seconds"] for r in rows) / sum(r["seconds"] for r in rows),
        "three_hours": _three_hours(),
    }


def _name(snr: float | None) -> str:
    return "clean" if snr is None else f"{snr:g} dB"


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    names = [n for n in rows[0] if "rate" in n]
    return {n: round(float(np.mean([r[n] for r in rows])), 4) for n in names} | {
        "two_speakers_found": float(np.mean([r["speakers"] == 2 for r in rows]))
    }


def _by_noise(
    path: Path, clean: speaking.Speech, rng: Any, noises: Sequence[float | None], *, baseline: bool
) -> list[dict[str, Any]]:
    out = []
    for snr in noises:
        speech = clean if snr is None else speaking.noisy(clean, snr, rng)
        speaking.write_wav(path, speech.samples)
        spans = speech_spans(path)
        began = time.process_time()
        encoder = Remembering()
        heard = Clustering(encoder=encoder).stretches(path, spans)
        spent = time.process_time() - began
        row = {"noise": _name(snr), "seconds": round(speech.seconds, 1), "cpu_seconds": round(spent, 2)} | _rates(speech, heard)
        if not baseline:
            row["_ge2e"] = np.concatenate([v for _, v in encoder.kept.values()])
            row["_mfcc"] = np.concatenate([MfccEncoder().windows(x)[1] for x in pieces(path, spans)])
        if baseline:
            row["mfcc_told_two_error_rate"] = _rates(speech, _told_two(path, spans, MfccEncoder()))["error_rate"]
            row["told_two_error_rate"] = _rates(speech, _told_two(path, spans, encoder))["error_rate"]
        out.append(row)
        print({name: value for name, value in row.items() if name[0] != "_"}, flush=True)
    return out


def _rates(speech: speaking.Speech, heard: Sequence[Stretch]) -> dict[str, Any]:
    said = [(t.start_seconds, t.end_seconds, t.voice) for t in speech.turns]
    found = [(s.start_seconds, s.end_seconds, s.speaker) for s in heard]
    usual, strict = error_rate(said, found), error_rate(said, found, collar=0.0)
    return {
        "error_rate": round(usual["rate"], 4),
        "error_rate_without_collar": round(strict["rate"], 4),
        "confused_rate_without_collar": round(strict["confused"], 4),
        "speakers": len({s.speaker for s in heard}),
    }


def _told_two(path: Path, spans: Sequence[tuple[float, float]], encoder: SpeakerEncoder) -> list[Stretch]:
    """Ward's clustering of standardised windows into two, then the same borders as in `Clustering`."""
    from scipy.cluster.hierarchy import fcluster, linkage

    heard = [
        diarisation._Span.of(start, samples, encoder) for (start, _), samples in zip(spans, pieces(path, spans), strict=True)
    ]
    scaled, _ = diarisation._contrasted(heard, np.zeros(sum(len(s.vectors) for s in heard), dtype=np.int64))
    labels = fcluster(linkage(np.concatenate([diarisation.smoothed(s.vectors) for s in scaled]), "ward"), 2, "maxclust")
    return diarisation._named(diarisation._joined(diarisation._decoded(*diarisation._contrasted(heard, labels))))


def _equal_error(rows: Sequence[dict[str, Any]], kind: str) -> float:
    """Where as many pairs of windows of two voices are taken for one as pairs of one voice for two, by the cosine; clean against noisy."""
    mean, deviation = (
        (0.0, 1.0) if kind == "ge2e" else (f(np.concatenate([r["_mfcc"] for r in rows]), 0) for f in (np.mean, np.std))
    )
    same, other = [], []
    for first in (r for r in rows if r["noise"] == "clean"):
        for second in (r for r in rows if r["noise"] != "clean"):
            a, b = (diarisation._unit((r[f"_{kind}"] - mean) / deviation) for r in (first, second))
            (same if first["voice"] == second["voice"] else other).append((a @ b.T).ravel())
    likes, unlikes = np.sort(np.concatenate(same)), np.concatenate(other)
    points = np.quantile(likes, np.linspace(0, 1, 201))
    return round(
        min(max(share, float((unlikes >= point).mean())) for share, point in zip(np.linspace(0, 1, 201), points, strict=True)), 4
    )


def _three_hours() -> dict[str, float]:
    """Clustering and borders of 27,000 windows of two voices with spread as in speech, without the encoder (whose share is even)."""
    rng = np.random.default_rng(8)
    voices = diarisation._unit(np.abs(rng.standard_normal((2, 256))))
    spans = []
    for number in range(900):  # of 12 s
        vectors = diarisation._unit(voices[number % 2] + 0.03 * rng.standard_normal((30, 256)))
        begins = number * 12.0 + 0.4 * np.arange(30)
        levels = np.full(120, -20, dtype=np.float32)
        spans.append(diarisation._Span(number * 12.0, number * 12.0 + 12, np.stack([begins, begins + 1.6], 1), vectors, levels))
    tracemalloc.start()
    began = time.process_time()
    vectors = np.concatenate([diarisation.smoothed(s.vectors) for s in spans])
    labels = diarisation.speakers_of(vectors, 6, 0.4)
    list(diarisation._decoded(*diarisation._contrasted(spans, labels)))
    spent, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "windows": len(vectors),
        "speakers": len(np.unique(labels)),
        "cpu_seconds": round(spent, 1),
        "peak_mib": round(peak / 2**20, 1),
    }
