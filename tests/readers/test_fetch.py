"""Fetching against a real server on this machine: licence, checksums, faults; nothing half there is ever left."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import pytest

from attunement.errors import DataError, IntegrityError
from attunement.readers import fetch as module
from attunement.readers.fetch import FetchedFile, fetch, find
from attunement.readers.sets import Fetch, SourceSet, by_path, catalogue
from attunement.storage.files import read_json

CONTENT = b"question,answer\nHow are you?,I am well and you?\n" * 50


class Server(BaseHTTPRequestHandler):
    content: ClassVar[bytes] = CONTENT
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        if self.path.startswith("/outside"):
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/set.csv")
        elif self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/good/set.csv")
        elif self.path.startswith("/round"):
            self.send_response(302)
            self.send_header("Location", self.path)
        elif self.path.startswith("/good") or self.path.startswith("/cut"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content)))
        else:
            self.send_response(404)
        self.end_headers()
        if body and self.path.startswith("/good"):
            self.wfile.write(self.content)
        if body and self.path.startswith("/cut"):
            self.wfile.write(self.content[:100])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.content, Server.asked = CONTENT, []
    found = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_address[1]}"
    found.shutdown()
    found.server_close()


@pytest.fixture(params=[True, False], ids=["pinned", "unpinned"])
def pinned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A catalogue of one set, whose checksum is pinned or not."""
    digest = hashlib.sha256(CONTENT).hexdigest() if request.param else ""
    one = SourceSet(
        name="one",
        title="One",
        licence="MIT",
        licence_class="R",
        fetch=Fetch(base="https://x.invalid", files={"set.csv": digest}),
    )
    monkeypatch.setattr(module, "catalogue", lambda: (one,))
    return bool(request.param)


def test_fetched_once_and_recorded(server: str, pinned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = fetch("one", tmp_path / "d", base_url=f"{server}/good", accept=True)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert file == FetchedFile(tmp_path / "d" / "set.csv", digest, pinned) and file.path.read_bytes() == CONTENT
    told = capsys.readouterr().err
    assert "licence: MIT (class R)" in told and f"files:   {server}/good/" in told
    trusted = [line for line in told.splitlines() if "no checksum is pinned" in line]
    line = f"no checksum is pinned for set.csv: kept sha256 {digest}; later downloads must match"
    assert trusted == ([] if pinned else [line])
    assert read_json(tmp_path / "d" / "checksums.json") == {"set.csv": digest}
    assert fetch("one", tmp_path / "d", base_url=f"{server}/good", accept=True) == [file]
    assert Server.asked == ["/good/set.csv"] and "no checksum" not in capsys.readouterr().err


def test_files_of_one_name_stay_apart(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    two = Fetch(base="https://x.invalid", files={"one/train.csv": "", "two/train.csv": ""})
    pair = SourceSet(name="pair", title="Pair", licence="MIT", licence_class="R", fetch=two)
    monkeypatch.setattr(module, "catalogue", lambda: (pair,))
    found = fetch("pair", tmp_path, base_url=f"{server}/good", accept=True)
    assert [f.path.relative_to(tmp_path).as_posix() for f in found] == ["one/train.csv", "two/train.csv"]
    assert Server.asked == ["/good/one/train.csv", "/good/two/train.csv"]
    assert set(read_json(tmp_path / "checksums.json")) == {"one/train.csv", "two/train.csv"}


def test_a_damaged_file_is_fetched_again(server: str, pinned: bool, tmp_path: Path) -> None:
    (file,) = fetch("one", tmp_path, base_url=f"{server}/good", accept=True)
    file.path.write_bytes(b"damaged")
    assert fetch("one", tmp_path, base_url=f"{server}/good", accept=True)[0].path.read_bytes() == CONTENT


def test_what_changed_upstream_is_not_kept(server: str, pinned: bool, tmp_path: Path) -> None:
    (file,) = fetch("one", tmp_path, base_url=f"{server}/good", accept=True)
    file.path.unlink()
    Server.content = CONTENT + b"changed"
    with pytest.raises(IntegrityError, match="differs from its checksum"):
        fetch("one", tmp_path, base_url=f"{server}/good", accept=True)
    assert {p.name for p in tmp_path.iterdir()} == {"checksums.json"}


@pytest.mark.parametrize(
    ("path", "words"),
    [("missing", "answers 404"), ("cut", "cannot fetch"), ("outside", "is not secure"), ("round", "redirects too often")],
)
def test_faults_leave_nothing(server: str, pinned: bool, tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fetch("one", tmp_path / "d", base_url=f"{server}/{path}", accept=True)
    assert list((tmp_path / "d").iterdir()) == []


def test_a_redirect_on_this_machine_is_followed(server: str, pinned: bool, tmp_path: Path) -> None:
    assert fetch("one", tmp_path, base_url=f"{server}/moved", accept=True)[0].path.read_bytes() == CONTENT


def test_only_secure_addresses(pinned: bool, tmp_path: Path) -> None:
    for address in ("http://example.org", "ftp://127.0.0.1", "file:///etc"):
        with pytest.raises(DataError, match="is not secure"):
            fetch("one", tmp_path, base_url=address, accept=True)


def test_nothing_is_fetched_without_consent(server: str, pinned: bool, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add --accept-licence"):
        fetch("one", tmp_path, base_url=f"{server}/good")
    with pytest.raises(DataError, match="nothing was fetched"):
        fetch("one", tmp_path, base_url=f"{server}/good", ask=lambda _: False)
    assert Server.asked == []
    assert fetch("one", tmp_path, base_url=f"{server}/good", ask=lambda _: True)


def test_nobody_listens(pinned: bool, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot fetch"):
        fetch("one", tmp_path, base_url="http://127.0.0.1:9", accept=True)


def test_unknown_sets_and_sets_without_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'counselchat'"):
        find("counselcat")
    bare = SourceSet(name="bare", title="Bare", licence="MIT", licence_class="R", url="https://x.invalid/bare")
    monkeypatch.setattr(module, "catalogue", lambda: (bare,))
    with pytest.raises(DataError, match=r"get it at https://x\.invalid/bare"):
        fetch("bare", tmp_path, accept=True)


def test_every_address_in_the_catalogue_is_secure_and_pins_the_commit() -> None:
    for entry in catalogue():
        assert entry.title and entry.licence
        if entry.fetch is not None:
            assert entry.fetch.base.startswith("https://") and entry.fetch.files
            assert f"/{entry.commit}" in entry.fetch.base, f"{entry.name}: another commit than the recipe's"


def test_what_is_fetched_is_recognised_where_it_is_put() -> None:
    """By its path in the default folder, or by its columns where the set's recipe names them."""
    for entry in catalogue():
        for remote, digest in (entry.fetch.files if entry.fetch else {}).items():
            place = PurePosixPath(remote)
            assert not place.is_absolute() and ".." not in place.parts and (not digest or len(digest) == 64)
            found = by_path(Path("home/data") / entry.name / remote, catalogue())
            if found is None:
                assert any(len(f.columns) > 3 for f in entry.files), f"{entry.name}: {remote} would be read as of no set"
            else:
                assert found[0].name == entry.name
