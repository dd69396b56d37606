"""How well speech is heard: word errors, calibration of confidence, speed, punctuation, what is left out.

Each turn is one piece, with 0.2 s around it (its true times: what an activity detector adds in errors is not in these figures). Texts
that a calibration is fitted on, voices and texts that it is tried on: no line is in both. `gibberish` is the clean sound backwards.
The weights of the package are made here: `python benchmarks/voice.py weights`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jiwer
import machine
import numpy as np

from attunement.records import SpokenSegment, SpokenWord
from attunement.sources.voice import confidence
from attunement.sources.voice.engines import RATE, PocketSphinx
from attunement.sources.voice.language import language_of
from attunement.sources.voice.punctuating import is_question, punctuated
from attunement.sources.voice.screening import Screen
from voice_parts import speaking

HEARD = machine.ROOT / "runs" / "voice-heard.jsonl"
"""What was heard last, to be read again with `--again`."""
PARTS = ("fit", "held_out")
LEVELS = ("clean", "20", "10", "5", "gibberish")
_MARGIN = 0.2
_SAMPLES = machine.ROOT / "src" / "attunement" / "samples" / "conversations" / "transcripts"


def hear_all(lines: int, seed: int = 6) -> Iterator[dict[str, Any]]:
    """Of each voice `lines` lines of each part (fit, held_out), at each level: what was said, heard, and how long it took.

    A line of every voice, part and level before the next line: what a broken run leaves is whole but for the number of lines.
    """
    engine = PocketSphinx()
    rng = np.random.default_rng(seed)
    made = [
        (voice, part, level, speech)
        for voice in speaking.VOICES
        for part in PARTS
        for level, speech in _levels(voice, part, lines, rng)
    ]
    for number in range(lines):
        for voice, part, level, speech in made:
            yield _heard(engine, speech, number, voice=voice, part=part, level=level)


def _levels(voice: str, part: str, lines: int, rng: np.random.Generator) -> Iterator[tuple[str, speaking.Speech]]:
    """The same lines at each level; both kinds of noise come in both parts at each level, by voice."""
    stock = speaking.stock(part)
    clean = speaking.talk([(voice, stock[i][1]) for i in rng.permutation(len(stock))[:lines]], rng)
    for place, level in enumerate(LEVELS):
        noise = ("pink", "babble")[(speaking.VOICES.index(voice) + place + (part == "fit")) % 2]
        if level == "clean":
            yield level, clean
        elif level != "gibberish":
            yield level, speaking.noisy(clean, float(level), rng, noise=noise)
        else:
            yield level, speaking.backwards(clean)


def _heard(engine: PocketSphinx, speech: speaking.Speech, number: int, **about: str) -> dict[str, Any]:
    turn = speech.turns[number]
    start = max(0.0, turn.start_seconds - _MARGIN)
    samples = speech.samples[int(start * RATE) : int((turn.end_seconds + _MARGIN) * RATE)]
    wall, cpu = time.perf_counter(), time.process_time()
    words = engine.hear(samples, start)
    return {
        **about,
        "text": turn.text,
        "noise": speech.noise,
        "words": [asdict(word) for word in words],
        "snr_db": confidence.snr_db(samples),
        "seconds": len(samples) / RATE,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def rows_of(*, again: bool, lines: int) -> list[dict[str, Any]]:
    """Heard now, or read from the last time."""
    if not again:
        HEARD.parent.mkdir(exist_ok=True)
        with HEARD.open("w", encoding="utf-8") as file:
            for row in hear_all(lines):
                file.write(json.dumps(row) + "\n")
                file.flush()
    rows = [json.loads(line) for line in HEARD.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["words"] = [SpokenWord(**word) for word in row["words"]]
        row["heard"] = " ".join(word.text for word in row["words"])
        row["reference"] = " ".join(speaking.words_of(row["text"]))
        row["right"] = confidence.right_share(row["reference"], row["heard"])
    return rows


def word_errors(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """WER by voice and level."""
    table: dict[str, Any] = {}
    for voice in (*speaking.VOICES, "all"):
        for level in LEVELS[:-1]:
            cell = [r for r in rows if voice in (r["voice"], "all") and r["level"] == level]
            if cell:
                errors = jiwer.process_words([r["reference"] for r in cell], [r["heard"] for r in cell])
                words = errors.hits + errors.substitutions + errors.deletions
                table.setdefault(voice, {})[level] = {"wer": round(errors.wer, 4), "words": words}
    return table


def calibration(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """ECE before (mean posterior) and after; held-out texts, and together with the voice left out of the fit.

    `words`: what has words in it; `with_gibberish`: reversed speech too, of which nothing can be right and nothing is fitted on.
    """
    usable = [r for r in rows if r["words"]]
    features, right = _examples(usable)
    raw = features[:, confidence.FEATURES.index("mean_posterior")]
    gibberish = np.asarray([r["level"] == "gibberish" for r in usable])
    fitting = np.asarray([r["part"] == "fit" for r in usable]) & ~gibberish
    voice = np.asarray([r["voice"] for r in usable])
    texts = confidence.fit("pocketsphinx", features[fitting], right[fitting]).expected(features)
    left_out, with_it = np.full(len(usable), np.nan), np.full(len(usable), np.nan)
    for name in speaking.VOICES:
        others = (voice != name) & fitting
        left_out[voice == name] = confidence.fit("pocketsphinx", features[others], right[others]).expected(
            features[voice == name]
        )
        others |= (voice != name) & gibberish
        with_it[voice == name] = confidence.fit("pocketsphinx", features[others], right[others]).expected(features[voice == name])
    held_out = np.asarray([r["part"] == "held_out" for r in usable])
    tested = {"words": held_out & ~gibberish, "with_gibberish": held_out | gibberish}
    said = {
        "before_mean_posterior": raw,
        "constant": np.full(len(usable), right[fitting].mean()),
        "held_out_texts_and_voice": left_out,
        "held_out_texts_and_voice_fitted_on_gibberish_too": with_it,
    }
    told = {name: {kind: _judged(x[where], right[where]) for kind, where in tested.items()} for name, x in said.items()}
    told["held_out_texts"] = {"words": _judged(texts[tested["words"]], right[tested["words"]])}
    told["held_out_texts_and_voice"]["ece_words_by_voice"] = {
        v: _judged(left_out[tested["words"] & (voice == v)], right[tested["words"] & (voice == v)])["ece"]
        for v in speaking.VOICES
    }
    for name in ("before_mean_posterior", "held_out_texts_and_voice", "held_out_texts_and_voice_fitted_on_gibberish_too"):
        told[name]["gibberish_kept_at_0.6"] = f"{int((said[name][gibberish] >= 0.6).sum())} of {int(gibberish.sum())}"
    return told | {"segments_fit": int(fitting.sum()), "segments_tested": {k: int(w.sum()) for k, w in tested.items()}}


def _examples(rows: Sequence[dict[str, Any]]) -> tuple[Any, Any]:
    """Without the ratio to noise: with it, quiet alone made gibberish trusted (7 of 15 pieces kept at 0.6, none without)."""
    return np.stack([confidence.features_of(r["words"]) for r in rows]), np.asarray([r["right"] for r in rows])


def _judged(said: Any, right: Any) -> dict[str, float]:
    keeps = (said >= 0.6, right >= 0.6)
    return {
        "ece": round(confidence.calibration_error(said, right), 4),
        "ece_5_bins": round(confidence.calibration_error(said, right, 5), 4),
        "mean_absolute_error": round(float(np.abs(said - right).mean()), 4),
        "correlation": round(float(np.corrcoef(said, right)[0, 1]), 4) if said.std() > 1e-9 else 0.0,
        "kept_at_0.6": int(keeps[0].sum()),
        "kept_that_are_right_0.6": int((keeps[0] & keeps[1]).sum()),
        "are_right_0.6": int(keeps[1].sum()),
    }


def screened(rows: Sequence[dict[str, Any]], model: confidence.Calibration) -> dict[str, Any]:
    """Segments left out by reason, by level, with `model`; what language the text seems to be in."""
    told: dict[str, Any] = {}
    for level in LEVELS:
        counts: dict[str, int] = {}
        cell = [r for r in rows if r["level"] == level and r["part"] == "held_out"]
        for row in cell:
            sure = confidence.Confidence("pocketsphinx", model).of(row["words"], row["snr_db"])
            for reason in Screen().reasons(SpokenSegment(row["heard"], 0.0, row["seconds"], sure, row["words"])) or ["kept"]:
                counts[reason] = counts.get(reason, 0) + 1
        language = language_of(" ".join(r["heard"] for r in cell))
        told[level] = {"segments": len(cell), **counts, "language_of_all": [language.code, language.probability]}
    return told


def punctuation(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Question marks by opening where sentences are known; and both marks on what was heard clean, several turns as one stretch."""
    sentences = [s for _, text in speaking.stock() for s in _sentences(text)]
    return {
        "question_marks_on_true_sentences": {"own_stock": _questions(sentences), "packaged_transcripts": _questions(_sampled())},
        "heard_clean": _marks([r for r in rows if r["level"] == "clean"]),
    }


