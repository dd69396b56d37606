"""What replicas share, in process and by a real Redis, which is stopped, held and started again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attunement.config import Settings, StoresSettings
from attunement.errors import AccessError, ConfigError, StoreDownError
from attunement.security.fields import FieldCipher
from attunement.security.keys import KeyRing, ShreddedError
from attunement.serving.guard import Rate
from attunement.storage.circuits import Circuits, retried
from attunement.storage.shared.buckets import SharedBuckets
from attunement.storage.shared.link import RedisLink
from attunement.storage.shared.live import LiveFeed
from attunement.storage.shared.replies import ReplyCache
from databases import Daemon

PROMPT = [{"role": "user", "content": "I cannot sleep-zq"}]


def settings(home: Path, url: str, **stores: Any) -> Settings:
    waits = {"redis_timeout_seconds": 0.2, "circuit_seconds": 0.3, "circuit_failures": 2}
    return Settings(home=home, stores=StoresSettings(redis=url, **{**waits, **stores}))


@pytest.fixture
def links(tmp_path: Path, redis_server: Daemon) -> Iterator[Callable[[], RedisLink]]:
    """Each one is another replica's."""
    made = list[RedisLink]()

    def make() -> RedisLink:
        made.append(RedisLink(settings(tmp_path, redis_server.url), b"a secret"))
        return made[-1]

    yield make
    for link in made:
        link.close()


@pytest.fixture(params=["in process", "redis"])
def cache(request: pytest.FixtureRequest, ring: KeyRing) -> ReplyCache:
    link = request.getfixturevalue("links")() if request.param == "redis" else None
    return ReplyCache(FieldCipher(ring), 60.0, link)


def test_a_reply_is_found_by_all_that_it_depends_on(cache: ReplyCache, ring: KeyRing) -> None:
    cache.put(PROMPT, "m-1", {"temperature": 0}, {"text": "since when?"}, risk=False)
    assert cache.get(PROMPT, "m-1", {"temperature": 0}, risk=False) == {"text": "since when?"}
    others = [
        ([*PROMPT, *PROMPT], "m-1", {"temperature": 0}),
        (PROMPT, "m-2", {"temperature": 0}),
        (PROMPT, "m-1", {"temperature": 1}),
    ]
    assert [cache.get(p, m, s, risk=False) for p, m, s in others] == [None] * 3
    assert cache.get(PROMPT, "m-1", {"temperature": 0}, risk=False, client="c-1") is None


def test_a_conversation_with_risk_neither_reads_nor_writes_it(cache: ReplyCache) -> None:
    cache.put(PROMPT, "m-1", {}, "a", risk=True)
    assert cache.get(PROMPT, "m-1", {}, risk=False) is None
    cache.put(PROMPT, "m-1", {}, "b", risk=False)
    assert cache.get(PROMPT, "m-1", {}, risk=True) is None


def test_a_deleted_clients_replies_are_closed(cache: ReplyCache, ring: KeyRing) -> None:
    cache.put(PROMPT, "m-1", {}, "a", risk=False, client="c-1")
    assert cache.get(PROMPT, "m-1", {}, risk=False, client="c-1") == "a"
    ring.shred("c-1")
    with pytest.raises(ShreddedError):
        cache.get(PROMPT, "m-1", {}, risk=False, client="c-1")


def test_redis_holds_no_word_and_no_address_and_forgets(links: Callable[[], RedisLink], ring: KeyRing) -> None:
    link = links()
    cache = ReplyCache(FieldCipher(ring), 60.0, link)
    cache.put(PROMPT, "m-1", {}, "since when-zq?", risk=False, client="c-1")
    SharedBuckets(link).take("address:203.0.113.9", 20, 10)
    keys = link.redis.keys("*")
    assert len(keys) == 2 and all(0 < link.redis.pttl(key) <= 60_000 for key in keys)
    held = b" ".join([*keys, link.redis.get(next(k for k in keys if b"reply" in k))])
    assert not any(word in held for word in (b"-zq", b"203.0", b"c-1"))
    for key in keys:
        link.redis.set(key, b"tampered with", px=5000)
    assert cache.get(PROMPT, "m-1", {}, risk=False, client="c-1") is None  # as if it were not there


