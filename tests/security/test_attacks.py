"""Attacks on what is read and fetched: addresses, archives, XML, JSON, checkpoints, names of files, regular expressions. `test_attacks_doors.py` has those on the service."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import expressions
import pytest

from attunement.config import load_settings
from attunement.errors import ConfigError, DataError, ModelError, RecordingError, ServiceError
from attunement.model.base import resolve_base
from attunement.model.checkpoint import read_description
from attunement.providers import Message, Request
from attunement.providers.opening import open_provider
from attunement.readers.files import ReadFailure, discover, read
from attunement.security.codes import valid_id
from attunement.sources.knowledge.importing.owl import check_entities
from attunement.sources.knowledge.importing.tables import read_table
from attunement.sources.voice import media_site
from attunement.storage.files import file_hash, read_json, write_json

# --- regular expressions ---------------------------------------------------------------------------------------------

WANTED_SECONDS = 0.05
"""Of the processor, for a text of 20,000. What is quadratic takes 0.5 s and more."""


def test_no_expression_escapes_the_test() -> None:
    assert set(expressions.dynamic()) == expressions.BUILT_IN
    assert len(expressions.everything()) > 300


def test_no_regular_expression_can_be_slowed_down() -> None:
    for expression in expressions.everything():
        for text in expressions.hostile(expression.pattern):
            taken = 9.0
            for _ in range(5):  # other work on the machine is no fault of an expression
                start = time.thread_time()
                expression.run(text)
                taken = min(taken, time.thread_time() - start)
                if taken < WANTED_SECONDS:
                    break
            assert taken < WANTED_SECONDS, f"{expression.where}: {taken:.2f} s on {text[:30]!r}...{text[-3:]!r}"


def test_the_hostile_texts_find_what_is_slow() -> None:
    """The measure itself: two expressions that are known to be slow, and one that is not."""
    import re

    def worst(pattern: str) -> float:
        expression, slowest = expressions.Expression(re.compile(pattern), "here", frozenset({"search"})), 0.0
        for text in expressions.hostile(expression.pattern):
            start = time.thread_time()
            expression.run(text)
            slowest = max(slowest, time.thread_time() - start)
            if slowest > WANTED_SECONDS:
                break
        return slowest

    assert min(worst(r"\s+$"), worst(r"\S+@\S+")) > WANTED_SECONDS > worst(r"(?<!\s)\s+$")


# --- addresses: a server that leads elsewhere ------------------------------------------------------------------------


class Leading(BaseHTTPRequestHandler):
    """Sends whoever asks to another address; keeps what it was asked."""

    target = ""
    asked: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        type(self).asked.append((self.path, self.headers.get("Authorization", "")))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(307)
        self.send_header("Location", self.target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_HEAD = do_GET

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def leading() -> Iterator[tuple[type[Leading], str]]:
    kind = type("Own", (Leading,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kind, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:70/_x",
        "http:///nowhere",
        "data:text/html,x",
        "//127.0.0.1/x",
    ],
)
def test_the_downloader_opens_http_alone(address: str) -> None:
    with pytest.raises(RecordingError, match="only these are opened"):
        media_site.checked(address)


@pytest.mark.parametrize(
    "inside",
    ["http://127.0.0.1/x", "http://169.254.169.254/latest/meta-data/", "http://[::1]/x", "http://[::ffff:10.0.0.1]/x", "http://10.1.2.3/x",
     "http://localhost./x", "http://printer.local/x", "http://metadata.google.internal/x"],
)  # fmt: skip
def test_a_public_page_does_not_lead_inside(inside: str) -> None:
    class Site:
        began_at = "https://media.example.org/talk"

    with pytest.raises(RecordingError, match="leads to the private address"):
        media_site._allow(Site(), inside)


def test_a_public_name_does_not_lead_inside_later(
    leading: tuple[type[Leading], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the name is public when it is first looked up, and this machine's after that."""
    pytest.importorskip("yt_dlp", reason="the extra `voice` is not installed")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    kind, address = leading
    port, public, dialled = int(address.rpartition(":")[2]), "93.184.215.14", list[str]()
    answers = [[public], ["127.0.0.1"], ["10.0.0.1", public], ["127.0.0.1"]]
    real_names, real_connect = socket.getaddrinfo, socket.create_connection

    def names(host: str, *args: Any, **more: Any) -> Any:
        if host != "media.example.org":
            return real_names(host, *args, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers.pop(0)]

    def connect(where: tuple[str, int], *args: Any, **more: Any) -> Any:  # the public address is played by the server here
        dialled.append(where[0])
        return real_connect(("127.0.0.1" if where[0] == public else where[0], where[1]), *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", names)
    monkeypatch.setattr(socket, "create_connection", connect)
    kind.target = "file:///etc/passwd"
    site = media_site.client(load_settings(None, ["voice.pause_seconds=0"]).settings.voice, tmp_path, lambda _: None)
    site.began_at = f"http://media.example.org:{port}/talk"

    def ask() -> None:
        with media_site.asking(site.began_at):
            site.urlopen(site.began_at).close()

    with pytest.raises(RecordingError, match="not an http or https"):  # it was asked, and leads nowhere
        ask()
    assert len(kind.asked) == 1 and dialled == [public]
    with pytest.raises(RecordingError, match=r"private address 127\.0\.0\.1"):
        ask()
    assert len(kind.asked) == 1 and dialled == [public], "this machine was asked"
    with pytest.raises(RecordingError, match="not an http or https"):  # of several the public one alone
        ask()
    assert dialled == [public, public]
    with pytest.raises(RecordingError, match="private address"), media_site.asking(site.began_at):
        site.extract_info(site.began_at, download=True)
    assert len(kind.asked) == 2 and answers == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ip", "public"),
    [("93.184.215.14", True), ("2606:4700::1111", True), ("64:ff9b::5db8:d70e", True), ("64:ff9b::7f00:1", False), ("2002:7f00:1::1", False),
     ("::ffff:127.0.0.1", False), ("fe80::1%eth0", False), ("0.0.0.0", False), ("100.64.0.1", False), ("169.254.169.254", False)],
)  # fmt: skip
def test_addresses_of_the_whole_internet(ip: str, public: bool) -> None:
    assert media_site._is_public(ip) is public


