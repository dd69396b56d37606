"""Age files: streamed both ways, never plain on disk, and broken ones are told."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pyrage
import pytest

from attunement.errors import ConfigError, DataError, IntegrityError
from attunement.security.age_files import (
    IDENTITY_VARIABLE,
    encrypted_write,
    new_identity,
    open_file,
    read_bytes,
    read_jsonl,
    seal_file,
    use_identity,
)  # fmt: skip


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "age.key"


def test_rows_come_back_and_age_itself_opens_them(key: Path, tmp_path: Path) -> None:
    recipient, path = new_identity(key), tmp_path / "train.jsonl.age"
    rows = [{"text": f"a line about sleep {n}" * 20} for n in range(3000)]
    with encrypted_write(path, [recipient]) as file:
        file.writelines((json.dumps(row) + "\n").encode() for row in rows)
    assert list(read_jsonl(path, key)) == rows
    assert b"sleep" not in path.read_bytes() and path.stat().st_mode & 0o777 == 0o600
    identity = next(line for line in key.read_text().splitlines() if line.startswith("AGE-"))
    plain = pyrage.decrypt(path.read_bytes(), [pyrage.x25519.Identity.from_str(identity)])
    assert plain == read_bytes(path, key)
    (tmp_path / "plain.jsonl").write_text('{"plain": 1}\n')
    assert list(read_jsonl(tmp_path / "plain.jsonl")) == [{"plain": 1}]


def test_a_file_is_sealed_in_its_place(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IDENTITY_VARIABLE, raising=False)
    recipient, path = new_identity(key), tmp_path / "train.jsonl"
    path.write_text('{"text": "sleep"}\n')
    with pytest.raises(ConfigError):
        seal_file(path, ["age1nonsense"])
    assert path.read_text() == '{"text": "sleep"}\n'
    seal_file(path, [recipient])
    assert not any(b"sleep" in p.read_bytes() for p in tmp_path.iterdir()) and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ConfigError, match="is encrypted"):
        list(read_jsonl(path))
    monkeypatch.setenv(IDENTITY_VARIABLE, "")
    use_identity(key)
    assert list(read_jsonl(path)) == [{"text": "sleep"}]


def test_memory_stays_flat(key: Path, tmp_path: Path) -> None:
    recipient, path, part = new_identity(key), tmp_path / "big.age", b"x" * (1 << 20)
    tracemalloc.start()
    with encrypted_write(path, [recipient]) as file:
        for _ in range(40):
            file.write(part)
    with open_file(path, key) as file:
        assert sum(len(p) for p in iter(lambda: file.read(1 << 16), b"")) == 40 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_reader_may_stop_early_and_a_writer_may_fail(key: Path, tmp_path: Path) -> None:
    recipient, path = new_identity(key), tmp_path / "a.age"
    with encrypted_write(path, [recipient]) as file:
        file.write(b"y" * (5 << 20))
    with open_file(path, key) as file:
        assert file.read(10) == b"y" * 10
    before = path.read_bytes()
    with pytest.raises(RuntimeError), encrypted_write(path, [recipient]) as file:
        file.write(b"z" * 100)
        raise RuntimeError
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_what_does_not_open_is_told(key: Path, tmp_path: Path) -> None:
    recipient, path = new_identity(key), tmp_path / "a.age"
    with encrypted_write(path, [recipient]) as file:
        file.write(b"y" * 300_000)
    whole = path.read_bytes()
    for broken in (whole[:-7], whole[: 64 * 1024], whole[:-100] + b"!" + whole[-99:]):
        path.write_bytes(broken)
        with pytest.raises(IntegrityError, match="was changed or cut"):
            read_bytes(path, key)
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match=r"security\.age_identity"):
        read_bytes(path)
    new_identity(tmp_path / "other.key")
    with pytest.raises(DataError, match="was not encrypted for your age identity"):
        read_bytes(path, tmp_path / "other.key")
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        read_bytes(path, key)
    with pytest.raises(ConfigError, match="is no age recipient"), encrypted_write(path, ["age1nonsense"]):
        pass
    with pytest.raises(ConfigError, match="there is a file"):
        new_identity(key)


def test_weights_are_read_from_memory(key: Path, tmp_path: Path) -> None:
    numpy, safetensors = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    recipient, path = new_identity(key), tmp_path / "adapter.safetensors.age"
    with encrypted_write(path, [recipient]) as file:
        file.write(safetensors.save({"w": numpy.arange(12, dtype="float32")}))
    assert safetensors.load(read_bytes(path, key))["w"].sum() == 66
    assert isinstance(open_file(path, key), io.BufferedIOBase)
