"""Ctrl-C as a user presses it: one line on standard error and exit code 130, whatever the command is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import pytest

from attunement.cli.main import main
from attunement.storage.files import read_json
from conftest import write_tiny_dataset

SAMPLES = Path(str(resources.files("attunement"))) / "samples" / "conversations"
GOES_ON = "interrupted: the same command goes on where it was"
ENDLESS = (
    "--set",
    "model.num_experts=2",
    "--set",
    "model.lora_rank=2",
    "--set",
    "training.epochs=1000",
    "--set",
    "training.batch_size=4",
)


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "attunement", *map(str, arguments)]
    # A shell starts its background jobs with Ctrl-C ignored, and children inherit that: the tests may run in one.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ}, preexec_fn=heard
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> list[str]:
    """The lines on standard error of a command that Ctrl-C, or another signal, ends."""
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    return told.splitlines()


def test_an_interrupted_build_says_that_it_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running("data", "build", SAMPLES, "--out", out) as process:
        wait_until((out / "work" / "read").is_dir, process)
        told = interrupt(process)
    assert told[-1] == GOES_ON
    assert sum("interrupt" in line.lower() or "abort" in line.lower() for line in told) == 1
    assert (out / "work" / "read").is_dir() and not (out / "work" / "lock").exists()


@pytest.mark.slow
def test_an_interrupted_training_says_that_it_goes_on(tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second = ["run", "--data", tiny_dataset, "--out", run, "--json", *ENDLESS], ["resume", run, "--json"]
    for command, number in ((first, signal.SIGINT), (second, signal.SIGTERM)):
        log = run / "metrics.jsonl"
        before = log.read_bytes().count(b"\n") if log.exists() else 0
        with running("--debug", "train", *command) as process:
            wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") > before, process)  # noqa: B023
            assert interrupt(process, number) == [GOES_ON]
        state = read_json(run / "run.json")
        assert state["status"] == "interrupted" and state["step"] == log.read_bytes().count(b"\n")
        assert (run / "checkpoints" / state["last"] / "checksums.json").is_file()


def test_an_interrupted_talk_just_ends(tiny_run: Path) -> None:
    with running("chat", "--model", tiny_run, "--json") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("I feel sad since winter.\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith('{"response"')
        assert interrupt(process) == ["interrupted"]


def test_training_without_validation_data_shows_no_figure(tmp_path: Path) -> None:
    dataset, run = write_tiny_dataset(tmp_path / "dataset", train=8), tmp_path / "runs" / "run"
    (dataset / "validation.jsonl").write_text("")
    with running("train", "run", "--data", dataset, "--out", run, *ENDLESS, "--set", "training.max_steps=1") as process:
        told, warned = process.communicate(timeout=120)
    assert process.returncode == 0, warned
    assert "validation: n/a, there is no validation data" in told.splitlines()
    assert [line for line in warned.splitlines() if "validation" in line] == [warned.splitlines()[0]]
    assert warned.startswith("no validation data: ")


def lightning_way() -> None:
    """What Lightning does about a second Ctrl-C."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


def test_an_exit_because_of_ctrl_c_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attunement.cli.main.app", lightning_way)
    monkeypatch.setattr(sys, "argv", ["attune", "--debug", "train", "resume", "runs/first"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130 and capsys.readouterr().err == GOES_ON + "\n"


def test_any_other_exit_stays_what_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("attunement.cli.main.app", lambda: sys.exit(4))
    monkeypatch.setattr(sys, "argv", ["attune", "data", "build"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 4 and capsys.readouterr().err == ""
