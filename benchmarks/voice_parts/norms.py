"""Makes what `attunement.sources.voice` ships of statistics on real speakers; prints what it wrote.

    python -m voice_parts.norms --shared ../shared          (in benchmarks/)

`norms.json`: mean and deviation of each category's rate and each marker's raw score. `reliability.json`: see `personality`.
Statistics over speakers only: no text, no speaker's own figures.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attunement.quality.panel import Judges
from attunement.sources.voice import language_markers
from attunement.sources.voice.language_markers import GROUPS, LEXICAL, PRIOR_WORDS, raw_scores, said_of
from attunement.sources.voice.lexicon_counts import FOLDER, categories, style_words, words_of
from attunement.sources.voice.personality import AXES
from attunement.storage.files import write_json
from voice_parts.people import SPOKEN, speakers
from voice_parts.personality import MOST_SENTENCES, axis_scores_of, reliability

NORMS = FOLDER / "norms.json"
LEAST_WORDS = 200
"""A speaker with fewer tells little of a rate."""


def make_norms(data: Path, judges: Judges) -> None:
    people = [(s, said_of(s.turns)) for s in speakers(data, SPOKEN)]
    people = [(s, said) for s, said in people if said.total >= LEAST_WORDS]
    told: dict[str, Any] = {
        "made_of": {
            "sets": "AnnoMI and HLQC of AutoMISC: transcripts of spoken counselling sessions, both sides; recordings in both sets once",
            "speakers": len(people),
            "by_group": dict(Counter(s.group for s, _ in people)),
            "words": sum(said.total for _, said in people),
            "least_words": LEAST_WORDS,
            "prior_words": PRIOR_WORDS,
            "by_encoder": f"{', '.join(AXES)}: AnnoMI alone, the first {MOST_SENTENCES} sentences of each",
        }
    }
    groups = {"all": people, **{g: [(s, said) for s, said in people if s.role == g] for g in GROUPS}}
    for group, members in groups.items():
        rates = np.stack([said.counts.sum(0) / said.total for _, said in members])
        style = np.stack([word_rates(s.turns) for s, _ in members])
        told[group] = {"rates": _rows(categories().names, rates), "style": _rows(style_words(), style), "markers": {}}
    write_json(NORMS, told)
    language_markers.norms.cache_clear()
    near = axis_scores_of([(s, said) for s, said in people if s.source == "annomi"], judges)
    for group, members in groups.items():
        scores = [raw_scores(said, group) for _, said in members]
        told[group]["markers"] = _rows(LEXICAL, np.asarray([[float(score[name][0]) for name in LEXICAL] for score in scores]))
        means = [
            [float(np.average(near[s.name][axis], weights=said.words[:MOST_SENTENCES])) for axis in AXES]
            for s, said in members
            if s.name in near
        ]
        told[group]["markers"] |= _rows(AXES, np.asarray(means))
    write_json(NORMS, told)
    language_markers.norms.cache_clear()
    print(told["made_of"])


def _rows(names: Sequence[str], values: np.ndarray) -> dict[str, dict[str, float]]:
    both = zip(names, values.mean(0), values.std(0), strict=True)
    return {name: {"mean": round(float(mean), 6), "sd": round(max(float(sd), 1e-4), 6)} for name, mean, sd in both}


def word_rates(turns: Sequence[str]) -> np.ndarray:
    """Share of each closed-class word, `[w]`."""
    words = words_of(" ".join(turns))
    counts = Counter(words)
    return np.asarray([counts[w] / max(1, len(words)) for w in style_words()])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--only-reliability", action="store_true")
    chosen = parser.parse_args()
    folder, judges = chosen.shared / "data", Judges()
    if not chosen.only_reliability:
        make_norms(folder, judges)
    for told in reliability(folder, judges):
        write_json(FOLDER / "reliability.json", told)
        print(len(told["markers"]), "markers", flush=True)
