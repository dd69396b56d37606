"""Psychology knowledge, from files to a searchable base (contract: `PsychologyKnowledgeIntegrator`).

An import goes file by file, each in one step: what a file gave before is replaced, an unchanged file costs a look at its hash,
and an interrupted import goes on with the next file. What cannot be read is told in one line, and the rest goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attunement import sources
from attunement.config import Settings, load_settings
from attunement.embedding import SHIPPED, Embedder
from attunement.records import QAPair, Transcript
from attunement.sources.knowledge import relations, topic
from attunement.sources.knowledge.base import KnowledgeBase, open_store
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.hierarchy import Hierarchy
from attunement.sources.knowledge.importing.files import beside, files_below, read
from attunement.sources.knowledge.linking import Example, Linker, enrich_training_data
from attunement.sources.knowledge.store import ConceptStore
from attunement.sources.knowledge.transcripts import integrate_expert_transcripts
from attunement.storage.files import content_hash, file_hash

WRITTEN = sources.WRITTEN / "knowledge"
"""Concepts of our own; they come with every import and pass no filter."""
READERS_VERSION = 1
"""Counted up when a reader gives something else for the same file: the next import reads it again."""
Progress = Callable[[int, int, Path], None]
"""Is told how many files are done, of how many, and which is next."""


@dataclass
class ImportReport:
    """What an import did, in files and concepts; of a file that `failed`, what it gave before stays. `problems` are sentences for the user; `left_out` counts entries by reason."""

    read: int = 0
    unchanged: int = 0
    failed: int = 0
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class PsychologyKnowledgeIntegrator:
    """Loads concepts into the store. `filtered=False` keeps what the topic filter would leave out. `report` tells of the last import."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: ConceptStore | None = None,
        embedder: Embedder | None = None,
        filtered: bool = True,
        progress: Progress | None = None,
    ) -> None:
        settings = settings or load_settings().settings
        self.store = store or open_store(settings)
        self.embedder = embedder or Embedder(settings.embedding)
        self.report = ImportReport()
        self._filter = topic.TopicFilter.load() if filtered else None
        shipped = self.embedder.settings.model == SHIPPED
        self._filters_embedder = self.embedder if shipped or not filtered else Embedder()  # its weights know no other vectors
        self._progress = progress or (lambda done, total, path: None)

    def load_knowledge_base(self, source_path: Path) -> KnowledgeBase:
        """Imports a file or every file below a folder, and our own concepts; the base over all that the store holds.

        Raises `DataError` when `source_path` holds nothing that a reader takes, or the store cannot be used.
        """
        self.report = ImportReport()
        own = sorted(WRITTEN.glob("*.jsonl"))
        files = [*own, *(file.resolve() for file in files_below(source_path))]
        there = self.store.files()
        for number, file in enumerate(files):
            self._progress(number, len(files), file)
            self._take(file, there.get(str(file), {}).get("sha256", ""), own=file in own)
        self._relate()
        self._progress(len(files), len(files), source_path)
        return KnowledgeBase(self.store, self.embedder)

    def enrich_training_data(self, examples: Sequence[Example], knowledge: KnowledgeBase) -> list[Example]:
        """The examples with the concepts that they speak of in their metadata (`linking.enrich_training_data`)."""
        return enrich_training_data(examples, Linker(list(knowledge), self.embedder))

    def integrate_expert_transcripts(self, transcripts: Iterable[Transcript]) -> list[QAPair]:
        """Lectures, cut by topic, as contextual questions that the speaker's own words answer, each with its concepts.

        Concepts are those of the store; see `transcripts.integrate_expert_transcripts`.
        """
        linker = Linker(list(KnowledgeBase(self.store, self.embedder)), self.embedder)
        return integrate_expert_transcripts(transcripts, linker, self.embedder)

    def _take(self, file: Path, before: str, own: bool) -> None:
        judge = None if own else self._filter
        fingerprint = self._fingerprint(file, judge)
        if fingerprint == before:
            self.report.unchanged += 1
            return
        found = read(file)
        if found.unreadable:
            self.report.failed += 1
            self.report.problems += found.problems
            return
        hierarchy = Hierarchy(found.hierarchy)
        concepts = list({concept.concept_id: concept for concept in found.concepts}.values())
        keep = self._on_topic(concepts, hierarchy, judge)
        kept = hierarchy.linked([concept for concept, stays in zip(concepts, keep, strict=True) if stays])
        left_out = found.left_out + Counter(off_topic=int((~keep).sum()))
        dropped = sorted(concept.concept_id for concept, stays in zip(concepts, keep, strict=True) if not stays)
        problems = [*found.problems, *(f"{file}: {told}" for told in hierarchy.cycles)]
        facts = {"left_out": dict(left_out), "off_topic": dropped, "problems": problems, "model": self.embedder.settings.model}
        vectors = self.embedder.encode([topic.passage(concept) for concept in kept])
        self.store.put(str(file), fingerprint, kept, vectors, facts)
        self.report.read += 1
        self.report.kept += len(kept)
        self.report.left_out += left_out
        self.report.problems += problems

    def _fingerprint(self, file: Path, judge: topic.TopicFilter | None) -> str:
        """Changes with everything that decides what the file gives."""
        filtered = content_hash(judge.to_bytes()) if judge else ""
        return content_hash([READERS_VERSION, self.embedder.settings.model, filtered, *map(file_hash, [file, *beside(file)])])

    def _on_topic(self, concepts: list[Concept], hierarchy: Hierarchy, judge: topic.TopicFilter | None) -> NDArray[np.bool_]:
        if judge is None or not concepts:
            return np.ones(len(concepts), dtype=bool)
        seen = topic.see(concepts, hierarchy, self._filters_embedder)
        return np.asarray(judge.probabilities(seen) >= judge.threshold)

    def _relate(self) -> None:
        """Relations over all that is stored, once it has changed since they were last made."""
        state = content_hash([relations.VERSION, *([name, row["sha256"]] for name, row in self.store.files().items())])
        if state != self.store.related_state():
            ids, vectors = self.store.vectors()
            self.store.relate(relations.relations(self.store.all(), ids, vectors), state)
