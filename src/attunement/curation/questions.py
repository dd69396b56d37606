"""Question-answer pairs from a conversation: half extracted from the talk, half contextual.

*Extracted*: the question stands in the talk word for word. It is the explicit question in the client's turn (the
turn it stands in becomes its context), or the turn itself where it asks nothing explicitly.
*Contextual*: the question is made from context so that it stands on its own: the turn together with the earlier
words of the client that the answer takes up, or, where nothing was asked, with the question that the answer answers.
Talks of one speaker give passages: a rhetorical question with the passage after it (extracted), or a question about
what the passage is about (contextual).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from attunement.config import DataSettings
from attunement.quality.wording import fold
from attunement.records import Conversation, Turn
from attunement.storage.files import content_hash

EXTRACTED, CONTEXTUAL = "extracted", "contextual"
PASSAGE_WORDS = 60
"""A passage of a talk holds whole sentences and ends with the first one past this; the last one may be half of it."""

_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+[\"')\u201d\u2019]*|\n|$)")
_STOP = frozenset(
    "a about after again all also am an and any are as at be because been before being but by can could did do does doing don dont "
    "down even every for from get go going got had has have having he her here him his how i if im in into is it its itself ive just "
    "know let like lot made make many maybe me more most much my need no not now of off often on one only or other our out over own "
    "people really right s said same say see she should so some something sometimes still such t take tell than that thats the their "
    "them then there these they theyre thing things think this those through time to too up us use used very want was way we well "
    "were what when where which while who why will with without would yeah yes yet you your youre".split()
)
_ASKS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (
        re.compile(
            r"\b(breath\w*|exercis\w*|practi[cs]e\w*|techniqu\w*|try|tool\w*|routine\w*|step|write down|journal\w*|habit\w*)\b",
            re.I,
        ),
        ("What could I try?", "What can I do about it?", "Where would I start?"),
    ),
    (
        re.compile(r"\b(talk to|tell (?:him|her|them)|conversation|communicat\w*|boundar\w*|listen to each other)\b", re.I),
        ("How do I bring this up?", "What should I say?", "How can I talk about it with them?"),
    ),
    (
        re.compile(r"\b(because|cause\w*|reason\w*|brain|body|respon[sd]\w*|trigger\w*|pattern\w*)\b", re.I),
        ("Why does this happen?", "Why do I feel this way?", "Where does this come from?"),
    ),
    (
        re.compile(r"\b(sorry|understandable|normal|natural|makes sense|sounds|must be|can imagine|hear you)\b", re.I),
        ("Does that make sense?", "Is it normal to feel like this?", "Can you understand that?"),
    ),
    (
        re.compile(r"\b(therap\w*|counsel\w*|doctor\w*|professional\w*|medication\w*|support group\w*)\b", re.I),
        ("Should I look for help?", "Who can help me with this?"),
    ),
)
_OPEN_ASKS = ("What do you make of that?", "Can you help me with this?", "What do you think?")
_TOPIC_ASKS = (
    "Can you tell me about {}?",
    "What should I know about {}?",
    "How should I think about {}?",
    "What do you say about {}?",
)


@dataclass(frozen=True)
class Candidate:
    """A pair before it is judged. `context` is (role, text), oldest first; `turn` the answer's place in the talk."""

    pair_id: str
    conversation_id: str
    turn: int
    question: str
    answer: str
    context: tuple[tuple[str, str], ...]
    question_type: str


@dataclass(frozen=True)
class _Raw:
    turn: int
    asked: str
    answer: str
    before: tuple[tuple[str, str], ...]


def sentences(text: str) -> list[str]:
    """`text` cut at sentence ends and line breaks; nothing but outer spaces is lost."""
    return [s.strip() for s in _SENTENCE.findall(text) if s.strip()]


def make_pairs(conversations: Iterable[Conversation], settings: DataSettings) -> Iterator[Candidate]:
    """All pairs of the conversations.

    Which are contextual is decided within each conversation, so that the wanted share is met: the ones that need context
    most (nothing asked, short, much said before) come first. No other conversation has a say in it, so that taking one
    out (consent withdrawn) changes no example of another.
    """
    for conversation in conversations:
        yield from _pairs_of(conversation, settings)


def _pairs_of(conversation: Conversation, settings: DataSettings) -> Iterator[Candidate]:
    dialogue = any(turn.role == "therapist" for turn in conversation.turns)
    raws = list(_exchanges(conversation.turns, settings) if dialogue else _passages(conversation.turns))
    found = [(_from_exchange if dialogue else _from_passage)(raw, conversation.conversation_id) for raw in raws]
    forced = sum(1 for extracted, contextual in found if extracted is None and contextual is not None)
    # The part of a pair that the share leaves over is one by the conversation's hash: over many it comes to the share.
    left_over = int(content_hash([conversation.conversation_id])[:8], 16) / 16**8
    wanted = int(len(found) * settings.contextual_share + left_over)
    free = sorted((i for i, pair in enumerate(found) if None not in pair), key=lambda i: (-_need(raws[i]), i))
    chosen = set(free[: max(0, wanted - forced)])
    for i, (extracted, contextual) in enumerate(found):
        candidate = contextual if (i in chosen or extracted is None) else extracted
        if candidate is not None:
            yield replace(candidate, pair_id=_pair_id(candidate))


def _pair_id(candidate: Candidate) -> str:
    return "x-" + content_hash([candidate.conversation_id, candidate.turn, candidate.question, candidate.answer])[:16]


def _need(raw: _Raw) -> float:
    words = len(raw.asked.split())
    return ("?" not in raw.asked) + (words < 12) * bool(raw.before) + 0.1 * min(len(raw.before), 5)


