"""Long talks of experts made into training examples: cut by topic, each part with questions and the concepts it speaks of.

The question is contextual: it names what the passage is about and, where the part has a wider topic, that too. The answer is
the speaker's own passage, whole sentences, nothing added. A part in which no concept is named gives a question about its most
telling phrase, or none where there is no such phrase.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attunement.embedding import Embedder
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import Conversation, QAPair, Transcript
from attunement.sources.knowledge.examples import inside
from attunement.sources.knowledge.linking import Link, Linker, enrich_training_data
from attunement.sources.knowledge.segmentation import Tiling, boundaries, units
from attunement.storage.files import content_hash

MOST_QUESTIONS = 3
"""Questions a part gives at most, one a concept."""
PASSAGE_WORDS = 150
"""A passage goes on to the first whole sentence past this."""
LEAST_WORDS = 25
_ALONE = (
    "What should I know about {0}?",
    "Can you tell me more about {0}?",
    "How do you think about {0}?",
    "How would you explain {0}?",
)
_WITHIN = (
    "You were speaking about {1}. How does {0} come into it?", "What has {0} to do with {1}?",
    "In what you say about {1}, where does {0} belong?",
)  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """A part of a talk on one topic: its sentences, and the place of the first among the talk's."""

    number: int
    start: int
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


def transcript_of(conversation: Conversation) -> Transcript:
    """A talk as the readers give it (subtitles, plain text), for `integrate_expert_transcripts`."""
    origin = conversation.origin
    text = "\n".join(turn.text for turn in conversation.turns)
    speaker = next((turn.speaker for turn in conversation.turns if turn.speaker), "")
    title = str(conversation.metadata.get("title", ""))
    return Transcript(conversation.conversation_id, text, title, speaker, origin.source, origin.licence)


def segments(transcript: Transcript, embedder: Embedder, tiling: Tiling | None = None) -> list[Segment]:
    """The parts of a talk, in order; together they hold all its sentences."""
    parts = units(transcript.text)
    if not parts:
        return []
    edges = [0, *boundaries(embedder.encode(parts), tiling), len(parts)]
    return [Segment(n, a, tuple(parts[a:b])) for n, (a, b) in enumerate(itertools.pairwise(edges))]


def integrate_expert_transcripts(
    transcripts: Iterable[Transcript], linker: Linker, embedder: Embedder | None = None, *, judges: Judges | None = None
) -> list[QAPair]:
    """Questions on the parts of talks, answered in the speaker's words, with linked concepts in `metadata["concepts"]`.

    With `judges`, `semantic_score` is the coherence of question and answer, and pairs below the judge's operating point are left
    out: a passage that only brushes a concept does not answer a question about it. Without, it is 0.0. `metadata` holds `id`,
    `question_type` (contextual), `transcript`, `segment`, `sentences` (first and last, of the talk), `about` (concept ids),
    `source`, `licence`, `speaker` and `title`.
    """
    embedder = embedder or Embedder()
    pairs = [pair for transcript in transcripts for pair in _pairs(transcript, linker, embedder)]
    if judges:
        verdicts = judges.judge("coherence", [Item(pair.answer, (pair.question,)) for pair in pairs])
        least = judges.operating_point("coherence")
        scored = zip(pairs, [verdict.score for verdict in verdicts], strict=True)
        pairs = [replace(pair, semantic_score=score) for pair, score in scored if score >= least]
    return enrich_training_data(pairs, linker)


def _pairs(transcript: Transcript, linker: Linker, embedder: Embedder) -> list[QAPair]:
    parts = segments(transcript, embedder)
    spread = Counter(word for part in parts for word in set(_words(part.text)))
    made = []
    for part, links in zip(parts, linker.links_of([part.text for part in parts]), strict=True):
        named = Counter(link.concept_id for link in links)
        topics = [concept_id for concept_id, _ in named.most_common(MOST_QUESTIONS)]
        passages: dict[tuple[int, int], str] = {}
        for concept_id in topics:
            place = _passage(part, [link for link in links if link.concept_id == concept_id])
            passages.setdefault(place, concept_id)  # two concepts in one passage: one question
        for place, concept_id in passages.items():
            wider = topics[0] if topics[0] != concept_id else ""
            names = [inside(linker.concepts[i]) for i in (concept_id, wider) if i]
            made.append(_pair(transcript, part, place, names, [i for i in (concept_id, wider) if i]))
        if not topics and (phrase := _telling_phrase(part, spread, len(parts))):
            made.append(_pair(transcript, part, _from(part, 0), [phrase], []))
    return [pair for pair in made if len(pair.answer.split()) >= LEAST_WORDS]


def _passage(part: Segment, links: Sequence[Link]) -> tuple[int, int]:
    """The sentences from the one that names a concept first, as far as a passage goes."""
    ends = list(itertools.accumulate(len(sentence) + 1 for sentence in part.sentences))
    first = next(n for n, end in enumerate(ends) if links[0].start < end)
    return _from(part, first)


def _from(part: Segment, first: int) -> tuple[int, int]:
    """A passage of enough words; near the end of a part it begins earlier, so that it is not cut short."""
    last, words = first, 0
    while last < len(part.sentences) and words < PASSAGE_WORDS:
        words += len(part.sentences[last].split())
        last += 1
    while first > 0 and words < PASSAGE_WORDS / 2:
        first -= 1
        words += len(part.sentences[first].split())
    return first, last


def _pair(transcript: Transcript, part: Segment, place: tuple[int, int], names: Sequence[str], about: Sequence[str]) -> QAPair:
    answer = " ".join(part.sentences[place[0] : place[1]])
    wordings = _WITHIN if len(names) > 1 else _ALONE
    question = wordings[int(content_hash(answer)[:8], 16) % len(wordings)].format(*names)
    question = question[0].upper() + question[1:]
    metadata = {
        "id": "t-" + content_hash([transcript.transcript_id, question, answer])[:16],
        "question_type": "contextual",
        "transcript": transcript.transcript_id,
        "segment": part.number,
        "sentences": [part.start + place[0], part.start + place[1] - 1],
        "about": list(about),
        "source": transcript.source,
        "licence": transcript.licence,
        "speaker": transcript.speaker,
        "title": transcript.title,
    }
    return QAPair(question, answer, (), "expert_transcript", 0.0, metadata)


def _telling_phrase(part: Segment, spread: Mapping[str, int], parts: int) -> str:
    """The longer word that a part uses at least three times and that stands out most against the other parts."""
    counts = Counter(_words(part.text))
    weights = {word: count * math.log((parts + 1) / spread[word]) for word, count in counts.items() if count > 2}
    return max(weights, key=lambda word: (weights[word], word), default="")


def _words(text: str) -> list[str]:
    return [
        word for word in (w.strip(".,;:!?\"'()\u201c\u201d").lower() for w in text.split()) if word.isalpha() and len(word) > 5
    ]
