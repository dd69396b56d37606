"""The bands of naturalness, and how well it tells real responses from shuffled, cut and misheard ones: `make_bands`, `measure`."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attunement.sources.voice.lexicon_counts import FOLDER
from attunement.sources.voice.naturalness import LENGTHS, Fluency, length_class, natural
from attunement.storage.files import content_hash, write_json
from voice_parts.people import SPOKEN, speakers

PER_CLASS, HELD_OUT, TRIED = 400, 5, 60
LEAST_WORDS, MISHEARD, PER_ORDER = 3, 12, 120
"""Responses drawn for each band; one conversation in five is for `measure` alone, which takes so many responses."""


def make_bands(data: Path) -> None:
    """The 5 % and 95 % quantiles of nats per word, by length and punctuation; of the ends the 5 % and the 0.5 % quantile."""
    fluency, rng = Fluency(), random.Random(17)
    texts = [text for text, held in _responses(data) if not held]
    told: dict[str, Any] = {
        "made_of": {
            "sets": "therapists' turns of AnnoMI (punctuated, and without its marks and capitals), as spoken; four conversations in five",
            "responses": len(texts),
            "per_class": PER_CLASS,
            "quantiles": [0.05, 0.95],
        }
    }
    ends = []
    for kind, made in (("punctuated", str), ("unpunctuated", bare)):
        told[kind] = {}
        for number in range(len(LENGTHS) + 1):
            here = [made(t) for t in texts if length_class(len(t.split())) == str(number)]
            found = [fluency.figures(t) for t in rng.sample(here, min(PER_CLASS, len(here)))]
            low, high = np.quantile([per_word for per_word, _ in found], [0.05, 0.95])
            told[kind][str(number)] = {"low": round(float(low), 3), "high": round(float(high), 3), "responses": len(found)}
            ends += [end for _, end in found]
    low, never = np.quantile(ends, [0.10, 0.005])
    told["ending"] = {"low": round(float(low), 3), "never": round(float(never), 3), "responses": len(ends)}
    told["order"] = make_orders(texts, fluency, rng)
    write_json(FOLDER / "naturalness.json", told)


def make_orders(texts: Sequence[str], fluency: Fluency, rng: random.Random) -> dict[str, Any]:
    """The 5 % quantile of what the order of words is worth, by length."""
    rows = {}
    for number in range(len(LENGTHS) + 1):
        here = [t for t in texts if length_class(len(t.split())) == str(number)]
        found = [fluency.order_gain(t) for t in rng.sample(here, min(PER_ORDER, len(here)))]
        rows[str(number)] = {"low": round(float(np.quantile(found, 0.05)), 3), "responses": len(found)}
    return rows


def measure(data: Path) -> dict[str, Any]:
    """AUC of held-out real responses against the same shuffled and cut, with and without punctuation."""
    fluency, rng = Fluency(), random.Random(18)
    texts = [text for text, held in _responses(data) if held and len(text.split()) >= 8]
    texts = rng.sample(texts, min(TRIED, len(texts)))
    out: dict[str, Any] = {"responses": len(texts)}
    for kind, made in (("punctuated", str), ("unpunctuated", bare)):
        real = [natural(made(t), kind == "punctuated", fluency) for t in texts]
        spoilt = {
            "shuffled": [natural(shuffled(made(t), rng), kind == "punctuated", fluency) for t in texts],
            "cut": [natural(cut(made(t), rng), kind == "punctuated", fluency) for t in texts],
        }
        for name, found in spoilt.items():
            rows = {"score": auc([n.score for n in real], [n.score for n in found])}
            rows |= {part: auc([n.parts[part] for n in real], [n.parts[part] for n in found]) for part in real[0].parts}
            out[f"{kind}_{name}_auc"] = {part: round(value, 3) for part, value in rows.items()}
        out[f"{kind}_real_below_0.3"] = round(float(np.mean([n.score < 0.3 for n in real])), 3)
        out[f"{kind}_real_median"] = round(float(np.median([n.score for n in real])), 3)
        for name, found in spoilt.items():
            out[f"{kind}_{name}_below_0.3"] = round(float(np.mean([n.score < 0.3 for n in found])), 3)
    if shutil.which("flite"):
        out["misheard_at_5_db"] = against_misheard([t for t in texts if len(t.split()) <= 40][:MISHEARD], fluency)
    return out


def misheard(texts: Sequence[str], decibels: float = 5.0) -> list[str]:
    """What pocketsphinx hears of `texts` as flite's voice `slt` says them, under white noise at this signal-to-noise ratio."""
    from pocketsphinx import Decoder

    decoder, rng, heard = Decoder(samprate=16000, loglevel="FATAL"), np.random.default_rng(5), []
    with tempfile.TemporaryDirectory() as folder:
        for text in texts:
            path = Path(folder) / "said.wav"
            subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", str(path)], check=True, capture_output=True)
            with wave.open(str(path)) as file:
                sound = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16).astype(np.float64)
            noise = rng.normal(size=len(sound)) * np.sqrt((sound**2).mean() / 10 ** (decibels / 10))
            decoder.start_utt()
            decoder.process_raw(np.clip(sound + noise, -32768, 32767).astype(np.int16).tobytes(), full_utt=True)
            decoder.end_utt()
            heard.append(decoder.hyp().hypstr if decoder.hyp() else "")
    return heard


def against_misheard(texts: Sequence[str], fluency: Fluency) -> dict[str, Any]:
    """AUC of responses without punctuation against what is heard of them at 5 dB."""
    real = [natural(bare(text), False, fluency) for text in texts]
    found = [natural(text, False, fluency) for text in misheard(texts)]
    parts = {
        part: round(auc([n.parts[part] for n in real], [n.parts.get(part, 0.0) for n in found]), 3) for part in real[0].parts
    }
    score = round(auc([n.score for n in real], [n.score for n in found]), 3)
    return {
        "responses": len(texts),
        "auc": {"score": score, **parts},
        "below_0.3": round(float(np.mean([n.score < 0.3 for n in found])), 3),
    }


def auc(real: Sequence[float], spoilt: Sequence[float]) -> float:
    """How often a real one scores higher; ties count half."""
    a, b = np.asarray(real)[:, None], np.asarray(spoilt)[None]
    return float((a > b).mean() + (a == b).mean() / 2)


def bare(text: str) -> str:
    """As a recogniser writes: no marks, no capitals."""
    return " ".join(re.sub(r"[^\w'\s-]", " ", text.lower()).replace(" - ", " ").split())


def shuffled(text: str, rng: random.Random) -> str:
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def cut(text: str, rng: random.Random) -> str:
    """Without the end: stops at a place drawn between a third and all but two of its words."""
    words = text.split()
    return " ".join(words[: rng.randint(max(3, len(words) // 3), len(words) - 2)])


def _responses(data: Path) -> list[tuple[str, bool]]:
    people = [s for s in speakers(data, {"annomi": SPOKEN["annomi"]}) if s.role == "therapist"]
    return [
        (" ".join(turn.split()), int(content_hash(s.name)[:8], 16) % HELD_OUT == 0)
        for s in people
        for turn in s.turns
        if len(turn.split()) >= LEAST_WORDS
    ]
