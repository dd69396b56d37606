"""What the stores cost a request: transcripts kept, rates and replies shared; `results/stores.json`.

    python benchmarks/stores.py [documents]

Real servers on this machine (`tests/databases.py`): PostgreSQL, Redis, and for MongoDB what `mongod` or its stand-in gives: its rate of
draining is that server's, and says little about another. Every transcript is encrypted, committed and on record.
"""

from __future__ import annotations

import json
import os
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
DOCUMENTS, DOCUMENT_BYTES = 12, 10 * 2**20


def main() -> int:
    import databases
    from attunement.cli.tables import know_all

    know_all()
    if sys.argv[1:] == ["documents"]:
        return _documents_alone(databases)
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
        figures["documents"] = _of_documents(Path(folder), postgres.url, mongodb.url)
        figures["redis"] = _shared(Path(folder) / "redis", redis)
        print("redis", figures["redis"])
        for each in servers.values():
            next(each, None)
    machine.write("stores", figures)
    return 0


def _documents_alone(databases: Any) -> int:
    """Measures these, and leaves the other figures as they are."""
    figures = json.loads((machine.RESULTS / "stores.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        servers = _servers(databases, Path(folder))
        mongodb, postgres = next(servers["mongodb"]), next(servers["postgres"])()
        postgres.command[postgres.command.index("fsync=off")] = "fsync=on"
        postgres.start()
        figures["documents"] = _of_documents(Path(folder), postgres.url, mongodb.url)
        for each in servers.values():
            next(each, None)
    machine.write("stores", figures)
    return 0


def _of_documents(folder: Path, postgres: str, mongodb: str) -> dict[str, Any]:
    out: dict[str, Any] = {"machine": machine.describe(), "bytes": DOCUMENT_BYTES, "documents": DOCUMENTS}
    for name, url, mongo in (("sqlite", "", ""), ("postgresql", postgres, ""), ("sqlite_mongodb", "", mongodb)):
        out[name] = _documents(folder / f"documents_{name}", url, mongo)
    return out


def _documents(home: Path, url: str, mongodb: str) -> dict[str, Any]:
    """One after another, each drained before they are read."""
    from attunement.security.acting import Act
    from attunement.storage.opening import opened_stores

    act, contents = Act("a-1"), [b"%PDF-" + os.urandom(DOCUMENT_BYTES - 5) for _ in range(DOCUMENTS)]
    with _vault(home, store=url, mongodb=mongodb) as vault, opened_stores(vault) as stores:
        documents, ids = stores.documents, list[str]()
        add = [_timed(lambda c=c: ids.append(documents.add("d-1", "Scan", "application/pdf", c, act).id)) for c in contents]
        began = time.perf_counter()
        while mongodb and stores.transcripts.waiting()["outbox"]:
            time.sleep(0.05)
        drained = time.perf_counter() - began
        get = [_timed(lambda one=one: documents.get("d-1", one, act)) for one in ids]
        listed = [_timed(lambda: documents.of("d-1", act)) for _ in range(DOCUMENTS)]
    out: dict[str, Any] = {"add": _milliseconds(add), "get": _milliseconds(get), "list": _milliseconds(listed)}
    return {**out, "in_mongodb_after_seconds": round(drained, 1)} if mongodb else out


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
