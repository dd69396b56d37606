"""Runs as folders: what they have seen, how they differ, and the page of one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.storage.files import read_json
from attunement.training.plot import write_page
from attunement.training.runs import differences, runs_in


def test_a_run_tells_what_it_has_seen(tiny_run: Path) -> None:
    assert [row["run"] for row in runs_in(tiny_run.parent)] == ["tiny"]
    assert [row["run"] for row in runs_in(tiny_run.parent, "x-train-7")] == ["tiny"]
    assert runs_in(tiny_run.parent, "x-test-1") == []


def test_runs_are_compared_by_what_differs(tiny_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    config = read_json(other / "config.json")
    (other / "config.json").write_text(json.dumps({**config, "training": {**config["training"], "learning_rate": 0.5}}))
    found = differences([tiny_run, other])
    assert found["training.learning_rate"] == [0.003, 0.5]
    assert "training.batch_size" not in found and found["result.step"] == [18, 18]
    with pytest.raises(DataError, match="holds no run"):
        differences([tiny_run, tmp_path])


def test_the_page_of_a_run(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run <b>"
    shutil.copytree(tiny_run, run)
    event = {"time": "2026-01-01T00:00:00+00:00", "kind": "out_of_memory", "step": 8, "action": "halved", "reason": "<script>"}
    (run / "events.jsonl").write_text(json.dumps(event) + "\n")
    text = write_page(run).read_text()
    assert "18</b>steps of 18" in text and "out of memory" in text and "&lt;script&gt;" in text and "run &lt;b&gt;" in text
    assert text.count("data:image/png;base64,") == 2 and "http" not in text
