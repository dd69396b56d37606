"""10,000 sessions logged while the process is killed (kill -9), and while PostgreSQL is: what was acknowledged is there, nothing is twice."""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import machine

from attunement.progress.tracking import ProgressTrackingSystem
from attunement.security.acting import Act
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault

KILLS, STOPS = 12, 10


def measured(calls: int) -> dict[str, Any]:
    """Both kinds of fault, over PostgreSQL with fsync; kill -9 also over SQLite."""
    from attunement.cli.tables import know_all

    know_all()
    sys.path += [str(machine.ROOT / "tests"), str(machine.ROOT / "tests" / "progress")]
    import databases

    servers = databases.postgres_daemons
    running = (servers.__wrapped__ if hasattr(servers, "__wrapped__") else servers._get_wrapped_function())()
    postgres = next(running)()
    postgres.command[postgres.command.index("fsync=off")] = "fsync=on"
    postgres.start()
    out: dict[str, Any] = {"calls": calls}
    try:
        out["killed, sqlite"] = _killed("", calls)
        out["killed, postgresql"] = _killed(_fresh(postgres.url, "killed"), calls)
        out["database stopped, postgresql"] = _stopped(postgres, _fresh(postgres.url, "stopped"), calls)
    finally:
        next(running, None)
    return out


def _fresh(url: str, name: str) -> str:
    from progress_parts.speed import _fresh as fresh

    return str(fresh(url, name))


def _killed(url: str, calls: int) -> dict[str, Any]:
    import journal_writer
    import test_journal_faults as faults

    rng, acknowledged, kills = random.Random(7), set[int](), 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        FileMasterKey.create(home / "master.key")
        first = 0
        while kills < KILLS:
            told = faults.run_killed(home, url, rng.randrange(calls // (2 * KILLS), calls // KILLS), range(first, calls))
            acknowledged |= told
            first, kills = max(acknowledged) - 3, kills + 1  # as a caller goes on: what was not acknowledged is sent again
        with Vault.open(journal_writer.settings_of(home, url)) as vault:
            there = {int(session.removeprefix("s-")) for _, session in faults.stored(vault)}
            lost = len(acknowledged - there)
            system = ProgressTrackingSystem(vault, Act("os:benchmark"))
            began = time.perf_counter()
            journal_writer.log_all(system, range(calls), 4)
            seconds = time.perf_counter() - began
            rows = faults.stored(vault)
            whole = vault.audit.verify().whole
    return {
        "kills": kills, "acknowledged_before_a_kill": len(acknowledged), "lost": lost, "stored_in_the_end": len(rows),
        "stored_twice": len(rows) - len(set(rows)), "audit_whole": whole, "all_sent_again_seconds": round(seconds, 1),
    }  # fmt: skip


def _stopped(postgres: Any, url: str, calls: int) -> dict[str, Any]:
    import journal_writer
    import test_journal_faults as faults

    rng = random.Random(9)
    with tempfile.TemporaryDirectory() as folder:
        FileMasterKey.create(Path(folder) / "master.key")
        with Vault.open(journal_writer.settings_of(Path(folder), url)) as vault:
            work = threading.Thread(
                target=journal_writer.log_all, args=(ProgressTrackingSystem(vault, Act("os:benchmark")), range(calls), 4)
            )
            work.start()
            stops = 0
            while work.is_alive() and stops < STOPS:
                time.sleep(rng.uniform(0.5, 2))
                postgres.stop(signal.SIGKILL if stops % 2 else signal.SIGINT)
                time.sleep(rng.uniform(0.1, 1))
                postgres.start()
                stops += 1
            work.join()
            rows = faults.stored(vault)
            whole = vault.audit.verify().whole
    return {
        "stops_and_kills": stops,
        "stored": len(rows),
        "lost": calls - len(set(rows)),
        "stored_twice": len(rows) - len(set(rows)),
        "audit_whole": whole,
    }