def test_the_downloader_does_not_follow_to_a_file(leading: tuple[type[Leading], str], tmp_path: Path) -> None:
    pytest.importorskip("yt_dlp", reason="the extra `voice` is not installed")
    kind, address = leading
    kind.target = "file:///etc/passwd"
    site = media_site.client(load_settings().settings.voice, tmp_path, lambda _: None)
    with pytest.raises(RecordingError), media_site.asking(address):
        site.extract_info(f"{address}/talk.mp3", download=True)
    assert kind.asked and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://models.example.org/v1",
        "http://user:secret@models.example.org/v1",
        "https://models.example.org/v1?key=secret",
        "http:///v1",
    ],
)
def test_a_provider_is_an_http_address_without_secrets(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no address of a provider"):
        open_provider(address, load_settings(None, ["providers.model=m"]).settings.providers, tmp_path)


def test_a_providers_key_does_not_follow_to_another_host(
    leading: tuple[type[Leading], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai", reason="the extra `openai` is not installed")
    kind, address = leading
    other = ThreadingHTTPServer(("127.0.0.1", 0), type("Other", (Leading,), {"asked": [], "target": "http://127.0.0.1:9/"}))
    threading.Thread(target=other.serve_forever, daemon=True).start()
    kind.target = f"http://127.0.0.1:{other.server_address[1]}/v1/chat/completions"
    monkeypatch.setenv("A_KEY", "sk-very-secret")
    settings = load_settings(
        None, ["providers.model=m", "providers.key_variable=A_KEY", "providers.max_retries=0"]
    ).settings.providers
    provider = open_provider(f"{address}/v1", settings, tmp_path)
    try:
        with pytest.raises(ServiceError, match="redirect"):
            asyncio.run(provider.complete(Request([Message("user", "hello")])))
        got = other.RequestHandlerClass.asked  # type: ignore[attr-defined]
        assert kind.asked and not any("very-secret" in key for _, key in got) and not got, (
            "a prompt went where the user did not send it"
        )
    finally:
        other.shutdown()
        other.server_close()


# --- archives, XML, JSON ---------------------------------------------------------------------------------------------


def test_a_zip_bomb_in_a_table_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl", reason="the extra `knowledge` is not installed")
    bomb = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as parts:
        with parts.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            for _ in range(600):
                sheet.write(bytes(1 << 20))
    assert bomb.stat().st_size < 1 << 20
    start = time.process_time()
    with pytest.raises(DataError, match="unpacked: split it"):
        read_table(bomb)
    assert time.process_time() - start < 1


LAUGHS = '<?xml version="1.0"{}?><!DOCTYPE r [<!ENTITY a "{}"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><r>&b;</r>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        LAUGHS.format("{encoding}", "ha" * 50),
        '<?xml version="1.0"{encoding}?><!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r>&a;</r>',
        '<?xml version="1.0"{encoding}?><!DOCTYPE r [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]><r/>',
        '<?xml version="1.0"{encoding}?><!DOCTYPE r [<!ENTITY a "&#38;b;"><!ENTITY b "x">]><r>&a;</r>',
        '<?xml version="1.0"{encoding}?><!DOCTYPE r [<!ENTITY long "' + "x" * 5000 + '">]><r>&long;</r>',
    ],
)
def test_entities_of_xml_are_refused_in_any_encoding(text: str, encoding: str, tmp_path: Path) -> None:
    told = ' encoding="utf-16"' if encoding == "utf-16" else ""
    with pytest.raises(DataError, match="XML entities"):
        check_entities(tmp_path / "x.owl", text.replace("{encoding}", told).encode(encoding))
    check_entities(tmp_path / "x.owl", b'<!DOCTYPE r [<!ENTITY owl "http://www.w3.org/2002/07/owl#">]><r>&owl;</r>')


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize("name", ["talk.json", "talk.jsonl"])
def test_deep_json_is_one_line_in_the_report(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(DEEP + "\n")
    found = [one for file in discover([tmp_path]) for one in read(file, max_record_bytes=1 << 20)]
    assert found and all(isinstance(one, ReadFailure) for one in found)


def test_deep_json_in_what_is_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "moe.json").write_text(DEEP)
    with pytest.raises(DataError, match="too deep"):
        read_json(tmp_path / "moe.json")
    (tmp_path / "concepts.json").write_text(DEEP)
    with pytest.raises(DataError, match="too deep"):
        read_table(tmp_path / "concepts.json")
    good = json.dumps({"label": "worry", "content": "thinking again and again of what may come"})
    (tmp_path / "concepts.jsonl").write_text(f"{DEEP}\n{good}\n")
    found = read_table(tmp_path / "concepts.jsonl")
    assert [c.label for c in found.concepts] == ["worry"] and "nested too deep" in found.problems[0]


# --- checkpoints and names -------------------------------------------------------------------------------------------


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    mark, folder = tmp_path / "ran", tmp_path / "run"
    folder.mkdir()
    (folder / "adapter.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    description = {
        "format": "attunement-moe-lora",
        "format_version": 1,
        "adapter_sha256": file_hash(folder / "adapter.safetensors"),
    }
    write_json(folder / "moe.json", description)
    read_description(folder)  # the hash is right: what matters is who reads the weights
    with pytest.raises(SafetensorError):
        load((folder / "adapter.safetensors").read_bytes())
    assert not mark.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl"])
def test_a_base_model_with_pickled_weights_alone_is_refused(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ModelError, match="pickles are not read"):
        resolve_base(str(tmp_path))
    assert not mark.exists()


def test_only_what_is_known_to_be_tensors_is_unpickled(tmp_path: Path) -> None:
    """`torch.load` stands in the package with weights_only=True alone (tests/test_house.py); that it holds is tried here."""
    import torch

    mark = tmp_path / "ran"
    torch.save({"a": Bomb(mark)}, tmp_path / "state.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "state.pt", weights_only=True)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a/b", "..", "", "a\\b\x00", "{$ne: null}", "c1' OR '1'='1"])
def test_an_id_of_a_client_is_no_path_and_no_query(name: str) -> None:
    with pytest.raises(DataError, match="must be an id") as told:
        valid_id("a client", name)
    assert not name or name not in str(told.value).replace("..", "") or name == ".."


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    """A data set that somebody sent must not read the files of who builds it."""
    secret = tmp_path / "secret" / "talk.jsonl"
    secret.parent.mkdir()
    secret.write_text('{"turns": [{"speaker": "client", "text": "secret"}, {"speaker": "therapist", "text": "yes"}]}\n')
    sent = tmp_path / "sent"
    sent.mkdir()
    (sent / "talk.jsonl").symlink_to(secret)
    (sent / "folder").symlink_to(secret.parent)
    found = [one for file in discover([sent]) for one in read(file, max_record_bytes=1 << 20)]
    assert not [one for one in found if not isinstance(one, ReadFailure)]
