"""The parts of a full build: edge cases, dual personas and questions about concepts, made where the given sources leave them short; and the
journeys of consented clients, where a file of them is given (`full.journeys`).

Each is a folder with a `source.toml`. What made it is kept beside it (`.parts.json`): a part that would come out the same is not made
again, an interrupted one is. The same settings give the same bytes; a provider's answers are kept and never paid twice.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attunement.config import Settings
from attunement.embedding import Embedder
from attunement.errors import DataError
from attunement.providers import Provider
from attunement.providers.opening import ANSWERS, OFFLINE, open_provider
from attunement.quality.panel import Judges
from attunement.records import to_dict
from attunement.security.recording import agreements_of, incidents_of
from attunement.sources import WRITTEN
from attunement.sources.edge_cases.generator import EdgeCaseGenerator
from attunement.sources.edge_cases.run import generate_folder
from attunement.sources.full_sizes import MADE, Size, sizes
from attunement.sources.journeys import conversations, read_journeys
from attunement.sources.journeys import write_share as write_share_of_journeys
from attunement.sources.knowledge.base import open_store
from attunement.sources.knowledge.concepts import Concept, to_row
from attunement.sources.knowledge.examples import KnowledgeQuestion, KnowledgeQuestions, coherence, untraced
from attunement.sources.knowledge.importing.files import files_below
from attunement.sources.knowledge.integrator import PsychologyKnowledgeIntegrator
from attunement.sources.knowledge.share import licence_class, licence_of, write_share
from attunement.sources.knowledge.store import SqliteConcepts
from attunement.sources.knowledge.written import written_concepts
from attunement.sources.personas import run as persona_run
from attunement.storage.files import content_hash, file_hash, read_json, write_json
from attunement.storage.sql import FILE

log = logging.getLogger("attunement.sources")
VERSION = 1
"""Counted up when the same settings would give other conversations."""
FACTS, STORE = ".parts.json", ".knowledge"
FOLDERS = {"edge_case": "edge-cases", "dual_persona": "personas", "knowledge": "knowledge", "standard": "journeys"}
OWN = "attunement"
"""The source of the concepts that were written for Attunement."""


class FullParts:
    """Makes the parts of a full build (`attunement.curation.parts.Parts`) by the settings `full` and `data`.

    Raises `ConfigError` or `DataError` at once for a provider or a knowledge folder that cannot be used, before anything is read.
    """

    def __init__(self, settings: Settings, judges: Judges | None = None) -> None:
        self.settings = settings
        self.judges = judges or Judges(Embedder(settings.embedding), settings.home.expanduser())
        self._provider(Path())
        if settings.full.journeys is not None:
            for _ in read_journeys(settings.full.journeys):
                pass
        if (path := settings.full.knowledge) is not None and not (path / FILE).is_file():
            next(files_below(path))

    def __call__(self, available: Mapping[str, int], folder: Path, tick: Callable[[], None] = lambda: None) -> None:
        """Makes what lacks below `folder`. Raises `DataError` or `ServiceError` where a part cannot be made; those before it stay."""
        concepts = self._concepts(folder)
        asked = self._questions(concepts)
        available = {**available, "standard": available.get("standard", 0) + self._journeys(folder)}
        wanted = sizes(available, self.settings, questions=len(asked))
        for share in MADE:
            place, size = folder / FOLDERS[share], wanted[share]
            key = self._key(share, size, concepts)
            if not _stands(folder, share, key):
                _empty(place)
                facts = self._make(share, size, place, asked, concepts, tick) if size.conversations else {"conversations": 0}
                _remember(folder, share, {"key": key, "files": _hashes(place), "facts": {**facts, "why": size.why}})

    def _journeys(self, folder: Path) -> int:
        """Makes the part of the consented clients' journeys; how many examples it gives. Without a file of them there is none."""
        share, path = "standard", self.settings.full.journeys
        place = folder / FOLDERS[share]
        if path is None:
            _empty(place)
            _forget(folder, share)
            return 0
        talks = list(conversations(path))
        key = content_hash([VERSION, [to_dict(talk.turns) for talk in talks]])
        if not _stands(folder, share, key):
            _empty(place)
            write_share_of_journeys(place, talks)
            facts = {"conversations": len(talks), "by": "journeys of consented clients", "why": "as given"}
            _remember(folder, share, {"key": key, "files": _hashes(place), "facts": facts})
        return sum(turn.role == "therapist" for talk in talks for turn in talk.turns)

    def _key(self, share: str, size: Size, concepts: Mapping[str, Concept]) -> str:
        """Changes with everything that decides what the part is."""
        full, data = self.settings.full, self.settings.data
        written = [[str(p.relative_to(WRITTEN)), file_hash(p)] for p in sorted(WRITTEN.rglob("*")) if p.is_file()]
        asked = [to_row(concept) for concept in concepts.values()] if share == "knowledge" else []
        by = "" if share == "knowledge" else [full.provider, self.settings.providers.model if full.provider != OFFLINE else ""]
        how = [data.seed, data.near_duplicate_threshold, sorted(data.licence_allow) if share == "knowledge" else []]
        return content_hash(
            [VERSION, share, size.conversations, by, how, written, content_hash(asked), self.judges.fingerprint()]
        )

    def _make(
        self,
        share: str,
        size: Size,
        place: Path,
        asked: Sequence[KnowledgeQuestion],
        concepts: Mapping[str, Concept],
        tick: Callable[[], None],
    ) -> dict[str, Any]:
        seed = self.settings.data.seed
        if share == "knowledge":
            chosen = half_and_half(asked, concepts, size.conversations)
            scores = coherence(self.judges, chosen)
            counts = write_share(place, chosen, concepts, scores=scores)
            return {
                "conversations": counts["written"],
                "by": "written definitions",
                "asked_about": len({q.concept_ids[0] for q in chosen}),
            }
        provider = self._provider(place)
        if share == "edge_case":
            generator = EdgeCaseGenerator(provider, self.settings, seed=seed, judges=self.judges, tick=tick)
            prompts = generator.generate_prompts(-(-size.conversations // len(generator.categories)))
            report = generate_folder(generator, prompts, place, most=size.conversations)
            return {"conversations": report["conversations"], "by": report["generated_by"], "rejected": report["rejected"]}
        told = persona_run.run(
            self.settings, place, provider=provider, count=size.conversations, seed=seed, told=tick, judges=self.judges
        )
        return {"conversations": told["kept"], "by": told["provider"], "rejected": told["rejected_by_reason"]}

    def _provider(self, place: Path) -> Provider | None:
        full = self.settings.full
        if full.provider == OFFLINE:
            return None
        return open_provider(
            full.provider, self.settings.providers, place / ANSWERS, budget_usd=full.budget_usd,
            in_force=agreements_of(self.settings), blocked=incidents_of(self.settings),
        )  # fmt: skip

    # --- knowledge ------------------------------------------------------------------------------------

    def _concepts(self, folder: Path) -> dict[str, Concept]:
        """What is asked about: the concepts at `full.knowledge`, else those in the configured store, else our own alone."""
        path = self.settings.full.knowledge
        if path is None:
            found = self._stored()
        elif (path / FILE).is_file():
            found = SqliteConcepts.at_home(path).all()
        else:
            integrator = PsychologyKnowledgeIntegrator(
                self.settings, store=SqliteConcepts.at_home(folder / STORE), embedder=self.judges.embedder
            )
            found = list(integrator.load_knowledge_base(path))
            for problem in integrator.report.problems:
                log.warning("%s", problem)
            if not any(concept.source != OWN for concept in found):
                problems = "; ".join(integrator.report.problems[:1]) or "nothing in it is on topic"
                raise DataError(f"{path} (full.knowledge) gives no concepts: {problems}")
        allowed = self.settings.data.licence_allow
        return {c.concept_id: c for c in found or written_concepts() if not allowed or licence_class(c.licence) in allowed}

    def _stored(self) -> list[Concept]:
        """The imported concepts. A home without a store is not given one."""
        if not self.settings.knowledge.store and not (self.settings.home.expanduser() / FILE).is_file():
            return []
        return open_store(self.settings).all()

    def _questions(self, concepts: Mapping[str, Concept]) -> list[KnowledgeQuestion]:
        """Every question that may be asked, one wording a form: a second one would be a near-duplicate."""
        made = KnowledgeQuestions(concepts.values(), random.Random(self.settings.data.seed), wordings=1)
        allowed = self.settings.data.licence_allow
        found = {q.example_id: q for q in made if q.checked and not untraced(q, concepts)}
        return [q for q in found.values() if not allowed or licence_class(licence_of(q, concepts)) in allowed]


def half_and_half(questions: Sequence[KnowledgeQuestion], concepts: Mapping[str, Concept], count: int) -> list[KnowledgeQuestion]:
    """`count` of the questions by their hashes: as many about our own concepts as about imported ones, as far as there are."""
    order = sorted(questions, key=lambda q: q.example_id)
    own = [q for q in order if concepts[q.concept_ids[0]].source == OWN]
    others = [q for q in order if concepts[q.concept_ids[0]].source != OWN]
    ours = max(count - len(others), min(len(own), count // 2))
    return sorted([*own[:ours], *others[: count - ours]], key=lambda q: q.example_id)


def _stands(folder: Path, share: str, key: str) -> bool:
    """Whether the part is there, made by the same and not changed since."""
    row = _known(folder).get(share)
    return row is not None and row["key"] == key and row["files"] == _hashes(folder / FOLDERS[share])


def _known(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(folder / FACTS) if (folder / FACTS).is_file() else {}
    return found


def _remember(folder: Path, share: str, row: Mapping[str, Any]) -> None:
    write_json(folder / FACTS, {**_known(folder), share: row})


def _forget(folder: Path, share: str) -> None:
    known = _known(folder)
    if known.pop(share, None) is not None:
        write_json(folder / FACTS, known)


def _hashes(place: Path) -> dict[str, str]:
    """Of the files of a part that a build can see."""
    files = [
        p for p in sorted(place.rglob("*")) if p.is_file() and not any(n.startswith(".") for n in p.relative_to(place).parts)
    ]
    return {p.relative_to(place).as_posix(): file_hash(p) for p in files}


def _empty(place: Path) -> None:
    """Takes away a part that was made by other settings; what a provider was paid for stays."""
    for path in place.iterdir() if place.is_dir() else ():
        if path.name != ANSWERS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
