"""What the stores cost a request: transcripts kept, rates and replies shared; `results/stores.json`.

    python benchmarks/stores.py

Real servers on this machine (`tests/databases.py`): PostgreSQL, Redis, and for MongoDB what `mongod` or its stand-in gives: its rate of
draining is that server's, and says little about another. Every transcript is encrypted, committed and on record.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

sys.path.append(str(machine.ROOT / "tests"))

THREADS, EACH = 16, 60


def main() -> int:
    import databases
    from attunement.cli.tables import know_all

    know_all()
    figures: dict[str, Any] = {
        "machine": machine.describe(),
        "threads": THREADS,
        "transcripts_each": EACH,
        "turn_characters": 600,
    }
    with tempfile.TemporaryDirectory() as folder:
        servers = _servers(databases, Path(folder))
        mongodb, redis, postgres = next(servers["mongodb"]), next(servers["redis"]), next(servers["postgres"])()
        postgres.command[postgres.command.index("fsync=off")] = "fsync=on"  # as it is used, not as tests do
        postgres.start()
        for name, url, mongo in (("sqlite", "", ""), ("postgresql", postgres.url, ""), ("sqlite_mongodb", "", mongodb.url)):
            figures[name] = _transcripts(Path(folder) / name, url, mongo)
            print(name, figures[name], flush=True)
        figures["redis"] = _shared(Path(folder) / "redis", redis)
        print("redis", figures["redis"])
        for each in servers.values():
            next(each, None)
    machine.write("stores", figures)
    return 0


def _servers(databases: Any, folder: Path) -> dict[str, Any]:
    made = {"redis": databases.redis_server, "mongodb": databases.mongo_server, "postgres": databases.postgres_daemons}
    out = {}
    for name, fixture in made.items():
        (folder / f"{name}-files").mkdir()
        function = fixture.__wrapped__ if hasattr(fixture, "__wrapped__") else fixture._get_wrapped_function()
        out[name] = function(folder / f"{name}-files") if name != "postgres" else function()
    return out


def _vault(home: Path, **stores: str) -> Any:
    from attunement.config import SecuritySettings, Settings, StoresSettings
    from attunement.security.master_key import FileMasterKey
    from attunement.security.vault import Vault

    home.mkdir()
    FileMasterKey.create(home / "master.key")
    security = SecuritySettings(store=stores.pop("store", ""))
    return Vault.open(Settings(home=home, security=security, stores=StoresSettings(pool_size=THREADS, **stores)))


def _transcripts(home: Path, url: str, mongodb: str) -> dict[str, Any]:
    from attunement.security.acting import Act
    from attunement.storage.opening import opened_stores
    from attunement.storage.transcripts.records import Transcript
    from attunement.storage.transcripts.store import made_now

    act, turns = Act("a-1"), [{"role": "user", "content": "x" * 600}]
    with _vault(home, store=url, mongodb=mongodb) as vault, opened_stores(vault) as stores:

        def keep(thread: int, count: int, took: list[float]) -> None:
            for number in range(count):
                one = Transcript(
                    f"r-{thread}-{number}", f"s-{thread}", turns, "y" * 300, "m", {"level": "none"}, made_now(), f"c-{thread}"
                )
                began = time.perf_counter()
                stores.transcripts.add(one, act)
                took.append(time.perf_counter() - began)

        alone: list[float] = []
        keep(99, EACH, alone)
        out = {"alone": _milliseconds(alone)}
        took: list[float] = []
        seconds = _at_once([lambda n=n: keep(n, EACH, took) for n in range(THREADS)])
        out["at_once"] = {**_milliseconds(took), "a_second": round(THREADS * EACH / seconds)}
        if mongodb:
            while stores.transcripts.waiting()["outbox"]:
                time.sleep(0.05)
            out["in_mongodb_after_seconds"] = round(time.perf_counter() - _BEGAN[-1], 1)
        reads = [_timed(lambda: stores.transcripts.read(act, client="c-1", last=10)) for _ in range(30)]
        out["read_last_10"] = _milliseconds(reads)
    return out


def _shared(home: Path, server: Any) -> dict[str, Any]:
    from attunement.storage.opening import opened_stores

    prompt = [{"role": "user", "content": "x" * 600}]
    with _vault(home, redis=server.url) as vault, opened_stores(vault) as stores:
        assert stores.buckets is not None
        stores.replies.put(prompt, "m", {}, "y" * 300, risk=False)
        out = {
            "rate_limit": _milliseconds([_timed(lambda: stores.buckets.take("k-1", 1e6, 1e6)) for _ in range(500)]),
            "reply_found": _milliseconds([_timed(lambda: stores.replies.get(prompt, "m", {}, risk=False)) for _ in range(500)]),
        }
        server.hold()
        out["rate_limit_while_redis_hangs"] = _milliseconds(
            [_timed(lambda: stores.buckets.take("k-1", 1e6, 1e6)) for _ in range(500)]
        )
        server.resume()
    return out


_BEGAN: list[float] = []


def _at_once(calls: list[Callable[[], None]]) -> float:
    threads = [threading.Thread(target=call) for call in calls]
    _BEGAN.append(time.perf_counter())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - _BEGAN[-1]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _milliseconds(took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"p50_ms": round(1000 * statistics.median(ordered), 2), "p99_ms": round(1000 * p99, 2)}


if __name__ == "__main__":
    sys.exit(main())
