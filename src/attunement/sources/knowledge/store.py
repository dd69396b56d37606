"""Where concepts are kept and found: one seam, SQLite with FTS5 by default, PostgreSQL with pgvector by its URL.

A store keeps each concept with its vector and the file it came from, finds concepts by words (BM25 or its like) and by a
vector's nearest, and remembers which files it has, so that an import goes on where it was.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from attunement.embedding import Vectors
from attunement.sources.knowledge.concepts import Concept, from_row, to_row
from attunement.storage.files import canonical
from attunement.storage.sql import Store

Ranked = list[tuple[str, float]]
"""Concept ids with their scores, the best first."""
FIELD_WEIGHTS = (3.0, 3.0, 1.0)
"""BM25 weights of name, synonyms and definition: a query that names a concept wants that concept. They hardly matter
(nDCG@10 of BM25 differs by 0.005 from equal weights)."""
STOP_WORDS = frozenset(
    "a about after all am an and any are as at be because been before being but by can cannot could did do does doing don during each "
    "for from get gets getting had has have having he her here hers him his how i if in into is it its itself just like me more my "
    "myself no not of off on one or our out own she should so some someone something still such than that the their them then there "
    "these they thing things this those to too up very was we were what when where which while who whom why will with would you your".split()
)
_WORD = re.compile(r"[^\W_]+")


def query_words(text: str) -> list[str]:
    """The words of a query that say something, in lower case, each once; all words where none does."""
    words = list(dict.fromkeys(_WORD.findall(text.casefold().replace("'", " ").replace("’", " "))))
    return [word for word in words if word not in STOP_WORDS and len(word) > 1] or words


class ConceptStore(ABC):
    """The seam. Ids are unique: a concept that comes again takes the place of the one before it."""

    @abstractmethod
    def put(self, file: str, sha256: str, concepts: Sequence[Concept], vectors: Vectors, facts: Mapping[str, Any]) -> None:
        """Takes all of one file in one step: what it gave before goes. `facts` are kept with the file (JSON)."""

    @abstractmethod
    def files(self) -> dict[str, dict[str, Any]]:
        """Every file that was taken: its `sha256` and `facts`."""

    @abstractmethod
    def relate(self, related: Mapping[str, Sequence[str]], state: str) -> None:
        """Sets `related_concepts` of the concepts named, and the state of the files for which that holds."""

    @abstractmethod
    def related_state(self) -> str:
        """The state that `relate` was last told; empty before."""

    @abstractmethod
    def get(self, concept_ids: Iterable[str]) -> list[Concept]:
        """Those of the ids that are there, in the order asked."""

    @abstractmethod
    def all(self) -> list[Concept]:
        """Every concept, by id."""

    @abstractmethod
    def vectors(self) -> tuple[list[str], Vectors]:
        """Ids and their vectors `[n, d]`, by id."""

    @abstractmethod
    def by_words(self, text: str, limit: int, weights: tuple[float, float, float] = FIELD_WEIGHTS) -> Ranked:
        """Concepts that hold words of `text`; `weights` count name, synonyms and definition."""

    @abstractmethod
    def by_vector(self, vector: NDArray[np.float32], limit: int) -> Ranked:
        """The nearest by cosine, exactly."""

    @abstractmethod
    def close(self) -> None: ...


class SqliteConcepts(ConceptStore):
    """In the home's SQLite file. Vectors are held in memory once asked for: 10,000 are 15 MB and a search takes 1 ms."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: tuple[list[str], Vectors] | None = None
        with self._writing() as connection:
            for statement in _SQLITE_TABLES:
                connection.exec_driver_sql(statement)

    @classmethod
    def at_home(cls, home: Path) -> SqliteConcepts:
        return cls(Store.at_home(home))

    def put(self, file: str, sha256: str, concepts: Sequence[Concept], vectors: Vectors, facts: Mapping[str, Any]) -> None:
        assert len(concepts) == len(vectors), "a vector a concept"
        with self._writing() as connection:
            old = [row[0] for row in connection.exec_driver_sql("SELECT id FROM knowledge_concepts WHERE file = ?", (file,))]
            for concept_id in {*old, *(concept.concept_id for concept in concepts)}:
                connection.exec_driver_sql("DELETE FROM knowledge_concepts WHERE id = ?", (concept_id,))
                connection.exec_driver_sql("DELETE FROM knowledge_words WHERE id = ?", (concept_id,))
            for concept, vector in zip(concepts, vectors, strict=True):
                row = (concept.concept_id, file, canonical(to_row(concept)), vector.astype("<f4").tobytes())
                connection.exec_driver_sql("INSERT INTO knowledge_concepts VALUES (?, ?, ?, ?)", row)
                words = (concept.concept_id, concept.label, " | ".join(concept.synonyms), concept.content)
                connection.exec_driver_sql("INSERT INTO knowledge_words VALUES (?, ?, ?, ?)", words)
            told = (file, sha256, canonical(dict(facts)))
            connection.exec_driver_sql("INSERT OR REPLACE INTO knowledge_files VALUES (?, ?, ?)", told)

    def files(self) -> dict[str, dict[str, Any]]:
        with self._store.begin() as connection:
            rows = connection.exec_driver_sql("SELECT file, sha256, facts FROM knowledge_files ORDER BY file").all()
        return {row[0]: {"sha256": row[1], "facts": json.loads(row[2])} for row in rows}

    def relate(self, related: Mapping[str, Sequence[str]], state: str) -> None:
        with self._writing() as connection:
            for concept_id, others in related.items():
                connection.exec_driver_sql(
                    "UPDATE knowledge_concepts SET concept = json_set(concept, '$.related_concepts', json(?)) WHERE id = ?",
                    (canonical(list(others)), concept_id),
                )
            connection.exec_driver_sql("INSERT OR REPLACE INTO knowledge_state VALUES (1, ?)", (state,))

    def related_state(self) -> str:
        with self._store.begin() as connection:
            return str(connection.exec_driver_sql("SELECT related FROM knowledge_state").scalar() or "")

    def get(self, concept_ids: Iterable[str]) -> list[Concept]:
        wanted = list(concept_ids)
        query = f"SELECT id, concept FROM knowledge_concepts WHERE id IN ({','.join('?' * len(wanted))})"  # noqa: S608 - places only
        with self._store.begin() as connection:
            found = connection.exec_driver_sql(query, tuple(wanted)).all() if wanted else []
        rows = {row[0]: row[1] for row in found}
        return [from_row(json.loads(rows[concept_id])) for concept_id in wanted if concept_id in rows]

    def all(self) -> list[Concept]:
        with self._store.begin() as connection:
            rows = connection.exec_driver_sql("SELECT concept FROM knowledge_concepts ORDER BY id").all()
        return [from_row(json.loads(row[0])) for row in rows]

    def vectors(self) -> tuple[list[str], Vectors]:
        if self._held is None:
            with self._store.begin() as connection:
                rows = connection.exec_driver_sql("SELECT id, vector FROM knowledge_concepts ORDER BY id").all()
            parts = [np.frombuffer(row[1], dtype="<f4") for row in rows]
            self._held = [row[0] for row in rows], np.stack(parts) if parts else np.zeros((0, 0), dtype=np.float32)
        return self._held

    def by_words(self, text: str, limit: int, weights: tuple[float, float, float] = FIELD_WEIGHTS) -> Ranked:
        words = " OR ".join(f'"{word}"' for word in query_words(text))
        if not words:
            return []
        with self._store.begin() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, bm25(knowledge_words, 0, ?, ?, ?) AS score FROM knowledge_words WHERE knowledge_words MATCH ? "
                "ORDER BY score, id LIMIT ?",
                (*weights, words, limit),
            ).all()
        return [(row[0], -float(row[1])) for row in rows]

    def by_vector(self, vector: NDArray[np.float32], limit: int) -> Ranked:
        ids, matrix = self.vectors()
        if not ids:
            return []
        scores = matrix @ vector
        best = np.argsort(-scores, kind="stable")[:limit]
        return [(ids[i], float(scores[i])) for i in best]

    def close(self) -> None:
        self._store.close()

    def _writing(self) -> AbstractContextManager[sa.Connection]:
        self._held = None
        return self._store.begin()


_SQLITE_TABLES = (
    "CREATE TABLE IF NOT EXISTS knowledge_concepts (id TEXT PRIMARY KEY, file TEXT NOT NULL, concept TEXT NOT NULL, vector BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS knowledge_concepts_file ON knowledge_concepts (file)",
    "CREATE TABLE IF NOT EXISTS knowledge_files (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL, facts TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS knowledge_state (one INTEGER PRIMARY KEY CHECK (one = 1), related TEXT NOT NULL)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS knowledge_words USING fts5(id UNINDEXED, label, synonyms, content, "
    "tokenize = 'porter unicode61 remove_diacritics 2')",
)
