"""The audit log: every kind of tampering is found at the first bad record, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.audit import AuditLog, Entry, record_hash
from attunement.security.checkpoints import Checkpoints
from attunement.security.grouped import GroupedWriter
from attunement.security.keys import KeyRing
from attunement.storage.sql import Store

START = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)


class SetClock:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def log(store: Store, ring: KeyRing, tmp_path: Path) -> AuditLog:
    points = Checkpoints(tmp_path / "points" / "audit.jsonl", ring, every_records=10)
    made = AuditLog(store, points, clock=SetClock())
    for n in range(30):
        with made.begin() as connection:
            made.append(connection, Entry("u-ann" if n % 2 else "u-bo", "client:read", f"c-{n % 3}", request=f"r-{n}"))
    made.checkpoint()
    return made


def unguarded(store: Store, *statements: str) -> None:
    """What somebody with the owner's rights on the database does: the triggers go, the records change, the triggers come back."""
    with store.begin() as connection:
        if store.is_sqlite:
            query = sa.text("select name, sql from sqlite_master where type = 'trigger'")
            triggers = connection.execute(query).all()
            for name, _ in triggers:
                connection.exec_driver_sql(f"drop trigger {name}")
        else:
            connection.exec_driver_sql("alter table audit_records disable trigger user")
        for statement in statements:
            connection.exec_driver_sql(statement)
        if store.is_sqlite:
            for _, sql in triggers:
                connection.exec_driver_sql(sql)
        else:
            connection.exec_driver_sql("alter table audit_records enable trigger user")


def rehash(store: Store, start: int) -> list[str]:
    """The statements with which a careful forger makes the chain whole again from record `start` on."""
    with store.begin() as connection:
        rows = connection.execute(sa.text("select * from audit_records order by number")).all()
    out, before = [], rows[start - 2].hash
    for row in rows[start - 1 :]:
        words = (row.number, row.at, row.actor, row.action, row.target, row.client, row.outcome, row.request, before)
        digest = record_hash(*words)
        out.append(f"update audit_records set before = '{before}', hash = '{digest}' where number = {row.number}")
        before = digest
    return out


def test_a_whole_log_is_whole(log: AuditLog) -> None:
    verdict = log.verify()
    assert verdict.whole and verdict.records == 30
    assert verdict.checkpoints == 4 and verdict.last_checkpoint == 30


@pytest.mark.parametrize(
    ("statements", "reason", "first_bad"),
    [
        (["update audit_records set actor = 'u-else' where number = 12"], "edited", 12),
        (["update audit_records set outcome = 'refused' where number = 1"], "edited", 1),
        (["delete from audit_records where number = 7"], "removed", 7),
        (["delete from audit_records where number = 1"], "removed", 1),
        (["delete from audit_records where number > 28"], "truncated", 29),
        (["delete from audit_records"], "truncated", 1),
        (
            [
                "update audit_records set number = -1 where number = 4",
                "update audit_records set number = 4 where number = 5",
                "update audit_records set number = 5 where number = -1",
            ],
            "edited",
            4,
        ),
    ],
)
def test_tampering_is_found_where_it_begins(log: AuditLog, statements: list[str], reason: str, first_bad: int) -> None:
    unguarded(log.store, *statements)
    verdict = log.verify()
    assert (verdict.reason, verdict.first_bad) == (reason, first_bad)


def test_a_forger_who_mends_the_chain_is_caught_by_a_checkpoint(log: AuditLog) -> None:
    unguarded(log.store, "update audit_records set client = 'c-9' where number = 5")
    unguarded(log.store, *rehash(log.store, 5))
    verdict = log.verify()
    assert verdict.reason == "rewritten" and 5 <= verdict.first_bad <= 15  # at the first checkpoint after it
    blind = AuditLog(log.store).verify()
    assert blind.whole  # without the checkpoints nobody would know: they are what guards


def test_a_record_put_before_another_is_found(log: AuditLog) -> None:
    with log.store.begin() as connection:
        row = connection.execute(sa.text("select * from audit_records where number = 9")).one()
    other = "0" * 64
    words = (row.number, row.at, row.actor, row.action, row.target, row.client, row.outcome, row.request, other)
    unguarded(log.store, f"update audit_records set before = '{other}', hash = '{record_hash(*words)}' where number = 9")
    assert (log.verify().reason, log.verify().first_bad) == ("reordered", 9)


