"""Launching on Lightning.ai, against a stand-in for the SDK at its border: the command, the environment, and what resumes."""

from __future__ import annotations

import shlex
import sys
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.errors import ConfigError, MissingExtraError, ServiceError
from attunement.training.launch import Launch, passed_on

SPOT = Launch("first", "H100", "/teamspace/runs/first", ["--data", "/teamspace/data"], studio="attunement", interruptible=True)


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was handed to `Job.run` of a `lightning_sdk` with the signature of 2026.10."""
    calls: list[dict[str, Any]] = []

    class Machine:
        H100, H100_X_8 = "lit-h100-1", "lit-h100-8"

    class Job:
        @classmethod
        def run(
            cls, name: str, machine: str, cloud: Any = None, command: str | None = None, studio: str | None = None,
            image: str | None = None, teamspace: str | None = None, org: Any = None, user: Any = None,
            env: dict[str, str] | None = None, interruptible: bool = False, max_run_attempts: int | None = None,
        ) -> Any:  # fmt: skip
            if name == "taken":
                raise ValueError("a job with this name exists\nand more")
            calls.append({k: v for k, v in locals().items() if k not in ("cls", "calls") and v is not None})
            return cls()

        name = "first"

    module = ModuleType("lightning_sdk")
    module.Job, module.Machine = Job, Machine  # type: ignore[attr-defined]
    rest = ModuleType("rest")
    rest.ApiException = type("ApiException", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning_sdk", module)
    for name in ("lightning_cloud", "lightning_cloud.openapi"):
        monkeypatch.setitem(sys.modules, f"lightning_sdk.{name}", ModuleType(name))
    monkeypatch.setitem(sys.modules, "lightning_sdk.lightning_cloud.openapi.rest", rest)
    return calls


def test_the_job_is_the_same_command_and_goes_on(submitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_TRAINING__EPOCHS", "4")
    monkeypatch.setenv("PROVIDER_API_KEY", "sk-secret")
    words = ["train", "launch", "--data", "/teamspace/data", "--out", "/teamspace/runs/my run", "--studio", "attunement",
             "--teamspace", "lab/mind", "--interruptible", "--base", "Qwen/Qwen3-8B", "--set", "model.lora_rank=8"]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (job,) = submitted
    assert shlex.split(job["command"]) == [
        "attune", "train", "run", "--out", "/teamspace/runs/my run", "--data", "/teamspace/data", "--base", "Qwen/Qwen3-8B",
        "--set", "model.lora_rank=8",
    ]  # fmt: skip
    assert job["machine"] == "lit-h100-1" and job["interruptible"] and job["max_run_attempts"] == 5
    assert job["studio"] == "attunement" and job["teamspace"] == "lab/mind" and "image" not in job
    assert job["env"]["ATTUNE_TRAINING__EPOCHS"] == "4" and "sk-secret" not in str(job)


def test_what_would_lose_a_run_is_refused(submitted: list[dict[str, Any]]) -> None:
    from dataclasses import replace

    for wrong, words in (
        (replace(SPOT, out="runs/first"), "would be lost with a pre-empted machine"),
        (replace(SPOT, out="/teamspace-not/first"), "would be lost"),
        (replace(SPOT, studio=""), "in a studio or in an image"),
        (replace(SPOT, image="repo/image"), "in a studio or in an image"),
        (replace(SPOT, machine="H1000"), "no machine 'H1000'"),
        (replace(SPOT, attempts=0), "at least 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            wrong.submit({})
    assert not submitted
    with pytest.raises(ServiceError, match=r"did not take the job 'taken': a job with this name exists \(log in"):
        replace(SPOT, name="taken").submit({})


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_sdk", None)
    with pytest.raises(MissingExtraError, match=r"attunement\[lightning-ai\]"):
        SPOT.submit({})


def test_only_settings_go_along() -> None:
    found = passed_on(
        {"ATTUNE_MODEL__BASE": "x", "ATTUNE_HOME": "/home/me", "HF_TOKEN": "hf", "HF_HUB_OFFLINE": "1", "PATH": "/bin"}
    )
    assert found == {"ATTUNE_MODEL__BASE": "x", "HF_HUB_OFFLINE": "1"}
