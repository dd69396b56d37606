"""What a call of the journal costs in a large store and in a small one, SQLite and PostgreSQL (with fsync, as it is used).

10,000 clients with 1,000,000 sessions, and 100 clients of the same kinds with 10,000: what grows with the store shows between them. One client in a hundred has
500 sessions over ten years, with a PHQ-9 at every second; the others have about 95 over two. Rows are encrypted as the journal does it; filling the
store goes past the audit log (a million records of it are not what is measured), the calls do not.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import machine
import numpy as np

from attunement.config import SecuritySettings, Settings
from attunement.progress import sealing
from attunement.progress.journal import row_of
from attunement.progress.journey import LoggedSession, SessionData
from attunement.progress.tables import STATE, VECTOR, WORDS, entries, sessions
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import EmotionalState, SessionLog, Timeframe, Turn
from attunement.security.acting import Act
from attunement.security.clock import stamp
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault

NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
ACT = Act("os:benchmark", "r-1")
SIZES = {"small": 100, "large": 10_000}
LONG, SHORT = 500, 95
CALLS, BATCH = 200, 5_000
TOPICS = "sleep,work,father,panic on the train,money,her brother,the exam,drinking,loneliness,the move,back pain,guilt,anger at home,friends,food".split(
    ","
)
MOVES = "We went over {0} and planned a small step for {1}.|{1} came up again; {0} was easier this week.|She cried about {0}. We used grounding.|Exposure to {0} went well.".split(
    "|"
)
TALK = (
    Turn("therapist", "How was the week since we met?"),
    Turn("client", "Better than the one before. I slept through on two nights and went to work on all five days."),
    Turn("therapist", "What made the difference?"),
    Turn("client", "I wrote the worries down before bed as we said. On Thursday I was still anxious about my father."),
    Turn("therapist", "You kept to it although it was hard. What happened on Thursday?"),
    Turn("client", "He called and I felt guilty, then I was angry for an hour. My sister came by and that helped."),
)


def measured(clients: int) -> dict[str, Any]:
    """Both stores, both sizes. `clients` makes the large one smaller, to try it out."""
    from attunement.cli.tables import know_all

    know_all()
    sys.path.append(str(machine.ROOT / "tests"))
    import databases

    out: dict[str, Any] = {"calls_each": CALLS}
    servers = databases.postgres_daemons
    made = servers.__wrapped__ if hasattr(servers, "__wrapped__") else servers._get_wrapped_function()
    running = made()
    postgres = next(running)()
    postgres.command[postgres.command.index("fsync=off")] = "fsync=on"
    postgres.start()
    try:
        for (store, url), (size, count) in itertools.product((("sqlite", ""), ("postgresql", postgres.url)), SIZES.items()):
            count = min(count, clients)
            with tempfile.TemporaryDirectory() as folder:
                out[f"{store}, {size}"] = found = _measured(Path(folder), url and _fresh(url, size), count)
                print(store, size, found, flush=True)
    finally:
        next(running, None)
    return out


def _fresh(url: str, name: str) -> str:
    import sqlalchemy as sa

    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def _measured(home: Path, url: str, clients: int) -> dict[str, Any]:
    FileMasterKey.create(home / "master.key")
    with Vault.open(Settings(home=home, security=SecuritySettings(store=url)), clock=lambda: NOW) as vault:
        system = ProgressTrackingSystem(vault, ACT)
        began = time.perf_counter()
        count = _fill(vault, system, clients)
        filled = time.perf_counter() - began
        if not vault.store.is_sqlite:
            with vault.store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM ANALYZE")
        rng = random.Random(3)
        long = [f"c-{n}" for n in range(0, clients, 100)]
        year, ten = (Timeframe(NOW - timedelta(days=days), NOW) for days in (365, 3653))
        numbers = itertools.count()
        said = [f"I keep thinking about {topic} tonight." for topic in TOPICS]

        def log(**more: Any) -> Callable[[], Any]:
            def call() -> Any:
                data = SessionData(f"new-{next(numbers)}", **more)
                return system.log_session(f"c-{rng.randrange(clients)}", data, NOW)

            return call

        given: dict[str, Any] = {
            "conversation_summary": MOVES[0].format(*TOPICS[:2]), "emotional_state": EmotionalState({"relief": 0.4}), "next_session_focus": "sleep",
            "measures": {"phq9": [1, 1, 2, 1, 0, 1, 1, 0, 0]},
        }  # fmt: skip
        calls: dict[str, Callable[[], Any]] = {
            "track_progress, a year": lambda: system.track_progress(rng.choice(long), year),
            "track_progress, ten years": lambda: system.track_progress(rng.choice(long), ten),
            "retrieve_historical_context, 500 sessions": lambda: system.retrieve_historical_context(
                rng.choice(long), timedelta(days=3653), rng.choice(said)
            ),
            "analyze_trends": lambda: system.analyze_trends(rng.choice(long)),
            "log_session": log(**given),
            "log_session from a transcript": log(transcript=TALK),
        }
        report = system.track_progress(long[0], ten)
        times = _interleaved(calls)
    return {
        "clients": clients, "sessions": count, "fill_seconds": round(filled, 1), "sessions_of_a_long_client": report.sessions_count, **times,
    }  # fmt: skip


def _interleaved(calls: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Milliseconds of each kind, in turn: what else the machine does meets all of them."""
    for call in calls.values():
        call(), call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - began))
    return {
        name: {"median_ms": round(statistics.median(each), 1), "p95_ms": round(sorted(each)[int(0.95 * len(each))], 1)}
        for name, each in taken.items()
    }


