"""Training a judge from the labelled sets that are there, its operating point, and the figures that go with its weights."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import Embedder, is_tuned
from attunement.errors import ConfigError, DataError
from attunement.quality import labelled
from attunement.quality.features import Features
from attunement.quality.heads import Head, fit, folds_of, targets_of
from attunement.quality.judges import JUDGES, Judge, Source, find
from attunement.quality.labelled import Example
from attunement.quality.looking import BANK_SIZE, Bank, look
from attunement.storage.files import atomic_write

HELD_OUT = {"fold": (0,), "folds": (0, 1)}
"""Of the sets that the encoder was trained on, the folds that it has not seen: of classes, of questions with answers."""
LICENCES = ("R", "SA", "NC", "N")


@dataclass(frozen=True)
class Gathered:
    """The examples of a judge's sets; `known` marks those the encoder was trained on, `missing` names sets that are not there."""

    examples: list[Example]
    known: NDArray[np.bool_]
    used: tuple[Source, ...]
    missing: tuple[Source, ...]


def gather(judge: Judge, data: Path | None, allow: Sequence[str] = LICENCES) -> Gathered:
    """Reads the judge's sets below `data` whose licence class is allowed. Raises `DataError` when there are none."""
    examples: list[Example] = []
    known: list[bool] = []
    used, missing = [], []
    for source in judge.sources:
        if source.licence not in allow:
            continue
        if source.needs and not (data and (data / source.needs).is_dir()):
            missing.append(source)
            continue
        found = list(source.load(data or Path()))
        examples += found
        known += _known(source, found)
        used.append(source)
    told = {name for example in examples for name in example.labels}
    if not examples or (missing and not told.issuperset(judge.shape.classes)):
        names = ", ".join(source.needs for source in missing)
        raise DataError(
            f"the judge '{judge.name}' needs {names}: bring it with  attune data fetch  and name its folder's parent by --data"
        )
    return Gathered(examples, np.asarray(known, dtype=bool), tuple(used), tuple(missing))


def _known(source: Source, examples: Sequence[Example]) -> list[bool]:
    if source.known == "train":
        return [example.source.endswith("/train") for example in examples]
    if source.known == "nothing":
        return [False] * len(examples)
    return [int(fold) not in HELD_OUT[source.known] for fold in folds_of([e.group for e in examples])]