def test_checkpoints_cannot_be_forged(log: AuditLog) -> None:
    assert log.checkpoints is not None
    lines = log.checkpoints.path.read_text().splitlines()
    row = json.loads(lines[1])
    log.checkpoints.path.write_text("\n".join([lines[0], json.dumps({**row, "number": row["number"] + 1}), *lines[2:]]) + "\n")
    assert log.verify().reason == "forged_checkpoint"
    log.checkpoints.path.write_text("not a line\n")
    with pytest.raises(DataError, match="line 1 is no checkpoint"):
        log.verify()


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_records set actor = 'x' where number = 3",
        "delete from audit_records where number = 30",
        "truncate audit_records",
        "insert or replace into audit_records select number, at, 'x', action, target, client, outcome, request, before, hash"
        " from audit_records where number = 3",
    ],
)
def test_the_database_itself_refuses_changes(log: AuditLog, statement: str) -> None:
    if ("truncate" in statement and log.store.is_sqlite) or ("replace" in statement and not log.store.is_sqlite):
        return  # no such statement in this database
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), log.store.begin() as connection:
        connection.exec_driver_sql(statement)
    assert log.verify().whole


def test_a_missing_guard_is_told(log: AuditLog) -> None:
    drop = "drop trigger audit_no_delete" if log.store.is_sqlite else "drop trigger audit_no_change on audit_records"
    with log.store.begin() as connection:
        connection.exec_driver_sql(drop)
    assert log.verify().reason == "not_append_only"


def test_the_record_stands_or_falls_with_the_thing(log: AuditLog) -> None:
    with pytest.raises(RuntimeError), log.begin() as connection:
        log.append(connection, Entry("u-ann", "client:delete", "c-1"))
        raise RuntimeError
    with log.begin() as connection:
        log.append(connection, Entry("u-ann", "client:read", "c-1"))
        with pytest.raises(RuntimeError), connection.begin_nested():
            log.append(connection, Entry("u-ann", "client:delete", "c-1"))
            raise RuntimeError
        log.append(connection, Entry("u-ann", "client:read", "c-2"))
    assert log.verify().records == 32 and log.verify().whole
    assert not list(log.records(action="client:delete"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"actor": "Ann Smith"}, {"actor": "u\nroot"}, {"actor": ""}, {"actor": "u" * 65}, {"action": "She cried"}, {"action": "read"}, {"action": "client.read"}, {"action": "accounts:give_clinician:a01"}, {"target": "Ann Smith"},
        {"client": "c-1\r\n2026 forged"}, {"client": "c\x00"}, {"client": "ann@example.org"}, {"outcome": "ok"}, {"request": "r 1"},
        {"actor": "u-1\n"}, {"client": "ｃ-1"},
    ],
)  # fmt: skip
def test_no_words_get_in(wrong: dict[str, str]) -> None:
    with pytest.raises(DataError) as told:
        Entry(**{"actor": "u-1", "action": "client:read", **wrong})
    assert not any(value and value in str(told.value) for value in wrong.values() if value != "read")


def test_records_are_found_and_exported(log: AuditLog) -> None:
    assert {r.client for r in log.records(client="c-1")} == {"c-1"}
    assert len(list(log.records(actor="u-ann"))) == 15
    middle = START + timedelta(seconds=20)
    early, late = list(log.records(until=middle)), list(log.records(since=middle))
    assert len(early) + len(late) == 30 and early and late
    rows = [json.loads(line) for line in log.export(client="c-2", actor="u-bo")]
    assert rows and all((r["client"], r["actor"]) == ("c-2", "u-bo") for r in rows)
    assert list(rows[0]) == ["number", "at", "actor", "action", "target", "client", "outcome", "request", "before", "hash"]


def _write_many(url: str, actor: str, count: int) -> None:
    store = Store(url)
    log = AuditLog(store)
    for n in range(count):
        with log.begin() as connection:
            log.append(connection, Entry(actor, "client:read", request=f"r-{n}"))
    store.close()


def test_writers_in_several_processes_make_one_chain(store: Store) -> None:
    url = store._engine.url.render_as_string(hide_password=False)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write_many, args=(url, f"u-{n}", 15)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    verdict = AuditLog(store).verify()
    assert verdict.whole and verdict.records == 45


def test_grouped_writes_fail_alone(store: Store, tmp_path: Path) -> None:
    table = sa.Table("grouped_things", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    with store.begin() as connection:
        table.create(connection)
    log = AuditLog(store)
    group = GroupedWriter(log)

    def write(number: int) -> Exception | None:
        try:
            group.write([(table, {"id": number % 20})], Entry("u-1", "thing:create"))
        except sa.exc.IntegrityError as error:
            return error
        return None

    with ThreadPoolExecutor(8) as pool:
        errors = [e for e in pool.map(write, range(24)) if e is not None]
    assert len(errors) == 4  # the second of each pair, and nobody else
    with store.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 20
    assert log.verify().records == 20
