"""Transcripts over every store: one suite for SQLite, PostgreSQL, and MongoDB beside either; then what each has of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.config import SecuritySettings, Settings, StoresSettings
from attunement.errors import ConfigError, DataError, StoreDownError
from attunement.security.acting import Act
from attunement.security.clients import kinds
from attunement.security.clock import stamp
from attunement.security.holds import Holds
from attunement.security.keys import ShreddedError
from attunement.security.master_key import FileMasterKey
from attunement.security.retention import Retention
from attunement.security.rights import delete_client, export_client
from attunement.security.vault import Vault
from attunement.storage.opening import opened_stores
from attunement.storage.transcripts.bodies import NoBodies
from attunement.storage.transcripts.draining import draining
from attunement.storage.transcripts.mongo import MongoBodies
from attunement.storage.transcripts.records import Transcript, seal
from attunement.storage.transcripts.store import TranscriptStore, made_now
from attunement.storage.transcripts.tables import erasures, transcripts
from databases import Daemon, PostgresDaemon

kinds()  # all have their tables in the stores that are made here
ACT = Act("a-1", "r-9")
SECRET = "my brother-zq left"


def made(request: str, session: str = "s-1", client: str = "c-1", created: str = "", said: str = SECRET) -> Transcript:
    turns = [{"role": "user", "content": said}]
    return Transcript(request, session, turns, f"re: {said}", "base/best@12ab", {"level": "none"}, created or made_now(), client)


def days_ago(days: float) -> str:
    return stamp(datetime.now(UTC) - timedelta(days=days))


def vault_at(home: Path, url: str = "", mongodb: str = "", **stores: object) -> Vault:
    if not (home / "master.key").exists():
        FileMasterKey.create(home / "master.key")
    security = SecuritySettings(store=url, retention={"transcripts": 30, "audit": 2192}, key_cache_seconds=0.0)
    waits = {"connect_seconds": 0.5, "timeout_seconds": 1.5, "circuit_seconds": 0.3, "circuit_failures": 2}
    return Vault.open(Settings(home=home, security=security, stores=StoresSettings(mongodb=mongodb, **{**waits, **stores})))


@pytest.fixture(params=["sqlite", "postgres", "mongodb", "mongodb+postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TranscriptStore]:
    url = request.getfixturevalue("server").new("transcripts") if "postgres" in request.param else ""
    mongodb = request.getfixturevalue("mongo_server").url if "mongodb" in request.param else ""
    with vault_at(tmp_path / "home", url, mongodb) as vault:
        found = TranscriptStore(vault, MongoBodies(vault.settings) if mongodb else NoBodies())
        yield found
        found.close()


def drained(store: TranscriptStore) -> TranscriptStore:
    while store.drain():
        pass
    return store


def requests(found: list[Transcript]) -> list[str]:
    return [one.request_id for one in found]


def test_each_is_kept_once_in_order_sealed_and_on_record(store: TranscriptStore) -> None:
    for number in range(6):
        store.add(made(f"r-{number}", f"s-{number % 2}"), ACT)
    assert requests(store.read(ACT, client="c-1")) == [f"r-{n}" for n in range(6)]  # wherever they are by now
    drained(store)
    store.add(made("r-0", "s-0"), ACT)  # tried again: the same
    store.add(made("r-0", "s-0", client="c-2"), ACT)  # another's, with the same ids
    drained(store)
    assert requests(store.read(ACT, client="c-1", session="s-1")) == ["r-1", "r-3", "r-5"]
    assert requests(store.read(ACT, client="c-1", last=2)) == ["r-4", "r-5"]
    assert store.read(ACT, client="c-1")[0] == made("r-0", "s-0", created=store.read(ACT, client="c-1")[0].created)
    assert requests(store.read(ACT, session="s-0")) == []  # a client's are not those of nobody
    actions = [(r.action, r.client) for r in store.vault.audit.records()]
    assert actions.count(("inference:create", "c-1")) == 6 and ("context:read", "c-1") in actions
    with store.vault.store.snapshot() as connection:
        held = b"".join(bytes(v) for row in connection.execute(sa.select(transcripts)) for v in row if isinstance(v, bytes))
    assert b"brother" not in held and store.vault.audit.verify().whole


def test_a_client_is_exported_deleted_and_closed_everywhere(store: TranscriptStore, tmp_path: Path) -> None:
    store.add(made("r-1"), ACT)
    drained(store).add(made("r-2"), ACT)
    store.add(made("r-3", client="c-2"), ACT)
    assert export_client(store.vault, "c-1", tmp_path / "c-1.zip", ACT)["transcripts"] == 2
    ids = _ids(store, "c-1")
    assert delete_client(store.vault, "c-1", ACT)["rows_deleted"]["transcripts"] == 2
    drained(store)
    if not isinstance(store.bodies, NoBodies):
        assert store.bodies.get(ids) == {}
    assert store.read(ACT, client="c-1") == [] and requests(store.read(ACT, client="c-2")) == ["r-3"]
    with pytest.raises(ShreddedError):
        store.add(made("r-4"), ACT)


def test_time_takes_what_no_hold_keeps(store: TranscriptStore) -> None:
    for client in ("c-1", "c-2", ""):
        store.add(made("r-old", client=client, created=days_ago(40)), ACT)
        store.add(made("r-new", client=client), ACT)
    drained(store)
    Holds(store.vault.audit).set("c-2", "case-7", ACT)
    ids = _ids(store, "c-1")
    with pytest.raises(DataError, match="legal hold"):
        delete_client(store.vault, "c-2", ACT)
    Retention(store.vault).run(ACT)
    drained(store)
    assert requests(store.read(ACT, client="c-1")) == ["r-new"] == requests(store.read(ACT, session="s-1"))
    assert requests(store.read(ACT, client="c-2")) == ["r-old", "r-new"]
    live = store.vault.ring.live("transcripts:")
    assert live == [f"transcripts:{made_now()[:10]}"]  # the key of the old day is destroyed
    if not isinstance(store.bodies, NoBodies):
        assert len(store.bodies.get(ids)) == 1
    Retention(store.vault).run(ACT)  # finds nothing more
    assert [r.target for r in store.vault.audit.records(action="retention:delete")].count("transcripts") == 1


def test_nothing_of_nobody_is_kept_where_no_day_is(tmp_path: Path) -> None:
    with vault_at(tmp_path / "home", anonymous_days=0) as vault:
        store = TranscriptStore(vault)
        store.add(made("r-1", client=""), ACT)
        store.add(made("r-2"), ACT)
        assert store.read(ACT, session="s-1") == [] and requests(store.read(ACT, client="c-1")) == ["r-2"]
        store.close()


def test_ids_are_values_and_never_operators(tmp_path: Path, mongo_server: Daemon) -> None:
    with vault_at(tmp_path / "home", mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        store.add(made("r-1"), ACT)
        drained(store)
        for bad in ({"$ne": ""}, "$where", "a b", "x" * 65):
            with pytest.raises(DataError):
                made("r-2", session=bad)  # type: ignore[arg-type]
            with pytest.raises(DataError):
                store.read(ACT, client="c-1", session=bad)  # type: ignore[arg-type]
        assert store.bodies.get([{"$gt": ""}]) == {}  # type: ignore[list-item]
        assert store.bodies.erase({"$gt": ""}, "9999") == 0  # type: ignore[arg-type]
        assert requests(store.read(ACT, client="c-1")) == ["r-1"]
        store.close()


def test_mongodb_forgets_by_itself_only_what_is_nobodys(tmp_path: Path, mongo_server: Daemon) -> None:
    import pymongo

    with vault_at(tmp_path / "home", mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        store.add(made("r-1"), ACT)
        store.add(made("r-2", client=""), ACT)
        drained(store)
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(mongo_server.url)
        rows = client.attunement.transcripts
        index = [i for i in rows.index_information().values() if i.get("expireAfterSeconds") == 0]
        assert [i["key"] for i in index] == [[("expires", 1)]]
        documents = {d["request"]: d for d in rows.find()}
        assert "expires" not in documents["r-1"] and "expires" in documents["r-2"]
        assert b"brother" not in b"".join(bytes(d[k]) for d in documents.values() for k in ("turns", "reply"))
        rows.delete_one({"request": "r-2"})  # as its TTL would: what is nobody's is gone, a client's may not be
        assert store.read(ACT, session="s-1") == []
        rows.delete_one({"request": "r-1"})
        with pytest.raises(DataError, match="not in MongoDB any more"):
            store.read(ACT, client="c-1")
        client.close()
        store.close()


@pytest.mark.parametrize("how", ["stopped", "hangs"])
def test_replies_do_not_wait_for_mongodb_and_nothing_is_lost(
    tmp_path: Path, mongo_server: Daemon, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with vault_at(tmp_path / "home", mongodb=mongo_server.url) as vault, opened_stores(vault) as stores:
        store = stores.transcripts
        store.add(made("r-0"), ACT)
        _until(lambda: store.waiting()["outbox"] == 0)
        mongo_server.hold() if how == "hangs" else mongo_server.kill()
        for number in range(1, 30):
            store.add(made(f"r-{number}", f"s-{number % 3}"), ACT)
        _until(lambda: stores.circuits.state("mongodb") != "closed")
        assert stores.states() == {"sql": "up", "mongodb": "down", "redis": "embedded"}
        assert store.waiting()["outbox"] == 29
        with pytest.raises(StoreDownError):
            store.read(ACT, client="c-1")  # r-0 lies there
        mongo_server.resume() if how == "hangs" else mongo_server.start()
        _until(lambda: store.waiting()["outbox"] == 0)
        assert requests(store.read(ACT, client="c-1")) == [f"r-{n}" for n in range(30)]
    assert SECRET not in caplog.text and "brother" not in caplog.text
    assert not [t for t in threading.enumerate() if t.name == "transcripts"]


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from test_kept_transcripts import ACT, made, vault_at
from attunement.storage.opening import opened_stores
with vault_at(Path(sys.argv[2]), mongodb=sys.argv[3]) as vault, opened_stores(vault) as stores:
    for number in range(10_000):
        stores.transcripts.add(made(f"r-{number}"), ACT)
        print(number, flush=True)
"""


