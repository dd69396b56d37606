"""The commands from training to talk, as a user runs them: their output, their exit codes, their one-line errors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from attunement.cli.main import app, main
from attunement.cli.serve import is_loopback

RUNNER = CliRunner()
SMALL = [
    "--set",
    "model.num_experts=2",
    "--set",
    "model.lora_rank=2",
    "--set",
    "training.max_steps=2",
    "--set",
    "training.batch_size=4",
]


def attune(*arguments: str, code: int = 0, **options: str) -> str:
    result = RUNNER.invoke(app, list(arguments), **options)
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def fails(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that ends with exit code 3."""
    monkeypatch.setattr(sys, "argv", ["attune", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_train_show_list_resume(tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    answer = json.loads(attune("train", "run", "--data", str(tiny_dataset), "--out", str(run), *SMALL, "--json"))
    assert answer["metrics"]["steps"] == 2 and Path(answer["checkpoint"]).is_dir()
    told = attune("train", "run", "--data", str(tiny_dataset), "--out", str(run), *SMALL)
    assert "2 steps" in told and "perplexity" in told
    assert "2 steps" in attune("train", "resume", str(run))
    assert "first" in attune("train", "list", "--runs", str(tmp_path / "runs"))
    assert json.loads(attune("train", "list", "--runs", str(tmp_path / "runs"), "--json"))[0]["status"] == "finished"
    assert "no runs in" in attune("train", "list", "--runs", str(tmp_path / "none"))
    assert "dataset_sha256" in attune("train", "show", str(run))
    assert json.loads(attune("train", "show", str(run), "--json"))["config"]["model"]["num_experts"] == 2


def test_eval(tiny_run: Path) -> None:
    few = ["--set", "evaluation.max_replies=1", "--set", "evaluation.max_new_tokens=8"]
    told = attune("eval", "run", "--run", str(tiny_run), *few)
    assert re.search(r"perplexity: [\d.]+ before, [\d.]+ after \(ratio 0\.\d+", told) and "report.html" in told
    assert json.loads(attune("eval", "run", "--run", str(tiny_run), *few, "--json"))["perplexity"]["examples"] == 8


def test_chat(tiny_run: Path) -> None:
    told = attune("chat", "--model", str(tiny_run), "--once", "I feel sad since winter.")
    assert "That sounds hard." in told and re.search(r"bias 0\.\d\d, confidence 0\.\d\d, coherence 0\.\d\d", told)
    answer = json.loads(attune("chat", "--model", str(tiny_run), "--once", "I want to die", "--json"))
    assert answer["gate"] == "crisis" and "988" in answer["response"]
    talk = attune("chat", "--model", str(tiny_run), input="I feel sad since winter.\nI want to die\nI feel low since Monday.\n\n")
    assert "not a therapist" in talk and talk.count("bias 0.00") == 3 and "gate: crisis" in talk and "gate: reminded" in talk
    assert len(attune("chat", "--model", str(tiny_run), "--json", input="I feel sad.\nI feel low.\n").splitlines()) == 2


@pytest.mark.parametrize(("number", "statuses"), [(signal.SIGINT, (0, 130, -signal.SIGINT)), (signal.SIGTERM, (0,))])
def test_serve_over_http(tiny_run: Path, number: signal.Signals, statuses: tuple[int, ...]) -> None:
    """Also that SIGTERM, the stop of a container, lets the service close what it opened: it would be -15 where it does not."""
    command = [sys.executable, "-m", "attunement", "serve", "--model", str(tiny_run), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stdout is not None
        address = ""
        for line in process.stdout:
            if found := re.search(r"page: (http://127\.0\.0\.1:\d+)/docs", line):
                address = found[1]
                break
        for _ in range(200):
            try:
                health = httpx.get(f"{address}/api/v1/health", trust_env=False)
                break
            except httpx.ConnectError:
                continue
        assert health.json()["status"] == "healthy"
        answer = httpx.post(
            f"{address}/api/v1/inference", json={"user_input": "I feel sad since winter."}, trust_env=False, timeout=30
        )
        assert "That sounds hard." in answer.json()["response"]
        process.send_signal(number)
        assert process.wait(20) in statuses
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--model", "x", "--host", "0.0.0.0"], "--insecure-http behind a proxy"),
        (["serve", "--model", "x", "--tls-cert", "a.pem"], "--tls-cert and --tls-key go together"),
        (["serve", "--model", "x", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "a.pem does not exist"),
        (["serve", "--model", "nowhere", "--port", "0"], "there is no model at nowhere"),
        (["chat", "--model", "nowhere", "--once", "hi"], "there is no model at nowhere"),
        (["train", "run", "--data", "nowhere"], "build a dataset first"),
        (["train", "resume", "nowhere"], "start one with  attune train run"),
        (["train", "show", "nowhere"], "attune train list"),
        (["eval", "run", "--run", "nowhere"], "there is no model at nowhere"),
        (["train", "run", "--data", "x", "--set", "training.epoch=2"], "did you mean 'training.epochs'"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in fails(*arguments, monkeypatch=monkeypatch, capsys=capsys)


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    from attunement.errors import UserError

    monkeypatch.setattr(sys, "argv", ["attune", "--debug", "train", "show", "nowhere"])
    with pytest.raises(UserError):
        main()


def test_version_and_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch(r"attune \d+\.\d+\.\d+\n", attune("--version"))
    monkeypatch.setattr("attunement.cli.main.app", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130 and capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.0.0.1", False), ("example.org", False)],
)
def test_which_addresses_stay_on_this_machine(host: str, own: bool) -> None:
    assert is_loopback(host) is own