def _fill(vault: Vault, system: ProgressTrackingSystem, clients: int) -> int:
    rng = random.Random(11)
    texts = sorted({move.format(a, b) for move in MOVES for a, b in itertools.permutations(TOPICS, 2)})
    vectors = [sealing.packed(vector) for vector in system._models.notes.encode(texts)]
    count = 0
    rows = itertools.chain.from_iterable(
        _client(vault, f"c-{n}", LONG if n % 100 == 0 else SHORT, texts, vectors, rng) for n in range(clients)
    )
    while batch := list(itertools.islice(rows, BATCH)):
        with vault.store.begin() as connection:
            connection.execute(sessions.insert(), [session for session, _ in batch])
            connection.execute(entries.insert(), [score for _, score in batch if score])
        count += len(batch)
    return count


def _client(vault: Vault, client: str, many: int, texts: list[str], vectors: list[Any], rng: random.Random) -> Iterator[Any]:
    level, at = rng.uniform(4, 20), NOW - timedelta(days=7.3 * many)
    for number in range(many):
        at += timedelta(days=7.3 * rng.uniform(0.7, 1.29))
        at = min(at, NOW - timedelta(hours=1))
        level = float(np.clip(level + rng.gauss(0, 1.2), 0, 27))
        text = rng.randrange(len(texts))
        felt = EmotionalState(
            {"sadness": rng.random(), "fear": rng.random(), "joy": rng.random()}, rng.uniform(-1, 1), 0.1, {"valence": 0.1}, 300
        )
        log = SessionLog(
            client, f"s-{number}", at, texts[text], felt, ("g-1",), "Attended, on time. " * 8, "", "Go on with the plan."
        )
        row = row_of(client, log.session_id)
        given = {
            STATE: sealing.state_of(LoggedSession(log)),
            WORDS: sealing.words_of(LoggedSession(log), "x" * 64),
            VECTOR: vectors[text],
        }
        when = stamp(at)
        common = {"client": client, "at": when, "zone": "+00:00", "version": 1, "author": "os:benchmark", "logged_at": when}
        session = {
            "id": row,
            "session": log.session_id,
            "signed_by": "",
            "signed_at": "",
            **common,
            **vault.cipher.encrypt_row(sessions.name, row, client, given),
        }
        score = None
        if number % 2 == 0:
            place = f"p-{client}-{number}"
            content = {
                "measure": "phq9",
                "items": _items(level),
                "total": round(level),
                "prorated": False,
                "session": log.session_id,
            }
            score = {
                "id": place,
                "kind": "measure",
                **common,
                **vault.cipher.encrypt_row(entries.name, place, client, {"content": content}),
            }
        yield session, score


def _items(level: float) -> list[int]:
    total = round(level)
    return [total // 9 + (n < total % 9) for n in range(9)]