def test_what_was_kept_before_a_kill_is_kept_after_it(tmp_path: Path, mongo_server: Daemon) -> None:
    home = tmp_path / "home"
    vault_at(home, mongodb=mongo_server.url).close()
    command = [sys.executable, "-c", _WRITER, str(Path(__file__).parent), str(home), mongo_server.url]
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 20:
                mongo_server.hold()  # in the middle of a batch, perhaps
            if int(line) == 60:
                break
        writer.send_signal(signal.SIGKILL)
        last = max([60, *(int(line) for line in writer.stdout.read().split())])
    mongo_server.resume()
    with vault_at(home, mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        drained(store)
        found = requests(store.read(ACT, client="c-1"))
        assert found[: last + 1] == [f"r-{n}" for n in range(last + 1)] and len(found) <= last + 2  # none lost, none double
        assert store.waiting()["outbox"] == 0 and vault.audit.verify().whole
        store.close()


def test_two_that_drain_at_once_leave_one_of_each(tmp_path: Path, mongo_server: Daemon) -> None:
    with vault_at(tmp_path / "home", mongodb=mongo_server.url, timeout_seconds=10.0) as vault:
        stores = [TranscriptStore(vault, MongoBodies(vault.settings)) for _ in range(2)]
        for number in range(150):
            stores[0].add(made(f"r-{number}"), ACT)
        with draining(stores[0], 0.05), draining(stores[1], 0.05):
            _until(lambda: stores[0].waiting()["outbox"] == 0)
        assert requests(stores[1].read(ACT, client="c-1")) == [f"r-{n}" for n in range(150)]
        for store in stores:
            store.close()


def test_what_is_deleted_while_it_is_put_does_not_stay(tmp_path: Path, mongo_server: Daemon) -> None:
    with vault_at(tmp_path / "home", mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        store.add(made("r-1"), ACT)
        ids = _ids(store, "c-1")
        with vault.store.snapshot() as connection:
            rows = [dict(row) for row in connection.execute(sa.select(transcripts)).mappings()]
        store.bodies.put(rows)  # here a drain is cut off, and the client is deleted
        delete_client(vault, "c-1", ACT)
        store.drain()
        assert store.bodies.get(ids) == {}
        store.bodies.put(rows)  # another replica, slower still
        store.drain()
        assert store.bodies.get(ids) == {} and store.waiting()["erasures"] == 1
        with vault.store.begin() as connection:
            connection.execute(erasures.update().values(at=days_ago(1)))
        store.drain()
        assert store.waiting()["erasures"] == 0
        store.close()


def test_while_postgresql_is_away_the_spool_takes_it(tmp_path: Path, postgres_daemons: Callable[[], PostgresDaemon]) -> None:
    postgres = postgres_daemons().start()
    with vault_at(tmp_path / "home", postgres.url) as vault, opened_stores(vault) as stores:
        store = stores.transcripts
        store.add(made("r-0"), ACT)
        postgres.stop(signal.SIGINT)
        store.add(made("r-1"), ACT)
        store.add(made("r-1"), ACT)
        store.add(made("r-2", client=""), ACT)
        with pytest.raises(StoreDownError):
            store.read(ACT, client="c-1")
        assert store.spool.count() == 2 and b"brother" not in (tmp_path / "home" / "transcripts-spool.db").read_bytes()
        assert (tmp_path / "home" / "transcripts-spool.db").stat().st_mode & 0o077 == 0
        postgres.start()
        _until(lambda: store.spool.count() == 0)
        assert requests(store.read(ACT, client="c-1")) == ["r-0", "r-1"] and requests(store.read(ACT, session="s-1")) == ["r-2"]
        assert [r.client for r in vault.audit.records(action="inference:create")].count("c-1") == 2


def test_what_mongodb_refuses_stays_here_and_keeps_nothing_waiting(tmp_path: Path, mongo_server: Daemon) -> None:
    import pymongo

    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(mongo_server.url)
    client.attunement.create_collection("transcripts", validator={"request": {"$ne": "r-1"}})
    with vault_at(tmp_path / "home", mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        for number in range(4):
            store.add(made(f"r-{number}"), ACT)
        drained(store)
        assert {d["request"] for d in client.attunement.transcripts.find()} == {"r-0", "r-2", "r-3"}
        assert requests(store.read(ACT, client="c-1")) == ["r-0", "r-1", "r-2", "r-3"]
        store.close()
    client.close()


def test_what_waits_in_the_spool_is_exported_and_deleted_with_the_rest(tmp_path: Path) -> None:
    with vault_at(tmp_path / "home") as vault:
        store = TranscriptStore(vault)
        store.add(made("r-0"), ACT)
        for one in (made("r-0"), made("r-1"), made("r-2", client="c-2")):  # r-0 got through, but its answer was lost
            store.spool.put({**seal(vault.cipher, one), "actor": "a-1"})
        assert export_client(vault, "c-1", tmp_path / "c-1.zip", ACT)["transcripts"] == 2
        delete_client(vault, "c-1", ACT)
        drained(store)
        assert store.read(ACT, client="c-1") == [] and requests(store.read(ACT, client="c-2")) == ["r-2"]
        assert store.waiting() == {"spool": 0, "outbox": 0, "erasures": 0}
        store.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1/", "begins with mongodb://"),
        ("mongodb://ann:hush@db.example.org/x", "not over TLS"),
        ("mongodb://ann:hush@127.0.0.1,db.example.org/x", "not over TLS"),
        ("mongodb://ann:hush@db.example.org/x?tls=true&tlsInsecure=true", "certificates are always verified"),
        ("mongodb://ann:hush@127.0.0.1:99999/x", "see the form of its address"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_its_password(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        MongoBodies(Settings(home=tmp_path, stores=StoresSettings(mongodb=url)))
    assert "hush" not in str(error.value)


def _ids(store: TranscriptStore, client: str) -> list[str]:
    with store.vault.store.snapshot() as connection:
        return list(connection.execute(sa.select(transcripts.c.id).where(transcripts.c.client == client)).scalars())


def _until(true: Callable[[], bool], seconds: float = 25.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)
