"""Group commit: rows and their audit records of many callers in one transaction, which each waits for.

A commit waits for the disk (1 to 8 ms), and the chain lets one transaction at a time through: alone, that is 120 to 1,000 a
second. Here who comes while another commits is taken along with the next commit. A caller returns when what it gave is on
disk with its record; what fails is tried again alone, so that nobody fails for another's row.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.audit import AuditLog, Entry

MOST = 256
Insert = tuple[sa.Table, Mapping[str, Any]]
Check = Callable[[sa.Connection], None]


@dataclass(eq=False)
class _Job:
    inserts: Sequence[Insert]
    entries: Sequence[Entry]
    check: Check | None = None
    called: threading.Event = field(default_factory=threading.Event)
    done: bool = False
    error: Exception | None = None


class GroupedWriter:
    """Inserts rows with their audit records; for any number of threads. One of the callers commits for those who wait."""

    def __init__(self, log: AuditLog, most: int = MOST) -> None:
        self._log, self._most = log, most
        self._waiting: deque[_Job] = deque()
        self._mutex, self._busy = threading.Lock(), False

    def write(self, inserts: Sequence[Insert], *entries: Entry, check: Check | None = None) -> None:
        """Returns when the rows and the records are committed; raises what kept them from it.

        `check` is called in the transaction, before anything is written, and raises where nothing must be.
        """
        job = _Job(inserts, entries, check)
        with self._mutex:
            self._waiting.append(job)
            leads, self._busy = not self._busy, True
        if not leads:
            job.called.wait()  # it is done, or it is this thread's turn to commit
        if not job.done:
            self._lead(job)
        if job.error is not None:
            raise job.error

    def _lead(self, own: _Job) -> None:
        """Commits until `own` is done, then calls the next in the line to go on."""
        try:
            while not own.done:
                with self._mutex:
                    jobs = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                self._commit(jobs)
        finally:
            with self._mutex:
                self._busy = bool(self._waiting)
                if self._busy:
                    self._waiting[0].called.set()

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            with self._log.begin() as connection:
                for job in jobs:
                    if job.check is not None:
                        job.check(connection)
                for table, rows in _by_table(jobs):
                    connection.execute(table.insert(), rows)
                if entries := [entry for job in jobs for entry in job.entries]:
                    self._log.append(connection, *entries)
        except Exception as error:  # of whatever kind: it is the caller's, whose thread raises it again in `write`
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    self._commit([job])
        except BaseException:  # an interruption of this thread: the others must not take it for success
            for job in jobs:
                job.error = job.error or DataError("the write was interrupted: it may not have been done")
            raise
        finally:
            for job in jobs:
                job.done = True
                job.called.set()


def _by_table(jobs: Sequence[_Job]) -> list[tuple[sa.Table, list[Mapping[str, Any]]]]:
    """The rows of one form together: one statement each, in the order in which the first of them came."""
    found: dict[tuple[sa.Table, tuple[str, ...]], list[Mapping[str, Any]]] = {}
    for table, row in (insert for job in jobs for insert in job.inserts):
        found.setdefault((table, tuple(row)), []).append(row)
    return [(table, rows) for (table, _), rows in found.items()]
