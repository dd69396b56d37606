"""`attune review` as a reviewer uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.curation.review import Held, HeldWriter, ReviewQueue, content_key, read_held
from attunement.errors import DataError
from attunement.storage.sql import Store

RUNNER = CliRunner()
KEY = content_key([], "Nobody would miss me.", "Cheer up.\x1b[2J")


@pytest.fixture(autouse=True)
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReviewQueue:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    with HeldWriter(tmp_path / "data") as writer:
        writer.add(
            Held(KEY, "x-1", "notes", [], "Nobody would miss me.", "Cheer up.\x1b[2J", ["risk_ignorance"], {"unsafe": 0.97})
        )
    found = ReviewQueue(Store.at_home(tmp_path / "home"))
    found.add(tmp_path / "data", read_held(tmp_path / "data"))
    return found


def attune(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["review", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_list_show_accept(queue: ReviewQueue) -> None:
    assert KEY[:12] in attune("list") and "1 entries" in attune("list", "--reason", "risk_ignorance")
    assert json.loads(attune("list", "--reason", "other", "--json")) == []
    told = attune("show", KEY[:5])
    assert "Nobody would miss me." in told and "Cheer up." in told and "\x1b" not in told and "unsafe 0.97" in told
    assert "accepted by ana" in attune("accept", KEY[:5], "--why", "fine", "--by", "ana")
    assert attune("list").startswith("0 entries") and "accepted" in attune("list", "--status", "all")
    assert (
        "accepted by ana: fine" in attune("show", KEY[:5]) and json.loads(attune("show", KEY, "--json"))["status"] == "accepted"
    )
    result = RUNNER.invoke(app, ["review", "reject", KEY, "--why", "no", "--by", "ben"])
    assert isinstance(result.exception, DataError) and "was accepted by ana" in str(result.exception)
    assert "rejected by" in attune("reject", KEY, "--why", "no", "--again")


def test_edit_from_a_file_or_an_editor(queue: ReviewQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new.txt").write_text("I would. Are you safe?\n", encoding="utf-8")
    attune("edit", KEY, "--why", "asks", "--file", tmp_path / "new.txt")
    assert queue.decisions()[KEY].answer == "I would. Are you safe?" and "Are you safe?" in attune("show", KEY)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'From an editor.' > \"$1\"\n", encoding="utf-8")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    attune("edit", KEY, "--why", "again", "--again")
    assert queue.decisions()[KEY].answer == "From an editor."


@pytest.mark.parametrize(
    ("editor", "message"),
    [
        ("true", "the answer is as it was and nothing was decided"),
        ("false", "failed: nothing was decided"),
        ("no-such-editor", "failed: nothing was decided"),
        ('vi "', "failed: nothing was decided"),
        ("sh -c 'printf \"\\351\" > $0'", "failed: nothing was decided"),
    ],
)
def test_an_editor_that_gives_nothing_decides_nothing(
    queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch, editor: str, message: str
) -> None:
    monkeypatch.setenv("VISUAL", editor)
    result = RUNNER.invoke(app, ["review", "edit", KEY, "--why", "x"])
    assert isinstance(result.exception, DataError) and message in str(result.exception)
    assert queue.find(KEY).status == "pending"


def test_no_editor_opens_for_what_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", f"touch {tmp_path / 'opened'}")
    attune("accept", KEY, "--why", "fine", "--by", "ana")
    result = RUNNER.invoke(app, ["review", "edit", KEY, "--why", "x"])
    assert "was accepted by ana" in str(result.exception) and not (tmp_path / "opened").exists()


def test_what_a_source_is_called_is_shown_and_never_obeyed(queue: ReviewQueue, tmp_path: Path) -> None:
    name = "no[/]tes [red]\x1b[2J\u202e"
    with HeldWriter(tmp_path / "data") as writer:
        writer.add(Held(content_key([], "q", "a"), "x-2", name, [], "q", "a\x9b2J", ["risk_ignorance"], {}))
    queue.add(tmp_path / "data", read_held(tmp_path / "data"))
    for told in (attune("list"), attune("show", content_key([], "q", "a"))):
        assert "no[/]tes [red]" in told and not set("\x1b\x9b\u202e") & set(told)


def test_bad_use_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    for arguments, message in (
        (["list", "--status", "open"], "there is no status 'open'"),
        (["show", "0000"], "there is no entry that begins with '0000'"),
        (["edit", KEY, "--why", "x"], "there is no editor"),
        (["edit", KEY, "--why", "x", "--file", str(tmp_path / "latin.txt")], "is not UTF-8"),
    ):
        result = RUNNER.invoke(app, ["review", *arguments])
        assert isinstance(result.exception, DataError) and message in str(result.exception)
    (tmp_path / "data" / "review" / "held.jsonl").unlink()
    assert "no longer in the dataset's folder" in attune("show", KEY)