def _sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.?!])\s+", text) if s[-1:] in (".", "?", "!")]


def _sampled() -> list[str]:
    """Sentences of the packaged transcripts, which the rules were not written on."""
    lines = [line for path in sorted(_SAMPLES.glob("*.txt")) for line in path.read_text(encoding="utf-8").splitlines()]
    said = [match[1] for line in lines if (match := re.match(r"(?:\[[^\]]*\] *)?\w[^:]{0,20}: (.*)", line))]
    return [s for text in said for s in _sentences(text)]


def _questions(sentences: Sequence[str]) -> dict[str, Any]:
    pairs = [(s.endswith("?"), is_question(speaking.words_of(s))) for s in sentences]
    return _rates(sum(a and b for a, b in pairs), sum(b for _, b in pairs), sum(a for a, _ in pairs)) | {"sentences": len(pairs)}


def _marks(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Marks behind the same word: words that were heard and said are aligned; what stands behind a lost word is lost."""
    found = {mark: [0, 0, 0] for mark in ("end", "question")}
    for voice in speaking.VOICES:
        for part in PARTS:
            cell = [r for r in rows if r["voice"] == voice and r["part"] == part]
            said = [token for r in cell for token in r["text"].split()]
            heard = [w.text for w in punctuated([w for r in cell for w in r["words"]])]
            plain = [[" ".join(speaking.words_of(t)) or "-" for t in tokens] for tokens in (said, heard)]
            partner: dict[int, int] = {}
            for chunk in jiwer.process_words(" ".join(plain[0]), " ".join(plain[1])).alignments[0]:
                if chunk.type in ("equal", "substitute"):
                    partner |= dict(
                        zip(
                            range(chunk.ref_start_idx, chunk.ref_end_idx),
                            range(chunk.hyp_start_idx, chunk.hyp_end_idx),
                            strict=True,
                        )
                    )
            for mark, signs in (("end", (".", "?", "!")), ("question", ("?",))):
                truth = {n for n, t in enumerate(said) if t.endswith(signs)}
                put = {n for n, t in enumerate(heard) if t.endswith(signs)}
                hits = sum(partner.get(n) in put for n in truth)
                found[mark] = [a + b for a, b in zip(found[mark], (hits, len(put), len(truth)), strict=True)]
    return {mark: _rates(*counts) for mark, counts in found.items()}


def _rates(hits: int, put: int, truth: int) -> dict[str, Any]:
    return {"precision": round(hits / put, 4) if put else 0.0, "recall": round(hits / truth, 4) if truth else 0.0, "true": truth}


def write_weights(path: Path, rows: Sequence[dict[str, Any]]) -> confidence.Calibration:
    """The model of the package: of all voices, on the texts of the fitting part; reversed speech too, or what means nothing is trusted."""
    usable = [r for r in rows if r["words"] and r["part"] == "fit"]
    made = {
        "speech": "synthetic: flite kal16, rms, slt, awb; own sentences, clean and with pink noise or babble at 20, 10, 5 dB; reversed speech",
        "segments": len(usable),
        "note": "says nothing certain of real recordings: calibrate on your own (attune voice calibrate)",
    }
    model = confidence.fit("pocketsphinx", *_examples(usable), made=made)
    confidence.save(path, [model])
    return model


def measure(*, again: bool = False, lines: int = 8) -> dict[str, Any]:
    rows = rows_of(again=again, lines=lines)
    used = [r for r in rows if r["level"] != "gibberish"]
    shipped = confidence.shipped()["pocketsphinx"]
    return {
        "speech": {"voices": speaking.VOICES, "segments": len(rows), "seconds": round(sum(r["seconds"] for r in rows), 1)},
        "word_error_rate": word_errors(rows),
        "calibration": calibration(rows),
        "left_out": screened(rows, shipped),
        "punctuation": punctuation(rows),
        "real_time_factor": {
            key: {
                level: round(float(np.median([r[key] / r["seconds"] for r in used if level in (r["level"], "all")])), 3)
                for level in (*LEVELS[:-1], "all")
            }
            for key in ("wall", "cpu")
        },
    }
