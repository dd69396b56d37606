"""The store of concepts in PostgreSQL: words by its text search, vectors by pgvector, both in one table. Extra `postgres`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.exc import ProgrammingError

from attunement.embedding import Vectors
from attunement.errors import DataError, MissingExtraError
from attunement.sources.knowledge.concepts import Concept, from_row, to_row
from attunement.sources.knowledge.store import FIELD_WEIGHTS, ConceptStore, Ranked, query_words
from attunement.storage.files import canonical
from attunement.storage.sql import Store

_TABLES = (
    'CREATE TABLE IF NOT EXISTS knowledge_concepts (id TEXT COLLATE "C" PRIMARY KEY, file TEXT NOT NULL, concept JSONB NOT NULL, '
    "vector vector NOT NULL, words tsvector NOT NULL)",
    "CREATE INDEX IF NOT EXISTS knowledge_concepts_file ON knowledge_concepts (file)",
    "CREATE INDEX IF NOT EXISTS knowledge_concepts_words ON knowledge_concepts USING gin (words)",
    'CREATE TABLE IF NOT EXISTS knowledge_files (file TEXT COLLATE "C" PRIMARY KEY, sha256 TEXT NOT NULL, facts JSONB NOT NULL)',
    "CREATE TABLE IF NOT EXISTS knowledge_state (one INTEGER PRIMARY KEY CHECK (one = 1), related TEXT NOT NULL)",
)
_INSERT = sa.text(
    "INSERT INTO knowledge_concepts VALUES (:id, :file, CAST(:concept AS JSONB), CAST(:vector AS vector), "
    "setweight(to_tsvector('english', :label), 'A') || setweight(to_tsvector('english', :synonyms), 'B') || "
    "setweight(to_tsvector('english', :content), 'D'))"
)


class PostgresConcepts(ConceptStore):
    """At a SQLAlchemy URL, `postgresql+psycopg://...`. Raises `DataError` where the server lacks pgvector or cannot be reached."""

    def __init__(self, url: str) -> None:
        try:
            self._store = Store(url)
        except ModuleNotFoundError as error:
            raise MissingExtraError("the knowledge store in PostgreSQL", "postgres") from error
        except DataError as error:  # the driver tells it in several lines
            raise DataError(" ".join(str(error).split())) from error
        try:
            with self._store.begin() as connection:
                connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
        except (DataError, ProgrammingError) as error:
            raise DataError(
                f"the store {self._store} needs the extension pgvector: let its owner run  CREATE EXTENSION vector"
            ) from error
        with self._store.begin() as connection:
            for statement in _TABLES:
                connection.exec_driver_sql(statement)

    def put(self, file: str, sha256: str, concepts: Sequence[Concept], vectors: Vectors, facts: Mapping[str, Any]) -> None:
        rows = [
            {
                "id": concept.concept_id,
                "file": file,
                "concept": canonical(to_row(concept)),
                "vector": _written(vector),
                "label": concept.label,
                "synonyms": " | ".join(concept.synonyms),
                "content": concept.content,
            }
            for concept, vector in zip(concepts, vectors, strict=True)
        ]
        with self._store.begin() as connection:
            ids = [concept.concept_id for concept in concepts]
            delete = sa.text("DELETE FROM knowledge_concepts WHERE file = :file OR id = ANY(:ids)")
            connection.execute(delete, {"file": file, "ids": ids})
            if rows:
                connection.execute(_INSERT, rows)
            connection.execute(
                sa.text(
                    "INSERT INTO knowledge_files VALUES (:file, :sha256, CAST(:facts AS JSONB)) "
                    "ON CONFLICT (file) DO UPDATE SET sha256 = excluded.sha256, facts = excluded.facts"
                ),
                {"file": file, "sha256": sha256, "facts": canonical(dict(facts))},
            )

    def files(self) -> dict[str, dict[str, Any]]:
        rows = self._rows("SELECT file, sha256, CAST(facts AS TEXT) FROM knowledge_files ORDER BY file")
        return {row[0]: {"sha256": row[1], "facts": json.loads(row[2])} for row in rows}

    def relate(self, related: Mapping[str, Sequence[str]], state: str) -> None:
        update = sa.text(
            "UPDATE knowledge_concepts SET concept = jsonb_set(concept, '{related_concepts}', CAST(:others AS JSONB)) WHERE id = :id"
        )
        rows = [{"id": concept_id, "others": canonical(list(others))} for concept_id, others in related.items()]
        with self._store.begin() as connection:
            if rows:
                connection.execute(update, rows)
            keep = sa.text(
                "INSERT INTO knowledge_state VALUES (1, :state) ON CONFLICT (one) DO UPDATE SET related = excluded.related"
            )
            connection.execute(keep, {"state": state})

    def related_state(self) -> str:
        rows = self._rows("SELECT related FROM knowledge_state")
        return str(rows[0][0]) if rows else ""

    def get(self, concept_ids: Iterable[str]) -> list[Concept]:
        wanted = list(concept_ids)
        found = self._rows("SELECT id, CAST(concept AS TEXT) FROM knowledge_concepts WHERE id = ANY(:ids)", ids=wanted)
        rows = {row[0]: row[1] for row in found}
        return [from_row(json.loads(rows[concept_id])) for concept_id in wanted if concept_id in rows]

    def all(self) -> list[Concept]:
        rows = self._rows("SELECT CAST(concept AS TEXT) FROM knowledge_concepts ORDER BY id")
        return [from_row(json.loads(row[0])) for row in rows]

    def vectors(self) -> tuple[list[str], Vectors]:
        rows = self._rows("SELECT id, CAST(vector AS TEXT) FROM knowledge_concepts ORDER BY id")
        parts = [np.array(json.loads(row[1]), dtype=np.float32) for row in rows]
        return [row[0] for row in rows], np.stack(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    def by_words(self, text: str, limit: int, weights: tuple[float, float, float] = FIELD_WEIGHTS) -> Ranked:
        words = " or ".join(f'"{word}"' for word in query_words(text))
        most = max(weights)
        name, synonyms, content = (weight / most for weight in weights)
        rows = self._rows(
            "SELECT id, ts_rank(CAST(:weights AS float4[]), words, query, 1) AS score FROM knowledge_concepts, "
            "websearch_to_tsquery('english', :words) AS query WHERE words @@ query ORDER BY score DESC, id LIMIT :limit",
            weights=[content, content, synonyms, name],  # D, C, B, A
            words=words,
            limit=limit,
        )
        return [(row[0], float(row[1])) for row in rows]

    def by_vector(self, vector: NDArray[np.float32], limit: int) -> Ranked:
        rows = self._rows(
            "SELECT id, 1 - (vector <=> CAST(:vector AS vector)) AS score FROM knowledge_concepts ORDER BY score DESC, id LIMIT :limit",
            vector=_written(vector),
            limit=limit,
        )
        return [(row[0], float(row[1])) for row in rows]

    def close(self) -> None:
        self._store.close()

    def _rows(self, query: str, **values: Any) -> Sequence[Any]:
        with self._store.begin() as connection:
            return connection.execute(sa.text(query), values).all()


def _written(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(f"{value:.7g}" for value in vector.tolist()) + "]"
