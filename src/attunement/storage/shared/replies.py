"""Replies kept for the same prompt, for the deadline's sake: sealed with a data key, found by a keyed hash of all they depend on.

A conversation with risk never touches it: the caller says so, and gets nothing and leaves nothing. A client's replies are sealed
with the client's key and found by that client's prompts alone: to shred the key closes them here, too.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from attunement.errors import DataError
from attunement.security.fields import FieldCipher
from attunement.security.keys import SYSTEM
from attunement.storage.files import canonical
from attunement.storage.shared.link import RedisLink

MOST_IN_PROCESS = 2000
PLACE, COLUMN = "reply_cache", "reply"


class ReplyCache:
    """Replies of the last `seconds` (0: none), in Redis with a `link`, else in this process."""

    def __init__(self, cipher: FieldCipher, seconds: float, link: RedisLink | None = None) -> None:
        self._cipher, self._seconds, self._link = cipher, seconds, link
        self._own: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self,
        prompt: Sequence[Mapping[str, str]],
        model_version: str,
        settings: Mapping[str, Any],
        *,
        risk: bool,
        client: str = "",
    ) -> Any:
        """What was kept for this prompt (all turns with roles), model and generation settings; None for nothing, or at risk."""
        if risk or not self._seconds:
            return None
        key = self._key(prompt, model_version, settings, client)
        sealed = self._link.call(lambda redis: redis.get(self._name(key)), None) if self._link else None
        sealed = sealed or self._of_own(key)
        if sealed is None:
            return None
        try:
            return self._cipher.decrypt(sealed, table=PLACE, column=COLUMN, row=key, subject=client or SYSTEM)
        except DataError:  # damaged, or the key is gone: as if it were not there
            return None

    def put(
        self,
        prompt: Sequence[Mapping[str, str]],
        model_version: str,
        settings: Mapping[str, Any],
        reply: Any,
        *,
        risk: bool,
        client: str = "",
    ) -> None:
        """Keeps a reply (JSON). Raises `ShreddedError` for a deleted client."""
        if risk or not self._seconds:
            return
        key = self._key(prompt, model_version, settings, client)
        sealed = self._cipher.encrypt(reply, table=PLACE, column=COLUMN, row=key, subject=client or SYSTEM)
        if sealed is None:
            return
        kept_milliseconds = max(1, int(self._seconds * 1000))
        if self._link and self._link.call(lambda redis: redis.set(self._name(key), sealed, px=kept_milliseconds), None):
            return
        with self._lock:
            self._own[key] = (time.monotonic() + self._seconds, sealed)
            self._own.move_to_end(key)
            while len(self._own) > MOST_IN_PROCESS:
                self._own.popitem(last=False)

    def _of_own(self, key: str) -> bytes | None:
        with self._lock:
            until, sealed = self._own.get(key, (0.0, b""))
            if until > time.monotonic():
                return sealed
            self._own.pop(key, None)
        return None

    def _key(self, prompt: Sequence[Mapping[str, str]], model: str, settings: Mapping[str, Any], client: str) -> str:
        whole = canonical([[dict(turn) for turn in prompt], model, dict(settings)]).encode("utf-8", "surrogatepass")
        secret = hmac.new(self._cipher.ring.key_for(client or SYSTEM).secret, b"reply cache", hashlib.sha256).digest()
        return hmac.new(secret, whole, hashlib.sha256).hexdigest()[:48]

    @staticmethod
    def _name(key: str) -> str:
        return f"attunement:reply:{key}"
