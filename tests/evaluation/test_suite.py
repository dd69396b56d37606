"""The evaluation: figures that follow from the losses, the same every time, and a page without outside parts."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from attunement.config import load_settings
from attunement.errors import DataError, ModelError
from attunement.evaluation.perplexity import Scored, perplexities
from attunement.evaluation.suite import EvaluationSuite
from attunement.storage.files import read_json

SETTINGS = load_settings(None, ["evaluation.max_replies=2", "evaluation.max_new_tokens=16"]).settings


@pytest.fixture(scope="module")
def results(tiny_run: Path) -> dict[str, object]:
    return EvaluationSuite(SETTINGS).evaluate(tiny_run)


def test_perplexity_is_that_of_the_tokens() -> None:
    scored = Scored(np.array([8.0, 4.0]), np.array([4.0, 2.0]), np.array([4, 2]))
    found = perplexities(scored)
    assert found["before"]["value"] == pytest.approx(math.e**2, abs=1e-3)
    assert found["after"]["value"] == pytest.approx(math.e, abs=1e-3)
    assert found["ratio"] == {
        "value": pytest.approx(1 / math.e, abs=1e-3),
        "low": pytest.approx(1 / math.e, abs=1e-3),
        "high": pytest.approx(1 / math.e, abs=1e-3),
    }
    assert perplexities(Scored(np.array([]), np.array([]), np.array([], dtype=int)))["examples"] == 0


def test_the_interval_holds_the_value_and_grows_with_doubt() -> None:
    rng = np.random.default_rng(0)
    tokens = np.full(40, 10)
    narrow = perplexities(Scored(rng.normal(30, 1, 40), rng.normal(20, 1, 40), tokens))
    wide = perplexities(Scored(rng.normal(30, 9, 40), rng.normal(20, 9, 40), tokens))
    for found in (narrow, wide):
        assert all(found[k]["low"] <= found[k]["value"] <= found[k]["high"] for k in ("before", "after", "ratio"))
    assert wide["ratio"]["high"] - wide["ratio"]["low"] > 3 * (narrow["ratio"]["high"] - narrow["ratio"]["low"])


def test_training_shows(results: dict, tiny_run: Path) -> None:
    assert results["perplexity"]["after"]["value"] < results["perplexity"]["before"]["value"] / 2
    assert results["perplexity"]["ratio"]["high"] < 0.5
    assert results["perplexity"]["examples"] == 8
    assert results == read_json(tiny_run / "evaluation.json")
    usage = results["expert_usage"]
    assert len(usage) == 6 and all(len(row) == 4 and sum(row) == pytest.approx(1, abs=1e-3) for row in usage)
    for example in results["replies"]["examples"]:
        assert example["model"]["text"] and 0 <= example["model"]["coherence"] <= 1


def test_the_page_stands_alone(results: dict, tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "<script" not in page
    assert page.count("data:image/png;base64,") == 2
    assert f"{results['perplexity']['after']['value']:.2f}" in page
    assert all(f'alt="{words}' in page for words in ("Training and validation loss", "Share of tokens"))


def test_what_is_there_is_given_back_only_while_it_holds(results: dict, tiny_run: Path) -> None:
    assert EvaluationSuite(SETTINGS).earlier(tiny_run) == results
    other = load_settings(None, ["evaluation.max_replies=1"]).settings
    assert EvaluationSuite(other).earlier(tiny_run) is None


def test_a_run_without_report_or_test_split(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "report.html").unlink(missing_ok=True)
    assert EvaluationSuite(SETTINGS).earlier(run) is None
    (run / "dataset.json").unlink()
    with pytest.raises(DataError, match="names no test split"):
        EvaluationSuite(SETTINGS).evaluate(run)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist"), ("", "has no examples"), ('{"text": 1}\n', "is no chat JSONL"), ("{\n", "is no chat JSONL")],
)
def test_a_bad_test_file(tiny_run: Path, tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "test.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words):
        EvaluationSuite(SETTINGS).evaluate(tiny_run, path)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        EvaluationSuite(SETTINGS).evaluate(tmp_path / "nowhere")
