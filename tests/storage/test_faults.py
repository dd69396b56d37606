"""All stores at once under load while each is stopped, killed and held: nothing lost, nothing double, in order, nobody refused."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from test_kept_transcripts import ACT, made, requests, vault_at

from attunement.storage.opening import opened_stores
from databases import Daemon, PostgresDaemon

FAULTS, WRITERS = 6, 4


@pytest.mark.slow
def test_transcripts_survive_faults_of_every_store(
    tmp_path: Path, mongo_server: Daemon, redis_server: Daemon, postgres_daemons: Callable[[], PostgresDaemon]
) -> None:
    rng, stop = random.Random(11), threading.Event()
    postgres = postgres_daemons()
    postgres.command[postgres.command.index("fsync=off")] = "fsync=on"  # it is killed, too
    postgres.start()
    kept, faults = defaultdict[tuple[str, str], list[str]](list), list[Exception]()
    with (
        vault_at(tmp_path / "home", postgres.url, mongo_server.url, redis=redis_server.url, timeout_seconds=4.0) as vault,
        opened_stores(vault) as stores,
    ):
        assert stores.buckets is not None

        def write(number: int) -> None:
            client, count = f"c-{number}" if number % 2 else "", 0
            while not stop.wait(0.02):
                count += 1
                try:
                    stores.transcripts.add(made(f"r-{count}", f"s-{number}", client), ACT)
                    kept[client, f"s-{number}"].append(f"r-{count}")
                except Exception as error:
                    faults.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        plan = [(each, how) for each in (mongo_server, redis_server, postgres) for how in ("hold", "kill", "stop")]
        for server, how in rng.sample(plan, FAULTS):
            {"hold": server.hold, "kill": server.kill, "stop": lambda server=server: server.stop(signal.SIGINT)}[how]()
            time.sleep(rng.uniform(0.2, 1.2))
            server.resume() if how == "hold" else server.start()
            time.sleep(rng.uniform(0.1, 0.6))
        stop.set()
        for thread in threads:
            thread.join()
        assert faults == []
        until = time.monotonic() + 60
        while not (stores.transcripts.vault.store.up() and not any(stores.transcripts.waiting().values())):
            assert time.monotonic() < until, "transcripts still wait"
            time.sleep(0.2)
        for (client, session), sent in kept.items():
            assert requests(stores.transcripts.read(ACT, client=client, session=session)) == sent
        assert vault.audit.verify().whole
        assert sum(1 for _ in vault.audit.records(action="inference:create")) == sum(map(len, kept.values()))
