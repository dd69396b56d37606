"""The master key and the ring: closed files, rotation while others write, keys that are gone for good."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.errors import ConfigError, DataError, IntegrityError
from attunement.security import keys
from attunement.security.escrow import apply_ledger, read_escrow, write_escrow
from attunement.security.keys import FILE, KeyRing, ShreddedError, about_key, key_tables
from attunement.security.master_key import EnvironmentMasterKey, FileMasterKey, KmsMasterKey, MasterKey
from attunement.storage.sql import Store


def test_the_file_is_made_once_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "home" / "master.key"
    made = FileMasterKey.create(path)
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert FileMasterKey(path).key_id == made.key_id
    with pytest.raises(ConfigError, match="there is a master key at"):
        FileMasterKey.create(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="open to others: close it with  chmod 600") as told:
        FileMasterKey(path)
    assert "\n" not in str(told.value)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        FileMasterKey(tmp_path / "link")
    path.write_text("attunement-master-key-1:c2hvcnQ=\n")
    with pytest.raises(ConfigError, match="holds no master key"):
        FileMasterKey(path)
    with pytest.raises(ConfigError, match="attune keys init"):
        FileMasterKey(tmp_path / "nowhere")


class Vendor(KmsMasterKey):
    """A key management service in this process: what an adapter has to do, with a real key behind it."""

    def __init__(self, inner: MasterKey) -> None:
        self.inner, self.asked = inner, list[Mapping[str, str]]()

    @property
    def key_id(self) -> str:
        return f"vendor:{self.inner.key_id}"

    def encrypt(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        self.asked.append(context)
        return self.inner.wrap(secret, repr(sorted(context.items())).encode())

    def decrypt(self, wrapped: bytes, context: Mapping[str, str], key_id: str) -> bytes:
        return self.inner.unwrap(wrapped, repr(sorted(context.items())).encode(), key_id.removeprefix("vendor:"))


@pytest.mark.parametrize("kind", ["file", "environment", "service"])
def test_wrapping_is_bound_to_what_it_is_for(kind: str, master: FileMasterKey, monkeypatch: pytest.MonkeyPatch) -> None:
    key: MasterKey = master
    if kind == "environment":
        monkeypatch.setenv("OUR_MASTER", master.path.read_text())
        key = EnvironmentMasterKey("OUR_MASTER")
        assert key.key_id == master.key_id
    elif kind == "service":
        key = Vendor(master)
    wrapped = key.wrap(b"s" * 32, about_key("c-1", 1))
    assert key.unwrap(wrapped, about_key("c-1", 1), key.key_id) == b"s" * 32
    assert key.wrap(b"s" * 32, about_key("c-1", 1)) != wrapped
    for about in (about_key("c-1", 2), about_key("c-2", 1)):
        with pytest.raises(IntegrityError):
            key.unwrap(wrapped, about, key.key_id)
    with pytest.raises(IntegrityError):
        key.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), about_key("c-1", 1), key.key_id)
    if isinstance(key, Vendor):
        assert "c-1" not in str(key.asked)
    with pytest.raises(ConfigError, match="is to hold the master key, and is empty"):
        EnvironmentMasterKey("NOT_SET_ANYWHERE")


def test_a_client_has_one_key_for_all_who_ask(ring: KeyRing, master: FileMasterKey, tmp_path: Path) -> None:
    other = KeyRing(Store.at_home(tmp_path, FILE, key_tables), FileMasterKey(master.path))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda r=r: found.append(r.key_for("c-1").secret)) for r in (ring, other) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert ring.key_for("c-2").secret != found[0] and "secret" not in repr(ring.key_for("c-2"))
    newer = ring.renew("c-1")
    assert newer.version == 2 and ring.key("c-1", 1).secret == found[0] != newer.secret
    for bad in ("", "Ann Smith", "c\n1", "c" * 65):
        with pytest.raises(DataError):
            ring.key_for(bad)


def test_the_cache_has_an_end(ring: KeyRing) -> None:
    small = KeyRing(ring.store, ring.master, cached_keys=5, cached_seconds=60)
    for n in range(50):
        small.key_for(f"c-{n}")
    assert len(small._cache) <= 10
    forgets = KeyRing(ring.store, ring.master, cached_seconds=0)
    forgets.key_for("c-1")
    ring.shred("c-1")
    with pytest.raises(ShreddedError):
        forgets.key_for("c-1")


def test_what_is_shredded_never_comes_back(ring: KeyRing) -> None:
    ring.key_for("c-1"), ring.renew("c-1")
    assert ring.shred("c-1") and ring.shred("c-1")  # again is no error
    for ask in (ring.key_for, ring.renew, lambda s: ring.key(s, 1), lambda s: ring.key(s, 2)):
        with pytest.raises(ShreddedError, match="their key is destroyed"):
            ask("c-1")
    ring.shred("c-never-seen")
    with pytest.raises(ShreddedError):
        ring.key_for("c-never-seen")
    assert [subject for subject, _ in ring.ledger()] == ["c-1", "c-never-seen"]


def test_shredded_keys_leave_the_file(ring: KeyRing, tmp_path: Path) -> None:
    """Some of many, so that pages are left with free space in them, in which SQLite would keep what stood there."""
    for number in range(30):
        ring.key_for(f"c-{number}")
    wrapped = {row["subject"]: bytes(row["wrapped"]) for row in ring.rows()}
    gone = [f"c-{number}" for number in range(10)]
    assert all(ring.shred(subject) for subject in gone)
    bytes_left = b"".join(p.read_bytes() for p in tmp_path.glob("keys.db*"))
    assert [s for s, w in wrapped.items() if w[20:40] not in bytes_left] == gone


def test_rotation_goes_on_where_it_stopped_while_others_write(
    ring: KeyRing, master: FileMasterKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "BATCH", 20)
    before = {f"c-{n}": ring.key_for(f"c-{n}").secret for n in range(45)}
    old_id, old_file = master.key_id, master.path.read_bytes()
    service = KeyRing(Store.at_home(tmp_path, FILE, key_tables), FileMasterKey(master.path), cached_seconds=0)
    master.add()
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        assert service.key_for("c-0").secret == before["c-0"]  # re-wrapped already: it reads the file again
        assert service.key_for("c-44").secret == before["c-44"]  # not yet
        before[f"c-new-{done}"] = service.key_for(f"c-new-{done}").secret
        if done == 20 and len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ring.rotate(progress=stop)
    again = FileMasterKey(master.path)
    again.add()  # has begun already: no third key
    assert again.key_id == master.key_id != old_id and again.former == [old_id]
    assert KeyRing(ring.store, again).rotate(progress=stop) == 25
    again.drop_former()
    fresh = KeyRing(Store.at_home(tmp_path, FILE, key_tables), FileMasterKey(master.path))
    assert {subject: fresh.key_for(subject).secret for subject in before} == before
    assert fresh.counts() == {"live": len(before), "shredded": 0, "to_re_wrap": 0}
    (tmp_path / "old.key").write_bytes(old_file)
    (tmp_path / "old.key").chmod(0o600)
    stale = KeyRing(ring.store, FileMasterKey(tmp_path / "old.key"))
    for ask in ("c-1", "c-made-by-nobody"):
        with pytest.raises(ConfigError, match=r"is not here|is set here"):
            stale.key_for(ask)


def test_a_ring_may_lie_in_postgres(server: object, master: FileMasterKey) -> None:
    ring = KeyRing(Store(server.new("ring"), key_tables), master)  # type: ignore[attr-defined]
    secret = ring.key_for("c-1").secret
    wrapped = next(row["wrapped"] for row in ring.rows())
    assert KeyRing(ring.store, master).key_for("c-1").secret == secret
    assert ring.shred("c-1") is False  # PostgreSQL's log may hold it, wrapped, and this says so
    with ring.store.begin() as connection:
        path = connection.execute(sa.text("select pg_relation_filepath('data_keys')")).scalar_one()
    assert wrapped not in (server.data / path).read_bytes()  # type: ignore[attr-defined]
    old = master.key_id
    master.add(), ring.rotate(), master.drop_former()
    with pytest.raises(ConfigError):
        master.unwrap(bytes(wrapped), about_key("c-1", 1), old)
    ring.store.close()


def test_the_escrow_brings_keys_back_but_none_that_was_shredded(ring: KeyRing, master: FileMasterKey, tmp_path: Path) -> None:
    secrets = {s: ring.key_for(s).secret for s in ("c-1", "c-2", "c-3")}
    path = tmp_path / "far" / "keys.escrow"
    assert write_escrow(ring, path) == 3 and path.stat().st_mode & 0o777 == 0o600
    assert b"c-1" not in path.read_bytes()
    ring.shred("c-3")
    new = KeyRing(Store.at_home(tmp_path / "new", FILE, key_tables), master)
    new.shred("c-2")  # this machine knows that it was shredded
    assert new.take_in(read_escrow(new, path)) == 2
    assert apply_ledger(new, [subject for subject, _ in ring.ledger()]) == 1
    assert new.key_for("c-1").secret == secrets["c-1"]
    for gone in ("c-2", "c-3"):
        with pytest.raises(ShreddedError):
            new.key_for(gone)
    assert write_escrow(ring, path) == 2  # rewritten: the shredded one is out
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="was changed"):
        read_escrow(ring, path)
    os.chmod(path, 0o644)  # noqa: PTH101
    with pytest.raises(ConfigError, match="open to others"):
        read_escrow(ring, path)
