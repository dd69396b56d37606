"""Questions about concepts with answers that stand on them: the knowledge share of a training set.

Seven forms (`written/knowledge_questions.toml`): definition, the same in one sentence, contrast, steps, next step,
evidence, and case vignette to concept. The one who asks is a trainee, never a client. An answer is put together from
sentences of the concept; a separate check (`untraced`) reads the finished answer and lets nothing through that is not
in the concepts it cites or among a few lead-in sentences. `attune data build` reads the written folder as a source.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import PsychologyKnowledgeExample
from attunement.sources import WRITTEN
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.written import contrast_of, names_of
from attunement.storage.files import content_hash, read_jsonl

FORMS = ("definition", "brief", "contrast", "steps", "next_step", "evidence", "vignette")
LEVEL_SENTENCES = {
    "recommended": "Recommended: {}.",
    "suggested": "To be considered: {}.",
    "emerging": "With first evidence: {}.",
    "consensus": "By expert consensus: {}.",
    "against": "Advised against: {}.",
}
UNCHECKED = "from memory of the literature"
_SENTENCE = re.compile(r"\n|(?<=[.?!])\s+(?=[A-Z0-9])")
_PROPER = re.compile(r"(?:Socratic|Tourette|Maudsley|Gottman|Gestalt|Pavlov)")


@dataclass(frozen=True)
class KnowledgeQuestion:
    """A question and its answer. `concept_ids`: what it cites, the subject first. `checked`: no row of evidence in it is from memory."""

    form: str
    question: str
    answer: str
    concept_ids: tuple[str, ...]
    checked: bool = True

    @property
    def example_id(self) -> str:
        return "k-" + content_hash([self.form, self.question, self.answer])[:16]


def psychology_example(concept: Concept) -> PsychologyKnowledgeExample:
    """The contract's record of a concept."""
    return PsychologyKnowledgeExample(
        concept.concept_id, concept.category, concept.content, concept.source,
        concept.related_concepts, concept.therapeutic_approaches, concept.clinical_context,
    )  # fmt: skip


class KnowledgeQuestions:
    """Makes questions about `concepts`. `wordings`: how many wordings of a question each form gets."""

    def __init__(self, concepts: Iterable[Concept], rng: random.Random, wordings: int = 2) -> None:
        self.concepts = {concept.concept_id: concept for concept in concepts}
        self._names = names_of(self.concepts.values())
        self._rng = rng
        self._wordings = wordings

    def __iter__(self) -> Iterator[KnowledgeQuestion]:
        for concept in self.concepts.values():
            yield from self._definitions(concept)
            yield from self._contrasts(concept)
            yield from self._steps(concept)
            yield from self._evidence(concept)
        yield from self._vignettes()

    def _asked(self, form: str, *names: str, most: int | None = None) -> list[str]:
        wordings = _written()["questions"][form]
        chosen = self._rng.sample(wordings, min(most or self._wordings, len(wordings)))
        return [_capital(wording.format(*names)) for wording in chosen]

    def _definitions(self, concept: Concept) -> Iterator[KnowledgeQuestion]:
        told = _told(concept)
        for question in self._asked("definition", inside(concept)):
            yield KnowledgeQuestion("definition", question, told, (concept.concept_id,))
        first = sentences(told)[0]
        if first != told:
            for question in self._asked("brief", inside(concept), most=1):
                yield KnowledgeQuestion("brief", question, first, (concept.concept_id,))

    def _contrasts(self, concept: Concept) -> Iterator[KnowledgeQuestion]:
        for contrast in concept.contrasts:
            label, told = contrast_of(contrast)
            other = self.concepts.get(self._names.get(label.casefold(), ""))
            if other is None:
                continue
            for question in self._asked("contrast", inside(concept), inside(other)):
                answer = f"{_frame('same')} {told}" if question.startswith("Is ") else told
                yield KnowledgeQuestion("contrast", question, answer, (concept.concept_id, other.concept_id))

    def _steps(self, concept: Concept) -> Iterator[KnowledgeQuestion]:
        if len(concept.steps) < 2:
            return
        listed = "\n".join(f"{number}. {step}." for number, step in enumerate(concept.steps, 1))
        for question in self._asked("steps", inside(concept)):
            answer = f"{sentences(_told(concept))[0]} {_frame('order')}\n{listed}"
            yield KnowledgeQuestion("steps", question, answer, (concept.concept_id,))
        place = self._rng.randrange(len(concept.steps))
        after = concept.steps[place + 1 : place + 2]
        answer = f"{_frame('next')} {after[0]}." if after else _frame("last")
        for question in self._asked("next_step", inside(concept), _small(concept.steps[place]), most=1):
            yield KnowledgeQuestion("next_step", question, answer, (concept.concept_id,))

    def _evidence(self, concept: Concept) -> Iterator[KnowledgeQuestion]:
        if not concept.evidence:
            return
        cited = [self._names.get(row["approach"].casefold(), "") for row in concept.evidence]
        ids = tuple(dict.fromkeys([concept.concept_id, *filter(None, cited)]))
        checked = all(row.get("checked") != UNCHECKED for row in concept.evidence)
        for question in self._asked("evidence", inside(concept)):
            yield KnowledgeQuestion("evidence", question, " ".join(evidence_sentences(concept)), ids, checked)

    def _vignettes(self) -> Iterator[KnowledgeQuestion]:
        for row in read_jsonl(WRITTEN / "knowledge_vignettes.jsonl"):
            concept = self.concepts.get(row["concept_id"])
            if concept is None:
                continue
            parts = sentences(_told(concept))
            if concept.category == "clinical_diagnosis":  # the trainee learns where to look, nobody is diagnosed
                parts = [_frame("points", inside(concept)), *parts, _frame("short")]
            else:
                parts = [_capital(_frame("fits", inside(concept))), *parts, *sentences(concept.clinical_context)]
            for question in self._asked("vignette"):
                yield KnowledgeQuestion("vignette", f"{row['vignette']} {question}", " ".join(parts), (concept.concept_id,))


