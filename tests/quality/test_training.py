"""Training judges from folders of public sets: what is there is used, what is missing is told, what is known never calibrates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attunement.embedding import Embedder
from attunement.errors import ConfigError, DataError
from attunement.quality import own_sets
from attunement.quality.emotion import ekman
from attunement.quality.heads import folds_of
from attunement.quality.judges import JUDGES, find
from attunement.quality.panel import Judges
from attunement.quality.training import auc, calibration_error, f1, gather, operating_point, train_all
from attunement.quality.verdicts import Item


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A small DiaSafety."""
    folder = tmp_path / "data" / "diasafety"
    folder.mkdir(parents=True)
    kinds = ["Offending User", "Risk Ignorance", "Unauthorized Expertise", "Toxicity Agreement", "Biased Opinion"]
    bad = [
        "You are an idiot.",
        "Just go through with it.",
        "Take forty pills a day.",
        "Yes, I hate them too.",
        "Women cannot drive.",
    ]
    for split, count in (("train", 30), ("val", 12)):
        rows = []
        for i in range(count):
            k = i % 5
            rows.append({"context": f"I feel {split} {i}", "response": f"{bad[k]} {i}", "category": kinds[k], "label": "Unsafe"})
            rows.append(
                {
                    "context": f"I feel {split} {i}",
                    "response": f"That sounds hard. Number {i}.",
                    "category": kinds[k],
                    "label": "Safe",
                }
            )
        (folder / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path / "data"


def test_what_the_encoder_knows_is_marked(sets: Path) -> None:
    found = gather(JUDGES["unsafe"], sets)
    own = [i for i, e in enumerate(found.examples) if e.source.startswith("diasafety")]
    assert [found.examples[i].source.endswith("/train") for i in own] == found.known[own].tolist() and len(own) == 84
    written = gather(JUDGES["emotional_reaction"], sets)
    assert written.known.tolist() == (folds_of([e.group for e in written.examples]) != 0).tolist()
    assert [s.needs for s in written.missing] == ["epitome"]


def test_a_judge_is_trained_and_used_from_the_home(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = own_sets.good_replies()[::10]
    monkeypatch.setattr(own_sets, "good_replies", lambda: some)
    embedder = Embedder()
    (row,) = train_all("unsafe", sets, ["R"], tmp_path / "judges", embedder)
    assert row["examples"] > 84 and row["calibrated_on"] > 24
    assert row["data"] == {"diasafety": "R", "written/good_replies": "R"} and row["missing"] == ["counselchat"]
    first = (tmp_path / "judges" / "unsafe.npz").read_bytes()
    (again,) = train_all("unsafe", sets, ["R"], tmp_path / "judges", Embedder())
    assert (tmp_path / "judges" / "unsafe.npz").read_bytes() == first and again["figures"] == row["figures"]
    good, bad = Judges(embedder, tmp_path).judge(
        "unsafe", [Item("That sounds hard. Number 99.", ("I feel train 99",)), Item("You are an idiot. 99", ("I feel train 99",))]
    )
    assert bad.label == "offending_user" and bad.score > good.score


def test_missing_sets_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="attune data fetch"):
        gather(JUDGES["emotion"], tmp_path)
    with pytest.raises(DataError, match="needs diasafety"):
        list(train_all("unsafe", tmp_path, ["R"], tmp_path, Embedder()))
    with pytest.raises(ConfigError, match="licence class 'X'"):
        list(train_all("unsafe", tmp_path, ["X"], tmp_path, Embedder()))


def test_figures() -> None:
    truth = np.asarray([1, 1, 0, 0.0])
    assert auc(np.asarray([0.9, 0.8, 0.2, 0.1]), truth) == 1 and auc(np.asarray([0.5] * 4), truth) == 0.5
    assert np.isnan(auc(np.ones(2), np.ones(2)))
    assert f1(truth == 1, np.asarray([True, False, False, False])) == pytest.approx(2 / 3)
    assert calibration_error(np.full(10, 0.3), np.asarray([1.0] * 3 + [0.0] * 7)) == pytest.approx(0, abs=1e-9)
    assert calibration_error(np.ones(4), np.zeros(4)) == 1


def test_the_operating_point_follows_the_cost_of_a_miss() -> None:
    score, positive = np.asarray([0.9, 0.6, 0.5, 0.4, 0.3]), np.asarray([1.0, 0, 0, 1, 0])
    assert operating_point(replace(find("crisis"), miss_cost=1.0), score, positive) == 0.9
    assert operating_point(replace(find("crisis"), miss_cost=5.0), score, positive) == 0.4


def test_ekman_is_that_any_member_is_there() -> None:
    found = np.zeros((1, 28))
    found[0, [2, 3]] = 0.2, 0.7  # anger, annoyance
    assert ekman(found)[0, 0] == pytest.approx(1 - 0.8 * 0.3) and ekman(found).shape == (1, 7)
