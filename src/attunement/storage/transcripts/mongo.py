"""Sealed transcripts and documents of clients in MongoDB. Extra `mongodb`.

A document of MongoDB's is a row: `_id` is the row's id; words as ciphertext. Values stand in queries as values alone, below
`$eq`, and are text, numbers or bytes of ours. Those without a client carry `expires` for MongoDB's own TTL index; a client's do
not, since that index knows nothing of legal holds: they go by the retention.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from attunement.config import Settings
from attunement.errors import ConfigError, MissingExtraError, StoreDownError
from attunement.storage.addresses import checked, told
from attunement.storage.circuits import Circuits, retried
from attunement.storage.transcripts.bodies import Bodies, NoBodies, RefusedError
from attunement.storage.transcripts.records import TRANSCRIPT, WORDS, Row

T = TypeVar("T")
DATABASE, COLLECTION = "attunement", "transcripts"
DUPLICATE, FETCHED = 11000, 200
REFUSED = {2, 121, 10334, 17280, 17419, 17420}
"""Bad value, against a validation rule, too large (of the document, or of a key of an index)."""
PLAIN = ("kind", "client", "session", "created", "number", "model", "request")


class MongoBodies(Bodies):
    """In the database that `stores.mongodb` names (`attunement` where it names none), acknowledged by a majority's journals."""

    def __init__(self, settings: Settings, circuits: Circuits | None = None) -> None:
        stores = settings.stores
        url = checked("stores.mongodb", stores.mongodb, ("mongodb", "mongodb+srv"), allow_plain=stores.allow_plain)
        try:
            import pymongo
            from pymongo.errors import ConfigurationError, PyMongoError
        except ModuleNotFoundError as error:
            raise MissingExtraError("stores.mongodb", "mongodb") from error
        self._days, self._name, self._pymongo, self._error = stores.anonymous_days, told(url), pymongo, PyMongoError
        self._circuits = circuits or Circuits(stores.circuit_failures, stores.circuit_seconds, longest=stores.timeout_seconds)
        self._ready, self._lock = False, threading.Lock()
        try:
            self._client: Any = pymongo.MongoClient(
                url,
                maxPoolSize=2 * stores.pool_size,
                timeoutMS=int(stores.timeout_seconds * 1000),
                connectTimeoutMS=int(stores.connect_seconds * 1000),
                serverSelectionTimeoutMS=int(stores.connect_seconds * 1000),
                w="majority",
                journal=True,
                appname="attunement",
            )
        except (ConfigurationError, ValueError) as error:  # what it says may hold parts of the address
            raise ConfigError(f"stores.mongodb cannot be used ({type(error).__name__}): see the form of its address") from None
        self._rows: Any = self._client.get_default_database(DATABASE)[COLLECTION]

    def put(self, rows: Sequence[Row]) -> None:
        from pymongo.errors import BulkWriteError, DocumentTooLarge

        def write() -> None:
            if not self._ready:
                self._make_ready()
            update = self._pymongo.UpdateOne
            changes = [update({"_id": {"$eq": d["_id"]}}, {"$setOnInsert": _without_id(d)}, upsert=True) for d in documents]
            try:
                self._rows.bulk_write(changes, ordered=True)
            except DocumentTooLarge as error:
                raise RefusedError(f"MongoDB refuses a row ({type(error).__name__})") from None
            except BulkWriteError as error:
                codes = {fault.get("code") for fault in error.details.get("writeErrors", [])}
                if refused := codes & REFUSED:
                    raise RefusedError(f"MongoDB refuses a row (code {min(refused)})") from None
                if codes != {DUPLICATE} or error.details.get("writeConcernErrors"):
                    raise
                self._rows.bulk_write(changes, ordered=True)  # another replica was first with one: the rest follows

        documents = [self._document(row) for row in rows]
        if documents:
            self._call(write)

    def get(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        out: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(ids), FETCHED):  # each within the time-out
            wanted = {"_id": {"$in": [str(one) for one in ids[start : start + FETCHED]]}}
            found = self._call(lambda wanted=wanted: list(self._rows.find(wanted, dict.fromkeys(WORDS, 1))))  # type: ignore[misc]
            out |= {row["_id"]: {name: _bytes(row.get(name)) for name in WORDS} for row in found}
        return out

    def remove(self, ids: Sequence[str]) -> None:
        self._call(lambda: self._rows.delete_many({"_id": {"$in": [str(one) for one in ids]}}))

    def erase(self, client: str, before: str, kind: str = TRANSCRIPT) -> int:
        kinds = [str(kind), None] if kind == TRANSCRIPT else [str(kind)]  # rows of before there were documents say none
        which = {"client": {"$eq": str(client)}, "created": {"$lt": str(before)}, "kind": {"$in": kinds}}
        return int(self._call(lambda: self._rows.delete_many(which)).deleted_count)

    def state(self) -> str:
        try:
            self._call(lambda: self._client.admin.command("ping"), tries=1)
        except StoreDownError:
            return "down"
        return "up"

    def close(self) -> None:
        self._client.close()

    def _make_ready(self) -> None:
        with self._lock:
            self._rows.create_index("expires", expireAfterSeconds=0)
            self._rows.create_index([("client", 1), ("created", 1)])
            self._ready = True

    def _call(self, call: Callable[[], T], tries: int = 3) -> T:
        """Tried again on a lost connection, counted by the circuit. Raises `StoreDownError`, without what was asked."""
        from pymongo.errors import ConnectionFailure

        def guarded() -> T:
            with self._circuits.guarding("mongodb", self._error):
                return call()

        try:
            return retried(guarded, ConnectionFailure, tries=tries)
        except self._error as error:
            code = getattr(error, "code", None)
            what = type(error).__name__ + (f" {code}" if code else "")
            raise StoreDownError(f"MongoDB at {self._name} does not answer ({what})") from None

    def _document(self, row: Row) -> dict[str, Any]:
        out: dict[str, Any] = {"_id": row["id"], **{name: row[name] for name in PLAIN}}
        out |= {name: row[name] for name in WORDS if row[name] is not None}
        for name, value in out.items():
            assert isinstance(value, str | int | bytes), f"{name} is no plain value"
        if not row["client"]:
            out["expires"] = datetime.fromisoformat(row["created"]) + timedelta(days=self._days)
        return out


@contextmanager
def opened_bodies(settings: Settings, circuits: Circuits | None = None) -> Iterator[Bodies]:
    """Where the words lie by the settings, while the block runs."""
    bodies: Bodies = MongoBodies(settings, circuits) if settings.stores.mongodb else NoBodies()
    try:
        yield bodies
    finally:
        bodies.close()


def _without_id(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "_id"}


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
