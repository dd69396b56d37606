"""Where the words of transcripts and the contents of documents lie: the seam. The rows of the SQL store say which there are; a place gives their words back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from attunement.errors import ConfigError, DataError, IntegrityError
from attunement.storage.transcripts.records import TRANSCRIPT, WORDS, Row


class RefusedError(DataError):
    """A place refuses a row for what it is, and would again: too large, or against a rule that somebody set there."""


class Bodies(ABC):
    """A place for sealed transcripts and documents outside of the SQL store. Raises `StoreDownError` while it does not answer."""

    @abstractmethod
    def put(self, rows: Sequence[Row]) -> None:
        """Keeps rows in their order, each once however often it is given; returns when they are safe.

        Raises `RefusedError` where one of them will never be taken.
        """

    @abstractmethod
    def get(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Id to the columns of `WORDS`, sealed, of those that there are."""

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> None:
        """Deletes rows by their ids."""

    @abstractmethod
    def erase(self, client: str, before: str, kind: str = TRANSCRIPT) -> int:
        """Deletes what there is of a kind of a client ("" for those without one) from before a stamp; how many."""

    @abstractmethod
    def state(self) -> str:
        """`up`, `down`, or `embedded`; asks."""

    @abstractmethod
    def close(self) -> None: ...

    def filled(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with their words. Those without a client may be gone already, past their days; a client's may not."""
        elsewhere = [row["id"] for row in rows if row["place"] == "mongodb"]
        found = self.get(elsewhere) if elsewhere else {}
        out = []
        for row in rows:
            if row["place"] != "mongodb":
                out.append(row)
            elif row["id"] in found:
                out.append({**row, **{name: found[row["id"]][name] for name in WORDS}})
            elif row["client"]:
                raise IntegrityError(f"the {row['kind']} {row['id']} is not in MongoDB any more: restore its backup")
        return out


class NoBodies(Bodies):
    """No place outside: all words lie in the SQL store."""

    def put(self, rows: Sequence[Row]) -> None:
        raise ConfigError("there is no place for transcripts but the SQL store: set stores.mongodb")

    def get(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        raise ConfigError("the words of these transcripts lie in MongoDB: set stores.mongodb")

    def remove(self, ids: Sequence[str]) -> None: ...

    def erase(self, client: str, before: str, kind: str = TRANSCRIPT) -> int:
        return 0

    def state(self) -> str:
        return "embedded"

    def close(self) -> None: ...
