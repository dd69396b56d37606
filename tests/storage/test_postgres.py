"""A PostgreSQL that is stopped, hangs, is full, or has a streaming replica that lags: real servers of the tests' own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.config import SecuritySettings, Settings, StoresSettings
from attunement.errors import ConfigError, DataError, StoreDownError
from attunement.security.vault import open_store
from attunement.storage.postgres import Limits
from attunement.storage.replica import Marks
from attunement.storage.shared.link import RedisLink
from attunement.storage.sql import Store
from databases import Daemon, PostgresDaemon

LIMITS = Limits(pool_size=1, connect_seconds=1, statement_seconds=0.5)
_notes = sa.MetaData()
notes = sa.Table("notes", _notes, sa.Column("text", sa.String(20)))


@pytest.fixture
def postgres(postgres_daemons: Callable[[], PostgresDaemon]) -> PostgresDaemon:
    daemon = postgres_daemons()
    return daemon.start()  # type: ignore[return-value]


def write(store: Store, text: str) -> None:
    with store.begin() as connection:
        connection.execute(notes.insert().values(text=text))


def test_who_needs_it_is_told_to_come_back_and_it_comes_back_by_itself(postgres: PostgresDaemon) -> None:
    store = Store(postgres.url, _notes, limits=LIMITS)
    write(store, "before")
    postgres.stop(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(StoreDownError, match="cannot be used") as error:
            write(store, "lost")
        assert error.value.after_seconds > 0 and "\n" not in str(error.value)
    assert not store.up()
    postgres.start()
    write(store, "after")  # at the first try: what the pool held is dropped
    postgres.stop(signal.SIGKILL)
    postgres.start()
    assert store.up()
    write(store, "after a crash")
    store.close()


def test_nobody_waits_for_a_server_that_hangs_or_a_statement_without_end(postgres: PostgresDaemon) -> None:
    store = Store(postgres.url, _notes, limits=LIMITS)
    with pytest.raises(StoreDownError, match="statement timeout"), store.begin() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(30)")
    with store.begin(patient=True) as connection:  # a backup may take its time
        connection.exec_driver_sql("SELECT pg_sleep(2)")
    with pytest.raises(StoreDownError, match="statement timeout"), store.snapshot() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(30)")
    with pytest.raises(StoreDownError, match="did not answer within"), store.begin() as connection:
        postgres.hold()
        connection.execute(notes.insert().values(text="hangs"))
    with pytest.raises(StoreDownError):  # nor for a new connection
        write(store, "hangs")
    postgres.resume()
    write(store, "again")
    with store.snapshot() as connection:
        assert connection.execute(sa.select(notes.c.text)).scalars().all() == ["again"]
    store.close()


def test_more_than_the_pool_holds_is_told_as_down_and_not_as_a_fault(postgres: PostgresDaemon) -> None:
    store, held = Store(postgres.url, _notes, limits=LIMITS), threading.Event()

    def holds(free: threading.Event) -> None:
        with store.begin():
            free.set()
            held.wait(20)

    ready = [threading.Event() for _ in range(2)]
    threads = [threading.Thread(target=holds, args=(one,)) for one in ready]
    for thread in threads:
        thread.start()
    assert all(one.wait(10) for one in ready)
    with pytest.raises(StoreDownError):
        write(store, "third")
    held.set()
    for thread in threads:
        thread.join()
    write(store, "third")
    store.close()


@pytest.fixture
def replicated(
    postgres: PostgresDaemon, postgres_daemons: Callable[[], PostgresDaemon]
) -> Iterator[tuple[Store, PostgresDaemon]]:
    """A store with a streaming replica, and the replica's server."""
    Store(postgres.url, _notes).close()
    replica = postgres_daemons()
    replica.run(
        "pg_basebackup",
        "-h",
        "127.0.0.1",
        "-p",
        str(postgres.port),
        "-U",
        "postgres",
        "-D",
        str(replica.data),
        "-R",
        "-X",
        "stream",
    )
    replica.start()
    store = Store(postgres.url, _notes, limits=LIMITS, replica=replica.url)
    yield store, replica
    store.close()


def seen(store: Store, *who: str) -> tuple[bool, list[str]]:
    """Whether `who` read from the replica, and what."""
    with store.reading(*who) as connection:
        of_replica = bool(connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar())
        return of_replica, list(connection.execute(sa.select(notes.c.text).order_by(notes.c.text)).scalars())


def replay(replica: PostgresDaemon, how: str) -> None:
    engine = sa.create_engine(replica.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_wal_replay_{how}()")
    engine.dispose()


def until_of_replica(store: Store, who: str) -> list[str]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        of_replica, found = seen(store, who)
        if of_replica:
            return found
        time.sleep(0.05)
    raise AssertionError("the replica was never read from")


def test_who_wrote_sees_it_and_the_others_read_from_the_replica(replicated: tuple[Store, PostgresDaemon]) -> None:
    store, replica = replicated
    write(store, "a")
    store.wrote("s-1")
    assert until_of_replica(store, "s-1") == ["a"]
    replay(replica, "pause")
    for number in range(3):
        write(store, f"b{number}")
        store.wrote("s-1")
        assert seen(store, "s-1") == (False, ["a", *(f"b{n}" for n in range(number + 1))])  # from the primary
    assert seen(store, "s-2") == (True, ["a"])  # who wrote nothing may be behind
    assert seen(store, "s-2", "s-1")[0] is False
    replay(replica, "resume")
    assert until_of_replica(store, "s-1") == ["a", "b0", "b1", "b2"]
    with pytest.raises(DataError, match="read-only"), store.reading("s-1") as connection:
        connection.execute(notes.insert().values(text="no"))
    replica.kill()
    assert seen(store, "s-1")[0] is False  # and nobody is refused
    assert seen(store, "s-1")[0] is False


def test_replicas_of_the_service_share_who_wrote(
    replicated: tuple[Store, PostgresDaemon], redis_server: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attunement.storage.replica.UNSURE_SECONDS", 0.3)
    store, replica = replicated
    waits = StoresSettings(redis=redis_server.url, circuit_seconds=0.2, circuit_failures=2)
    links = [RedisLink(Settings(home=tmp_path, stores=waits), b"a secret") for _ in range(2)]
    other = Store(store._engine.url, _notes, limits=LIMITS, replica=replica.url)  # another process
    store.share_marks(Marks(links[0]))
    other.share_marks(Marks(links[1]))
    assert seen(other, "s-1")[0] is False  # nobody knows yet whether a mark is missing
    until_of_replica(other, "s-1")
    replay(replica, "pause")
    write(store, "a")
    store.wrote("s-1")
    assert seen(other, "s-1") == (False, ["a"]) and seen(other, "s-2") == (True, [])
    redis_server.kill()
    assert seen(other, "s-2")[0] is False  # must not fail open
    write(store, "b")
    store.wrote("s-2")
    redis_server.start()  # without its marks
    assert seen(other, "s-1")[0] is False and seen(other, "s-2")[0] is False
    for link in links:
        link.close()
    other.close()


def test_a_replica_elsewhere_is_reached_over_tls_alone(tmp_path: Path) -> None:
    here = "postgresql+psycopg://postgres@127.0.0.1:1/x"
    for url in ("postgresql+psycopg://ann:hush@db.example.org/x?sslmode=require", "mysql://ann:hush@db.example.org/x"):
        settings = Settings(home=tmp_path, security=SecuritySettings(store=here), stores=StoresSettings(read_replica=url))
        with pytest.raises(ConfigError) as error:
            open_store(settings)
        assert "hush" not in str(error.value)
