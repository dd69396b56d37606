"""An import is idempotent, goes on after an interruption, replaces changed files and filters by topic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from few_concepts import WordVectors
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.embedding import Embedder
from attunement.errors import ModelError
from attunement.records import QAPair, Transcript
from attunement.sources.knowledge import topic
from attunement.sources.knowledge.hierarchy import Hierarchy
from attunement.sources.knowledge.importing.files import read
from attunement.sources.knowledge.integrator import WRITTEN, PsychologyKnowledgeIntegrator
from attunement.sources.knowledge.store import SqliteConcepts
from attunement.storage.files import read_jsonl

ROWS = {
    "one": {"concept_id": "x:grief", "label": "grief", "content": "Deep sorrow after the death of somebody who was loved.", "licence": "CC0-1.0"},
    "two": {"concept_id": "x:bolt", "label": "steel bolt", "content": "A metal pin with a screw thread that holds parts together.", "licence": "CC0-1.0"},
}  # fmt: skip


@pytest.fixture
def embedder() -> WordVectors:
    return WordVectors()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("attunement.sources.knowledge.integrator.WRITTEN", tmp_path / "none")
    for name, row in ROWS.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "in"


def integrator(folder: Path, embedder: Embedder, **more: object) -> PsychologyKnowledgeIntegrator:
    return PsychologyKnowledgeIntegrator(
        store=SqliteConcepts.at_home(folder.parent / "home"), embedder=embedder, filtered=False, **more
    )  # type: ignore[arg-type]


def test_import_is_idempotent_and_follows_changes(folder: Path, embedder: Embedder) -> None:
    ours = integrator(folder, embedder)
    assert len(ours.load_knowledge_base(folder)) == 2 and (ours.report.read, ours.report.unchanged) == (2, 0)
    assert len(ours.load_knowledge_base(folder)) == 2 and (ours.report.read, ours.report.unchanged) == (0, 2)
    (folder / "two.jsonl").write_text(json.dumps({**ROWS["two"], "concept_id": "x:nut"}) + "\n")
    assert [c.concept_id for c in ours.load_knowledge_base(folder)] == ["x:grief", "x:nut"]
    (folder / "knowledge.toml").write_text('name = "X"\nprefix = "x"\nlicence = "CC-BY-4.0"')
    assert {c.licence for c in ours.load_knowledge_base(folder)} == {"CC-BY-4.0"}, "a description that is new counts as a change"


def test_an_interrupted_import_goes_on(folder: Path, embedder: Embedder) -> None:
    def stop(done: int, total: int, path: Path) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        integrator(folder, embedder, progress=stop).load_knowledge_base(folder)
    again = integrator(folder, embedder)
    assert len(again.load_knowledge_base(folder)) == 2 and (again.report.read, again.report.unchanged) == (1, 1)
    assert again.store.related_state()


def test_one_bad_file_is_told_and_the_rest_goes_on(folder: Path, embedder: Embedder) -> None:
    (folder / "a.owl").write_text("<rdf")
    ours = integrator(folder, embedder)
    assert len(ours.load_knowledge_base(folder)) == 2
    assert len(ours.report.problems) == 1 and "a.owl" in ours.report.problems[0]
    (folder / "two.jsonl").write_bytes(b"\xff\xfe\x00 damaged")
    assert len(ours.load_knowledge_base(folder)) == 2, "what a file gave stays when it cannot be read any more"
    assert ours.report.failed == 2 and len(ours.report.problems) == 2, "and it is told again, each time"


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the packaged model and the shipped filter: what is off topic stays out."""
    monkeypatch.setenv("ATTUNE_HOME", str(folder.parent / "home"))
    run = CliRunner().invoke
    done = run(app, ["knowledge", "import", str(folder), "--json"])
    told = json.loads(done.stdout)
    assert (told["kept"], told["left_out"]) == (1, {"off_topic": 1}), done.output
    assert "files 0 read, 2 unchanged, 0 failed" in run(app, ["knowledge", "import", str(folder)]).stdout
    found = json.loads(run(app, ["knowledge", "search", "my mother died and I cannot stop crying", "--json"]).stdout)
    assert found[0]["concept_id"] == "x:grief" and found[0]["licence"] == "CC0-1.0"
    assert "grief" in run(app, ["knowledge", "search", "sorrow"]).stdout
    assert json.loads(run(app, ["knowledge", "stats", "--json"]).stdout)["licences"]["CC0-1.0"]["concepts"] == 1
    assert "CC0-1.0: search, redistribute, commercial, relicense" in run(app, ["knowledge", "stats"]).stdout
    assert "kept, nothing left out" in run(app, ["knowledge", "import", str(folder), "--no-filter"]).stdout


def test_labels_and_weights_go_together() -> None:
    rows = list(read_jsonl(topic.LABELS))
    assert len({row["concept_id"] for row in rows}) == len(rows) >= 600
    assert {key for row in rows for key in row} == {"concept_id", "on_topic", "stands_for"}, (
        "ids and labels only, no text of others"
    )
    judge = topic.TopicFilter.load()
    assert 0 < judge.threshold < 1 and len(judge.weight) == 3 * 384 + len(topic.SOURCES)


def test_a_fit_finds_what_divides() -> None:
    rng = np.random.default_rng(3)
    features = rng.standard_normal((200, 4))
    truth = (features[:, 0] > 0).astype(float)
    assert (((topic.out_of_fold(features, truth, 10.0, 3) > 0.5) == truth).mean()) > 0.9


def test_a_damaged_filter_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "topic.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ModelError, match="topic filter"):
        topic.TopicFilter.load(tmp_path / "topic.npz")


def test_what_stands_above_is_seen(embedder: Embedder) -> None:
    found = read(Path(__file__).parents[3] / "src" / "attunement" / "sources" / "written" / "none.obo")
    assert found.problems and topic.see([], Hierarchy({}), embedder).features().shape == (0, 3 * 384 + len(topic.SOURCES))


def test_our_own_concepts_are_whole() -> None:
    for path in sorted(WRITTEN.glob("*.jsonl")):
        found = read(path)
        assert found.problems == [] and not found.left_out, path.name
        assert {concept.licence for concept in found.concepts} == {"Apache-2.0"}


def test_the_base_enriches_examples_and_talks(folder: Path, embedder: Embedder) -> None:
    ours = integrator(folder, embedder)
    knowledge = ours.load_knowledge_base(folder)
    pair = QAPair("My father died, and the grief is sorrow that will not end.", "Tell me about him.", (), "general", 0.9, {})
    other = QAPair("I need a steel pin with a thread.", "In aisle four.", (), "general", 0.9, {})
    enriched = ours.enrich_training_data([pair, other], knowledge)
    assert [link["concept_id"] for link in enriched[0].metadata["concepts"]] == ["x:grief"] and enriched[0].answer == pair.answer
    assert enriched[1].metadata["concepts"] == []
    said = [
        "Grief is deep sorrow after the death of somebody who was loved.",
        "It comes in waves over months and years.",
        "Nobody can hurry it along, and nobody has to, for grief is what love becomes when there is no one left to hold.",
    ]
    found = ours.integrate_expert_transcripts([Transcript("talk", " ".join(said), "Grief", "A. Speaker", "own", "CC0-1.0")])
    assert found and all("x:grief" in example.metadata["about"] for example in found)
    assert all(part in " ".join(said) for example in found for part in [example.answer])
