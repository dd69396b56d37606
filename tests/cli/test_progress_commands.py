"""`attune progress`, as an operator uses it: a client's journal from the first session to the report, and invented journeys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app

RUNNER = CliRunner()
AT = ("--at", "2026-03-02T10:00+01:00")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    assert RUNNER.invoke(app, ["keys", "init"]).exit_code == 0
    return tmp_path


def attune(*words: str, code: int = 0) -> str:
    found = RUNNER.invoke(app, ["progress", *words])
    told = found.output + (str(found.exception) if found.exception and code else "")
    assert (found.exit_code == 0) == (code == 0), told
    return told


def test_a_clients_journal(home: Path) -> None:
    talk = home / "session.json"
    turns = [
        ("client", "I slept badly and I worry about the exam."),
        ("therapist", "What worries you most?"),
        ("client", "That I fail, and my father."),
    ]
    talk.write_text(json.dumps([{"role": role, "content": text} for role, text in turns]))
    logged = attune("log", "c-1", "s-1", "--transcript", str(talk), "--measure", "phq9=2,1,1,1,1,1,1,1,0", *AT)
    assert "version 1" in logged and "exam" in logged
    assert "version 1" in attune("log", "c-1", "s-1", "--transcript", str(talk), "--measure", "phq9=2,1,1,1,1,1,1,1,0", *AT)
    assert "7 of 21 (mild)" in attune("measure", "c-1", "gad7=1,1,1,1,1,1,1", *AT)
    assert attune("goal", "c-1", "Sleep six hours", "--id", "g-sleep", *AT).strip() == "g-sleep"
    attune("rate", "c-1", "g-sleep", "--attainment", "1", *AT)
    attune("event", "c-1", "medication", "Sertraline 50 mg", *AT)
    attune("milestone", "c-1", "Sat the exam", *AT)
    assert "version 2 of s-1 stands" in attune("edit", "c-1", "s-1", "--version", "1", "--notes", "Sleep diary begun.")
    assert "is signed by os:" in attune("sign", "c-1", "s-1", "--version", "2")
    assert attune("sessions", "c-1").count("signed by") == 1
    assert len(json.loads(attune("sessions", "c-1", "--session", "s-1", "--json"))) == 2
    shown = attune("show", "c-1", "--timeframe", "2026-Q1")
    assert "not enough data" in shown and "Sleep six hours: 100 %" in shown
    assert "phq9: not enough data, 1 scores" in attune("trends", "c-1")
    assert "Sat the exam" in attune("milestones", "c-1")
    assert "exam" in attune("context", "c-1", "--said", "I worry about my father", "--days", "3000")
    report = home / "r.html"
    attune("report", "c-1", "--timeframe", "2026", "--out", str(report))
    assert "Sertraline" in report.read_text() and report.stat().st_mode & 0o777 == 0o600
    assert "phq9: Patient Health Questionnaire" in attune("measures")


def test_invented_journeys_become_training_data(home: Path) -> None:
    assert "sim-5-1: " in attune("simulate", "--clients", "2", "--years", "0.5", "--seed", "5")
    before = attune("sessions", "sim-5-1", "--json")
    attune("simulate", "--clients", "2", "--years", "0.5", "--seed", "5")
    assert len(json.loads(attune("sessions", "sim-5-1", "--json"))) == len(json.loads(before))
    (home / "ids.txt").write_text("sim-5-1\n")
    out = home / "journeys.jsonl"
    assert "1 journeys" in attune("journeys", "--out", str(out), "--consented", str(home / "ids.txt"))
    assert "sim-5" not in out.read_text() and len(out.read_text().splitlines()) == 1
    attune("journeys", "--out", str(out), "--consented", str(home / "ids.txt"), code=3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("measure", "c-1", "phq9"), "should be CODE=ANSWERS"),
        (("measure", "c-1", "phq9=1,2"), "2 answers for 9 items"),
        (("measure", "c-1", "gad7=3", "--at", "2026-03-02T10:00"), "needs its time zone"),
        (("measure", "c-1", "gad7=3", "--at", "soon"), "is no time"),
        (("show", "c-1", "--timeframe", "soon"), "soon"),
        (("show", "c-1", "--zone", "Mars"), "no time zone"),
        (("report", "c-1", "--out", "r.doc"), "should end in"),
        (("sign", "c-1", "s-9", "--version", "1"), "no such session"),
        (("log", "c-1", "s-1", "--transcript", "/nowhere.json"), "nowhere"),
    ],
)
def test_bad_input_gets_one_line(home: Path, words: tuple[str, ...], told: str) -> None:
    assert told in attune(*words, code=3)