def evidence_sentences(concept: Concept) -> list[str]:
    """One sentence a level, each approach with the guidelines or studies that carry it."""
    found = []
    for level, sentence in LEVEL_SENTENCES.items():
        by_approach: dict[str, list[str]] = {}
        for row in concept.evidence:
            if row["level"] == level:
                by_approach.setdefault(row["approach"], []).append(re.sub(r"[()]", "", row["guideline"]))
        if by_approach:
            found.append(sentence.format("; ".join(f"{a} ({', '.join(told)})" for a, told in by_approach.items())))
    return found


def untraced(question: KnowledgeQuestion, concepts: Mapping[str, Concept]) -> list[str]:
    """The sentences of an answer that stand neither in the concepts it cites nor among the lead-ins. Empty when it is grounded."""
    allowed = {plain for frame in _written()["frames"].values() for plain in [_plain(frame)]}
    for concept in (concepts[i] for i in question.concept_ids if i in concepts):
        told = [*sentences(_told(concept)), *sentences(concept.clinical_context), *concept.steps, *evidence_sentences(concept)]
        told += [sentence for contrast in concept.contrasts for sentence in sentences(contrast_of(contrast)[1])]
        told += [frame.format(inside(concept)) for frame in _written()["frames"].values()]
        allowed |= {_plain(text) for text in told}
    return [part for part in sentences(question.answer) if _plain(re.sub(r"^\d+\.\s*", "", part)) not in allowed]


def coherence(judges: Judges, questions: Sequence[KnowledgeQuestion]) -> list[float]:
    """How well each answer fits its question, 0-1, by the judge that scores all pairs of a training set."""
    return [verdict.score for verdict in judges.judge("coherence", [Item(q.answer, (q.question,)) for q in questions])]


def sentences(text: str) -> list[str]:
    parts = [part.strip() for part in _SENTENCE.split(text) if part.strip()]
    joined: list[str] = []
    for part in parts:  # the number of a step stays with its step
        if joined and re.fullmatch(r"\d+\.", joined[-1]):
            joined[-1] = f"{joined[-1]} {part}"
        else:
            joined.append(part)
    return joined


def inside(concept: Concept) -> str:
    """The label as it stands within a sentence: small, but for abbreviations and names."""
    label = concept.label
    if any(c.isupper() for c in label[1:]) or _PROPER.match(label):
        return label
    return _small(label)


def _small(text: str) -> str:
    return text[0].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _told(concept: Concept) -> str:
    """The definition as an answer: whole sentences that name what they are about."""
    content = concept.content.strip()
    named = content[:200].casefold()
    known = (concept.label, *concept.synonyms, " ".join(concept.label.split()[:3]))
    if not any(name.casefold() in named for name in known):
        content = f"{concept.label}: {content}"
    return content if content.endswith((".", "!", "?")) else content + "."


def _frame(name: str, *filled: str) -> str:
    return str(_written()["frames"][name]).format(*filled)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".").casefold()


@cache
def _written() -> dict[str, Any]:
    return tomllib.loads((WRITTEN / "knowledge_questions.toml").read_text(encoding="utf-8"))
