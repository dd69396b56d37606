"""Live figures to whoever watches, on whichever replica: Redis' publish and subscribe, or this process alone.

Nothing is kept: who is not there misses it, and a slow watcher misses the oldest. Figures and codes alone, never words.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from attunement.storage.files import canonical
from attunement.storage.shared.link import RedisLink

log = logging.getLogger("attunement.storage.shared")

MOST_WAITING = 256
CHANNEL = "attunement:live"
POLL_SECONDS, PAUSE_SECONDS = 0.2, 1.0
Message = dict[str, Any]


class LiveFeed:
    """Publishes to all watchers and lets one watch. `close` ends its thread."""

    def __init__(self, link: RedisLink | None = None) -> None:
        self._link = link
        self._watchers: set[queue.Queue[Message]] = set()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()

    def publish(self, message: Mapping[str, Any]) -> None:
        """To all who watch; in this process alone while Redis is down."""
        text = canonical(dict(message))
        reached = self._link is not None and self._link.call(lambda redis: redis.publish(CHANNEL, text), None) is not None
        if not (reached and self._listening.is_set()):  # else it comes back to our own watchers
            self._hand_out(dict(message))

    @contextmanager
    def watch(self) -> Iterator[queue.Queue[Message]]:
        """A queue that messages come into while the block runs."""
        own: queue.Queue[Message] = queue.Queue(MOST_WAITING)
        with self._lock:
            self._watchers.add(own)
            if self._link is not None and self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="live-feed", daemon=True)
                self._thread.start()
        if self._link is not None:
            self._listening.wait(POLL_SECONDS)
        try:
            yield own
        finally:
            with self._lock:
                self._watchers.discard(own)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _hand_out(self, message: Message) -> None:
        with self._lock:
            for own in self._watchers:
                while True:
                    try:
                        own.put_nowait(message)
                        break
                    except queue.Full:
                        with suppress(queue.Empty):
                            own.get_nowait()

    def _listen(self) -> None:
        """Subscribed until `close`, again and again when the line breaks."""
        assert self._link is not None
        import redis

        while not self._stop.is_set():
            line = self._link.redis.pubsub(ignore_subscribe_messages=False)
            try:
                line.subscribe(CHANNEL)
                while not self._stop.is_set():
                    found = line.get_message(timeout=POLL_SECONDS)
                    if found is not None and found["type"] == "subscribe":
                        self._listening.set()
                    elif found is not None and found["type"] == "message":
                        self._hand_out(json.loads(found["data"]))
            except (redis.RedisError, OSError, ValueError) as error:
                log.debug("live figures: %s", type(error).__name__)
                self._listening.clear()
                self._stop.wait(PAUSE_SECONDS)
            finally:
                line.close()
        self._listening.clear()
