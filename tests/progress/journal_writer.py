"""A process that logs sessions from several threads and prints the number of each that was acknowledged; tests and benchmarks kill it.

python journal_writer.py HOME STORE_URL FIRST LAST THREADS
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attunement.config import SecuritySettings, Settings, StoresSettings
from attunement.errors import StoreDownError
from attunement.progress.journey import SessionData
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import EmotionalState
from attunement.security.acting import Act
from attunement.security.vault import Vault

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
CLIENTS = 20


def client_of(number: int) -> str:
    return f"c-{number % CLIENTS}"


def data_of(number: int) -> SessionData:
    felt = EmotionalState({"sadness": 0.4}, -0.2)
    return SessionData(f"s-{number}", (), f"Session {number}.", felt, next_session_focus="sleep", measures={"phq9": number % 28})


def settings_of(home: Path, url: str) -> Settings:
    return Settings(
        home=home, security=SecuritySettings(store=url), stores=StoresSettings(timeout_seconds=3.0, connect_seconds=1.0)
    )


def log_all(system: ProgressTrackingSystem, numbers: range, threads: int) -> None:
    """Logs every session; one whose store is away is sent again, as a client of the service does."""
    waiting, lock = iter(numbers), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            while True:
                try:
                    system.log_session(client_of(number), data_of(number), START + timedelta(hours=number))
                    break
                except StoreDownError:
                    time.sleep(0.1)
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()

    running = [threading.Thread(target=work) for _ in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()


if __name__ == "__main__":
    home, url, first, last, threads = sys.argv[1:]
    with Vault.open(settings_of(Path(home), url)) as vault:
        log_all(ProgressTrackingSystem(vault, Act("os:writer")), range(int(first), int(last)), int(threads))