def _exchanges(turns: Sequence[Turn], settings: DataSettings) -> Iterator[_Raw]:
    """Each therapist turn that follows a client turn. The context starts with the client, as chat templates ask."""
    spoken = [(i, t) for i, t in enumerate(turns) if t.role in ("client", "therapist") and t.text.strip()]
    for place in range(1, len(spoken)):
        number, answer = spoken[place]
        asked = spoken[place - 1][1]
        if answer.role != "therapist" or asked.role != "client":
            continue
        history = [(t.role, t.text) for _, t in spoken[max(0, place - 1 - settings.max_context_turns) : place - 1]]
        while history and history[0][0] != "client":
            history.pop(0)
        yield _Raw(number, asked.text, answer.text, tuple(history))


def _from_exchange(raw: _Raw, conversation_id: str) -> tuple[Candidate | None, Candidate | None]:
    parts = sentences(raw.asked)
    questions = [s for s in parts if s.rstrip("\"')\u201d\u2019").endswith("?")]
    rest = [s for s in parts if s not in questions]
    if questions and rest:
        extracted = _candidate(raw, conversation_id, " ".join(questions), EXTRACTED, (*raw.before, ("client", raw.asked)))
        return extracted, _contextual(raw, conversation_id, _stand_alone(raw))
    extracted = _candidate(raw, conversation_id, raw.asked, EXTRACTED)
    question = _stand_alone(raw)
    if question == raw.asked and questions:
        return extracted, None  # a bare question with nothing before it: there is no context to make one from
    if question == raw.asked:
        question = f"{raw.asked.rstrip()} {_fitting_ask(raw)}"
    return extracted, _contextual(raw, conversation_id, question)


def _contextual(raw: _Raw, conversation_id: str, question: str) -> Candidate:
    # What leads the question in comes from the turns before: with them as context it would be said twice.
    return _candidate(raw, conversation_id, question, CONTEXTUAL, None if question.startswith(raw.asked) else ())


def _stand_alone(raw: _Raw) -> str:
    """The turn, led in by the earlier client sentence that shares most content words with the answer."""
    if len(raw.asked.split()) >= 25:
        return raw.asked
    answer, own = _content(raw.answer), set(fold(raw.asked))
    best, best_score = "", 0.0
    for role, text in raw.before:
        if role != "client":
            continue
        for sentence in sentences(text):
            words = _content(sentence) - own
            if 5 <= len(sentence.split()) <= 40 and words:
                score = len(words & answer) + 0.01 * min(len(words), 20)
                if score >= best_score:
                    best, best_score = sentence, score
    return f"{best} {raw.asked}" if best else raw.asked


def _fitting_ask(raw: _Raw) -> str:
    pick = int(content_hash(raw.answer)[:8], 16)
    for cue, asks in _ASKS:
        if cue.search(raw.answer):
            return asks[pick % len(asks)]
    return _OPEN_ASKS[pick % len(_OPEN_ASKS)]


def _content(text: str) -> set[str]:
    return {w for w in fold(text) if w not in _STOP and len(w) > 2}


def _passages(turns: Sequence[Turn]) -> Iterator[_Raw]:
    """A talk cut into passages of whole sentences; `asked` is the rhetorical question before a passage, if any."""
    for number, turn in enumerate(turns):
        asked, passage = "", ""
        for sentence in sentences(turn.text):
            if sentence.endswith("?") and not passage and len(sentence.split()) > 3:
                asked = sentence
                continue
            passage = f"{passage} {sentence}".strip()
            if len(passage.split()) >= PASSAGE_WORDS:
                yield _Raw(number, asked, passage, ())
                asked, passage = "", ""
        if len(passage.split()) >= PASSAGE_WORDS // 2:
            yield _Raw(number, asked, passage, ())


def _from_passage(raw: _Raw, conversation_id: str) -> tuple[Candidate | None, Candidate | None]:
    extracted = _candidate(raw, conversation_id, raw.asked, EXTRACTED) if raw.asked else None
    topic = _topic(raw.answer)
    if not topic:
        return extracted, None
    ask = _TOPIC_ASKS[int(content_hash(raw.answer)[:8], 16) % len(_TOPIC_ASKS)]
    return extracted, _candidate(raw, conversation_id, ask.format(topic), CONTEXTUAL)


def _topic(passage: str) -> str:
    """The content word or two-word phrase that the passage uses most, the longer one first."""
    words = fold(passage)
    singles = Counter(w for w in words if w not in _STOP and len(w) > 3 and w.isalpha())
    pairs = Counter(f"{a} {b}" for a, b in itertools.pairwise(words) if a in singles and b in singles and a != b)
    for phrase, count in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        if count > 1:
            return phrase
    best = sorted(singles.items(), key=lambda item: (-item[1], -len(item[0]), item[0]))
    return best[0][0] if best else ""


def _candidate(
    raw: _Raw, conversation_id: str, question: str, kind: str, context: tuple[tuple[str, str], ...] | None = None
) -> Candidate:
    return Candidate(
        "", conversation_id, raw.turn, question.strip(), raw.answer.strip(), raw.before if context is None else context, kind
    )


def first_fault(candidate: Candidate, settings: DataSettings) -> str | None:
    """The reason code why a pair is left out before it is scored, or None."""
    question_words, answer_words = len(candidate.question.split()), len(candidate.answer.split())
    if question_words < settings.min_question_words:
        return "question_too_short"
    if answer_words < settings.min_answer_words:
        return "answer_too_short"
    if answer_words > settings.max_answer_words:
        return "answer_too_long"
    if fold(candidate.question) == fold(candidate.answer):
        return "answer_repeats_question"
    return None
