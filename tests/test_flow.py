"""The main job in one go: raw conversations in, a served model out; the second time all is reused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.storage.files import read_json

SMALL = [
    "training.max_steps=4",
    "training.epochs=1",
    "evaluation.max_replies=1",
    "evaluation.max_examples=8",
    "embedding.max_tokens=64",
    "data.min_coherence=0",
    "data.review=off",
]


@pytest.mark.slow
def test_demo_and_demo_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["demo", "--out", "demo", *(part for setting in SMALL for part in ("--set", setting))]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, (first.output, first.exception)
    for words in (
        "126 conversations in, 124 kept, 1 left out, 1 unreadable",
        "4 steps in",
        "held-out perplexity",
        "POST /api/v1/inference",
        "serve --model demo/runs/demo",
        "chat --model demo/runs/demo",
        "demo/runs/demo/report.html",
    ):
        assert words in first.output
    assert "reused" not in first.output
    seen = read_json(Path("demo/runs/demo/dataset.json"))["dataset_sha256"]
    assert seen == read_json(Path("demo/dataset/manifest.json"))["dataset_sha256"]
    second = CliRunner().invoke(app, arguments)
    assert second.exit_code == 0 and second.output.count("reused: ") == 3


def test_the_contract_by_its_public_names() -> None:
    import attunement

    for name, methods in {
        "DataPipeline": ("process_datasets", "validate_quality", "export_lora_format"),
        "QualityValidator": ("score_semantic_coherence", "validate_therapeutic_appropriateness", "detect_bias"),
        "TrainingSystem": ("initialize_model", "train", "save_checkpoint"),
        "DeploymentService": ("load_model", "predict", "health_check"),
    }.items():
        found = getattr(attunement, name)
        assert all(callable(getattr(found, method)) for method in methods)
