"""`attune data fetch` as a user runs it, against a real server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app, main
from attunement.readers.sets import catalogue

FILES = ("DR", "Irf", "MultiWD", "SAD", "dreaddit")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """Serves stand-ins for the files of `imhi`, three of which share a name."""
    (imhi,) = (s for s in catalogue() if s.name == "imhi")
    assert imhi.fetch is not None and sorted({f.split("/")[0] for f in imhi.fetch.files}) == sorted(FILES)
    for remote in imhi.fetch.files:
        path = tmp_path / "mirror" / remote
        path.parent.mkdir(parents=True)
        path.write_text(f"post,question,response\nabout {remote},?,!\n", encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_list_says_what_can_be_fetched() -> None:
    told = CliRunner().invoke(app, ["data", "fetch"]).stdout
    rows = {line.split()[0]: line for line in told.splitlines()[1:24]}
    assert told.splitlines()[0].split() == ["set", "get", "it", "class", "licence", "what"]
    assert rows.keys() == {entry.name for entry in catalogue()}
    for entry in catalogue():
        where = "fetch" if entry.fetch else "publisher"
        assert rows[entry.name].split()[1:3] == [where, entry.licence_class]
        assert entry.licence in rows[entry.name] and entry.title in rows[entry.name]
    assert "publisher: only from its own address" in told


def test_the_list_for_programs() -> None:
    rows = json.loads(CliRunner().invoke(app, ["data", "fetch", "--json"]).stdout)
    assert len(rows) == 23
    (found,) = (row for row in rows if row["name"] == "annomi")
    assert found["fetchable"] and found["licence_class"] == "N" and list(found["files"]) == ["AnnoMI-full.csv"]
    (other,) = (row for row in rows if row["name"] == "vera-mh")
    assert not other["fetchable"] and other["files"] == {} and other["url"].startswith("https://")


def test_a_fetch_for_programs(mirror: str, tmp_path: Path) -> None:
    arguments = ["data", "fetch", "imhi", "--out", str(tmp_path / "imhi"), "--base-url", mirror, "--accept-licence"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    answer = json.loads(result.stdout)
    assert (answer["name"], answer["licence_class"], answer["folder"]) == ("imhi", "R", str(tmp_path / "imhi"))
    assert answer["licence"].startswith("MIT") and len(answer["files"]) == len(FILES)
    for file in answer["files"]:
        assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest() and not file["pinned"]
    told = [line for line in result.stderr.splitlines() if line.startswith("no checksum is pinned for ")]
    assert len(told) == len(FILES) and all(line.endswith("; later downloads must match") for line in told)
    again = CliRunner().invoke(app, arguments)
    assert again.stdout.splitlines() == [file["path"] for file in answer["files"]] and "no checksum" not in again.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_question_does_not_mix_with_the_answer(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--out", str(tmp_path / "imhi"), "--base-url", mirror]
    monkeypatch.setattr(sys, "argv", ["attune", "data", "fetch", "imhi", *where, "--json"])
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr()
    assert stop.value.code == 0 and "Do you accept this licence?" in told.err
    assert len(json.loads(told.out)["files"]) == len(FILES)
