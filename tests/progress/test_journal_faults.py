"""kill -9 amid logging, PostgreSQL killed amid logging: every session that was acknowledged is there, none twice, and the rest can be sent again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import journal_writer
import pytest
import sqlalchemy as sa

from attunement.progress.tables import entries, sessions
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.security.acting import Act
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault
from databases import PostgresDaemon

ALL, KILLS = 400, 3


def stored(vault: Vault) -> list[tuple[str, str]]:
    """Every row of the journal as client and session."""
    with vault.store.snapshot() as connection:
        return [tuple(row) for row in connection.execute(sa.select(sessions.c.client, sessions.c.session))]


def check(vault: Vault, acknowledged: set[int], least: int = 0) -> None:
    rows = stored(vault)
    assert len(rows) == len(set(rows))
    there = {int(session.removeprefix("s-")) for _, session in rows}
    assert acknowledged <= there
    assert len(there) >= least
    with vault.store.snapshot() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(entries)).scalar_one() == len(
            rows
        )  # each with its PHQ-9
    assert vault.audit.verify().whole
    assert sum(1 for _ in vault.audit.records(action="client:write")) == len(rows)


def run_killed(home: Path, url: str, after: int, numbers: range = range(ALL)) -> set[int]:
    """Runs the writer until it has acknowledged `after` sessions, and kills it; those that it acknowledged."""
    command: Sequence[str] = (sys.executable, journal_writer.__file__, str(home), url, str(numbers.start), str(numbers.stop), "4")
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert child.stdout is not None
    told: set[int] = set()
    for line in child.stdout:
        told.add(int(line))
        if len(told) == after:
            child.send_signal(signal.SIGKILL)
            break
    told |= {int(line) for line in child.stdout if line.endswith("\n")}
    child.wait()
    return told


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_killed_amid_logging(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = "" if store == "sqlite" else request.getfixturevalue("server").new("killed")
    FileMasterKey.create(tmp_path / "master.key")
    rng, acknowledged = random.Random(5), set[int]()
    for _ in range(KILLS):
        acknowledged |= run_killed(tmp_path, url, rng.randrange(20, 90))
    with Vault.open(journal_writer.settings_of(tmp_path, url)) as vault:
        check(vault, acknowledged, least=20)
        system = ProgressTrackingSystem(vault, Act("os:test"))
        journal_writer.log_all(system, range(ALL), 4)  # all of them again: what is there stays as it is
        check(vault, set(range(ALL)))
        assert len(stored(vault)) == ALL


@pytest.mark.slow
def test_the_database_is_killed_amid_logging(tmp_path: Path, postgres_daemons: Callable[[], PostgresDaemon]) -> None:
    postgres = postgres_daemons()
    postgres.command[postgres.command.index("fsync=off")] = "fsync=on"
    postgres.start()
    FileMasterKey.create(tmp_path / "master.key")
    with Vault.open(journal_writer.settings_of(tmp_path, postgres.url)) as vault:
        system = ProgressTrackingSystem(vault, Act("os:test"))
        work = threading.Thread(target=journal_writer.log_all, args=(system, range(ALL), 4))
        work.start()
        for how in (signal.SIGKILL, signal.SIGINT):
            time.sleep(0.3)
            postgres.stop(how)
            time.sleep(0.2)
            postgres.start()
        work.join()
        check(vault, set(range(ALL)))
