"""The thread that moves transcripts on: from the spool into the SQL store, from the outbox into MongoDB, and carries out erasures."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attunement.errors import UserError
from attunement.storage.transcripts.store import TranscriptStore

log = logging.getLogger("attunement.storage.transcripts")

LOOK_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0


@contextmanager
def draining(store: TranscriptStore, look_seconds: float = LOOK_SECONDS) -> Iterator[None]:
    """Moves transcripts on while the block runs; several processes may. At the end what is left waits for the next one."""
    stop = threading.Event()
    thread = threading.Thread(target=_repeat, args=(store, stop, look_seconds), name="transcripts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _repeat(store: TranscriptStore, stop: threading.Event, look_seconds: float) -> None:
    failures = 0
    while not stop.is_set():
        try:
            moved, pause = store.drain(), look_seconds
            failures = 0
        except UserError as error:
            moved, failures = 0, failures + 1
            if failures == 1:
                log.warning("transcripts wait: %s", error)
            pause = min(LONGEST_PAUSE_SECONDS, look_seconds * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0)
        except Exception:  # whatever it is: the thread must live on, or nothing is moved any more
            moved, failures, pause = 0, failures + 1, LONGEST_PAUSE_SECONDS
            log.exception("transcripts wait: a fault of ours")
        if not moved:
            stop.wait(pause)