def bank_of(features: Features) -> Bank:
    """Vectors `[256, d]` of what seekers say in texts of our own: what a generic answer fits as well as its question."""
    texts = list(dict.fromkeys(row["seeker"] for row in labelled.written("empathy")))
    return features.vectors(texts[:: max(1, len(texts) // BANK_SIZE)][:BANK_SIZE])


def train(judge: Judge, gathered: Gathered, features: Features) -> Head:
    """The judge's weights, with notes on data, licences, operating point and figures out of fold."""
    examples, known = gathered.examples, gathered.known
    if not is_tuned(features.embedder.settings.model):
        known = np.zeros(len(examples), dtype=bool)
    elif judge.only_new:
        examples = [e for e, seen_before in zip(examples, known, strict=True) if not seen_before]
        known = np.zeros(len(examples), dtype=bool)
    bank = bank_of(features).astype(np.float16).astype(np.float32) if judge.shape.reads == "answer" else None
    seen = look(features, judge.shape, [e.item for e in examples], bank)
    targets = targets_of(judge.shape, [e.labels for e in examples])
    # What is left of sets of which the encoder saw most lies in few folds: it is parted anew.
    groups = [f"new:{e.group}" if judge.only_new else e.group for e in examples]
    head = fit(judge.shape, seen, targets, groups, {}, known=known)
    if bank is not None:
        head.extras["bank"] = bank
    head.notes |= {
        "encoder": features.embedder.settings.model,
        "data": {source.name: source.licence for source in gathered.used},
        "labels": dict(sorted(Counter(name for e in examples for name in e.labels).items())),
    }
    settle(judge, head, examples, targets)
    return head


def settle(judge: Judge, head: Head, examples: Sequence[Example], targets: NDArray[np.float64]) -> None:
    """Notes the operating point and the figures of a head that was just trained on `examples`, out of fold."""
    assert head.out_of_fold is not None
    new = ~np.isnan(head.out_of_fold[:, 0])
    found, wanted = head.out_of_fold[new], targets[new]
    if judge.positive:
        sources = np.asarray([e.source for e in examples])
        tried = new & np.char.startswith(sources, judge.tried_on)
        point = operating_point(judge, *positive_side(judge, head.out_of_fold[tried], targets[tried]))
        head.notes |= {"operating_point": point, "watch_point": point}
        if (calm := new & np.char.startswith(sources, judge.alarms_on)).any() and judge.alarms < 1:
            score, positive = positive_side(judge, head.out_of_fold[calm], targets[calm])
            calm_scores = score[positive == 0] if (positive == 0).any() else np.zeros(1)
            for name, share in (("operating_point", judge.alarms), ("watch_point", judge.watch_alarms)):
                head.notes[name] = round(max(point, float(np.quantile(calm_scores, 1 - share))), 4)
        if judge.keep:  # how much of each kind of negative is found at that price
            score, positive = positive_side(judge, found, wanted)
            below = score < head.notes["operating_point"]
            kinds = {str(kind): (sources[new] == kind) & (positive == 0) for kind in np.unique(sources[new])}
            head.notes["found_by_kind"] = {k: round(float(below[rows].mean()), 4) for k, rows in kinds.items() if rows.any()}
    head.notes["figures"] = figures(judge, head, found, wanted)


def positive_side(
    judge: Judge, found: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The probability of the judge's positive classes together, and whether one of them is true: `[n]` each of `[n, C]`."""
    places = [judge.shape.classes.index(name) for name in judge.positive]
    return found[:, places].sum(1), wanted[:, places].sum(1)


def operating_point(judge: Judge, score: NDArray[np.float64], positive: NDArray[np.float64]) -> float:
    """The score that keeps the judge's share of the positives; else the one from which what is above costs least.

    A miss costs `miss_cost`, a false alarm 1, with positives and negatives alike many.
    """
    if judge.keep:
        return round(float(np.quantile(score[positive == 1], 1 - judge.keep)), 4)
    order = np.argsort(-score, kind="stable")
    hits, alarms = np.cumsum(positive[order]), np.cumsum(1 - positive[order])
    cost = judge.miss_cost * (1 - hits / max(1, hits[-1])) + alarms / max(1, alarms[-1])
    return round(float(score[order[int(np.argmin(cost))]]), 4)


def figures(judge: Judge, head: Head, found: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, float]:
    """Macro-F1 over the labels; for a judge with a positive side also its AUC, recall and false alarms; calibration error."""
    classes = len(judge.shape.classes)
    if judge.shape.multilabel:
        above = found >= head.thresholds
        scores = [f1(wanted[:, i] == 1, above[:, i]) for i in range(classes)]
        return {
            "macro_f1": mean(scores),
            "calibration_error": mean([calibration_error(found[:, i], wanted[:, i]) for i in range(classes)]),
        }
    said, truth = head.said(found), wanted.argmax(1)
    out = {
        "macro_f1": mean([f1(truth == i, said == i) for i in range(classes) if (truth == i).any()]),
        "accuracy": round(float((said == truth).mean()), 4),
    }
    if judge.positive:
        score, positive = positive_side(judge, found, wanted)
        above = score >= head.notes["operating_point"]
        out |= {
            "auc": auc(score, positive),
            "recall": round(float(above[positive == 1].mean()), 4),
            "false_alarms": round(float(above[positive == 0].mean()), 4),
            "calibration_error": calibration_error(score, positive),
        }
    else:
        sure = found[np.arange(len(found)), said]
        out["calibration_error"] = calibration_error(sure, (said == truth).astype(float))
    return out


def mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else 0.0


def f1(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    """F1 of one class; 0 where nothing is right."""
    both = float((truth & said).sum())
    return 2 * both / max(1.0, float(truth.sum() + said.sum()))


def auc(score: NDArray[np.float64], positive: NDArray[np.float64]) -> float:
    """Area under the ROC curve, ties counted half."""
    from scipy.stats import rankdata

    ranks, many = rankdata(score), positive.sum()
    if not 0 < many < len(score):
        return float("nan")
    return round(float((ranks[positive == 1].sum() - many * (many + 1) / 2) / (many * (len(score) - many))), 4)


def calibration_error(probability: NDArray[np.float64], truth: NDArray[np.float64], bins: int = 10) -> float:
    """Expected calibration error over bins of equal width (Guo 2017)."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(probability[place == b].mean() - truth[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return round(float(sum(gaps)), 4)


def summary(row: Mapping[str, Any]) -> str:
    """A judge's figures in a few words."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.get("figures", {}).items())


def train_all(name: str, data: Path, allow: Sequence[str], folder: Path, embedder: Embedder) -> Iterator[dict[str, Any]]:
    """Trains judge `name`, or all of them, and writes `<folder>/<judge>.npz`; yields each one's notes.

    Raises `ConfigError` for an unknown judge or licence class, `DataError` where one judge's sets are missing.
    """
    if wrong := set(allow) - set(LICENCES):
        raise ConfigError(f"there is no licence class '{min(wrong)}': they are {', '.join(LICENCES)}")
    judges = list(JUDGES.values()) if name == "all" else [find(name)]
    features = Features(embedder)
    for judge in judges:
        started = time.monotonic()
        try:
            gathered = gather(judge, data, allow)
        except DataError:
            if name != "all":
                raise
            yield {"judge": judge.name, "seconds": 0.0, "missing": [source.needs for source in judge.sources]}
            continue
        head = train(judge, gathered, features)
        with atomic_write(folder / f"{judge.name}.npz", binary=True) as file:
            file.write(head.to_bytes())
        yield {
            "judge": judge.name,
            "seconds": round(time.monotonic() - started, 1),
            "missing": [source.needs for source in gathered.missing],
            **head.notes,
        }