def test_replicas_count_together_each_request_once(links: Callable[[], RedisLink]) -> None:
    rates, let_in = [Rate(600, shared=SharedBuckets(links())) for _ in range(2)], queue.Queue[int]()  # 60 at once, 10 a second

    def ask(rate: Rate) -> None:
        for _ in range(25):
            try:
                rate.take("k-1")
                let_in.put(1)
            except AccessError as error:
                assert error.reason == "rate" and error.after_seconds is not None and 0 < error.after_seconds <= 0.2

    began = time.monotonic()
    threads = [threading.Thread(target=ask, args=(rates[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 60 <= let_in.qsize() <= 60 + 10 * (time.monotonic() - began) + 1
    rates[0].take("k-2")  # another's bucket is full


def test_live_figures_reach_every_replica(links: Callable[[], RedisLink], redis_server: Daemon) -> None:
    here, there, alone = LiveFeed(links()), LiveFeed(links()), LiveFeed()
    with here.watch() as mine, there.watch() as yours, alone.watch() as own:
        here.publish({"requests": 1})
        alone.publish({"requests": 2})
        assert [q.get(timeout=5) for q in (mine, yours, own)] == [{"requests": 1}, {"requests": 1}, {"requests": 2}]
        redis_server.kill()
        here.publish({"requests": 3})
        assert mine.get(timeout=5) == {"requests": 3} and yours.empty()
        redis_server.start()
        until = time.monotonic() + 20
        while yours.empty() and time.monotonic() < until:  # both come back by themselves
            here.publish({"requests": 4})
            time.sleep(0.1)
        assert yours.get(timeout=5) == {"requests": 4}
        for number in range(1000):  # who does not look misses the oldest
            alone.publish({"requests": number})
        assert own.qsize() == 256 and own.get() == {"requests": 1000 - 256}
    for feed in (here, there, alone):
        feed.close()
    assert not [t for t in threading.enumerate() if t.name == "live-feed"]


@pytest.mark.parametrize("how", ["stopped", "hangs"])
def test_without_redis_each_goes_on_alone(
    links: Callable[[], RedisLink], redis_server: Daemon, ring: KeyRing, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    link = links()
    cache, rate, circuits = ReplyCache(FieldCipher(ring), 60.0, link), Rate(60, shared=SharedBuckets(link)), Circuits(2, 60, link)
    redis_server.hold() if how == "hangs" else redis_server.kill()
    for number in range(100):
        cache.put(PROMPT, f"m-{number}", {}, number, risk=False)
        assert cache.get(PROMPT, f"m-{number}", {}, risk=False) == number
    for _ in range(20):
        rate.take("k-1")
    with pytest.raises(AccessError):  # still limited
        rate.take("k-1")
    for _ in range(2):
        with pytest.raises(OSError), circuits.guarding("engine", OSError):
            raise OSError
    with pytest.raises(StoreDownError), circuits.guarding("engine", OSError):
        pass
    assert link._circuits.state("redis") != "closed"  # it is not asked at each call
    assert [r.getMessage() for r in caplog.records if "goes on alone" in r.getMessage()][1:] == []  # told once
    redis_server.resume() if how == "hangs" else redis_server.start()
    until = time.monotonic() + 20
    while not link.up() and time.monotonic() < until:
        time.sleep(0.05)
    assert link.up()


def test_a_circuit_that_one_replica_opened_is_open_for_all(links: Callable[[], RedisLink]) -> None:
    here, there = (Circuits(3, 0.4, links()) for _ in range(2))
    for circuits in (here, there, here):  # three in a row, wherever
        with pytest.raises(OSError), circuits.guarding("mongodb", OSError):
            raise OSError
    asked = False
    with pytest.raises(StoreDownError) as error, there.guarding("mongodb", OSError):
        asked = True
    assert not asked and 0 < error.value.after_seconds <= 0.4 and there.state("mongodb") == "opened"
    time.sleep(0.45)
    with there.guarding("mongodb", OSError):  # one is let through, and it went well
        pass
    assert here.state("mongodb") == "closed"
    with here.guarding("mongodb", OSError):
        pass


def test_a_circuit_counts_only_what_it_is_for() -> None:
    circuits = Circuits(2, 60)
    for _ in range(5):
        with pytest.raises(KeyError), circuits.guarding("x", OSError):
            raise KeyError
    for _ in range(3):
        with pytest.raises(OSError), circuits.guarding("x", OSError):
            raise OSError
        with circuits.guarding("x", OSError):  # not in a row
            pass
    assert circuits.state("x") == "closed"


def half_open(tried: Circuits, seconds: float = 0.05) -> None:
    """Fails until the circuit `x` is left alone, and waits until that is over."""
    for _ in range(2):
        with pytest.raises(OSError), tried.guarding("x", OSError):
            raise OSError
    with pytest.raises(StoreDownError, match="left alone"), tried.guarding("x", OSError):
        pass
    time.sleep(seconds + 0.02)


def _many(circuits: Circuits, *, fails: bool = False, waits: bool = True, count: int = 16) -> tuple[int, int, list[float]]:
    """How many of `count` threads were let through at once, how many failed, and the waits that the others were told.

    With `waits` a call ends when the others were refused, or after 3 s.
    """
    through, failed, refused, start = list[int](), list[int](), list[float](), threading.Barrier(count)

    def one() -> None:
        start.wait()
        try:
            with circuits.guarding("x", OSError):
                through.append(1)
                until = time.monotonic() + 3 * waits
                while len(refused) < count - 1 and time.monotonic() < until:
                    time.sleep(0.01)
                if fails:
                    raise OSError
        except OSError:
            failed.append(1)
        except StoreDownError as error:
            refused.append(error.after_seconds)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(through), len(failed), refused


@pytest.mark.parametrize("shared", [False, True])
def test_one_call_tries_a_half_open_circuit_and_the_others_are_refused(request: pytest.FixtureRequest, shared: bool) -> None:
    circuits = Circuits(2, 0.3, request.getfixturevalue("links")() if shared else None)
    half_open(circuits, 0.3)
    through, failed, refused = _many(circuits, fails=True)
    assert (through, failed, len(refused)) == (1, 1, 15) and all(0 < wait <= 0.3 for wait in refused)
    with pytest.raises(StoreDownError, match="left alone"), circuits.guarding("x", OSError):  # it failed: as long again
        pass
    time.sleep(0.35)
    through, _, refused = _many(circuits)
    assert (through, len(refused)) == (1, 15) and circuits.state("x") == "closed"
    assert _many(circuits, waits=False) == (16, 0, [])  # it went well: all are let through


def test_a_try_that_hangs_blocks_no_longer_than_a_calls_time_limit() -> None:
    circuits, hangs, inside = Circuits(2, 0.05, longest=0.3), threading.Event(), threading.Event()

    def hang() -> None:
        with circuits.guarding("x", OSError):
            inside.set()
            hangs.wait(10)

    half_open(circuits)
    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(5)
    with pytest.raises(StoreDownError, match="one call tries it"), circuits.guarding("x", OSError):
        pass
    time.sleep(0.35)
    with pytest.raises(OSError), circuits.guarding("x", OSError):  # the next may try
        with pytest.raises(StoreDownError, match="one call tries it"), circuits.guarding("x", OSError):
            hangs.set()  # not reached
        raise OSError
    assert not hangs.is_set() and circuits.state("x") == "opened"
    hangs.set()
    thread.join()


def test_an_error_of_the_caller_ends_a_try_too() -> None:
    circuits = Circuits(2, 0.05)
    half_open(circuits)
    with pytest.raises(KeyError), circuits.guarding("x", OSError):
        raise KeyError  # the database answered
    assert circuits.state("x") == "closed"


def test_a_call_is_tried_again_and_no_more_than_that() -> None:
    tried = list[int]()

    def fails() -> int:
        tried.append(1)
        if len(tried) < 3:
            raise OSError
        return 7

    assert retried(fails, OSError) == 7 and len(tried) == 3
    tried.clear()
    with pytest.raises(OSError):
        retried(fails, OSError, tries=2)
    with pytest.raises(KeyError):
        retried(lambda: {}["x"], OSError)


def test_an_address_in_the_clear_is_refused_and_its_password_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for url in ("redis://:hush@cache.example.org/0", "rediss://:hush@cache.example.org/0?ssl_cert_reqs=none", "127.0.0.1:6379"):
        with pytest.raises(ConfigError) as error:
            RedisLink(settings(tmp_path, url))
        assert "hush" not in str(error.value)
    RedisLink(settings(tmp_path, "redis://cache.example.org/0", allow_plain=True)).close()
    link = RedisLink(settings(tmp_path, "redis://ann:hush@127.0.0.1:1/0"))
    assert not link.up() and "hush" not in caplog.text and "127.0.0.1:1" in caplog.text
    link.close()
