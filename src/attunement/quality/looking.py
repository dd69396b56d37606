"""What a head sees of an item, by what it reads: a text, a reply, an answer, a talk, a transcript.

Shapes: n items, d dimensions of a sentence vector, B texts of the bank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from attunement.quality.features import Dense, Features, Words, pair_vectors
from attunement.quality.heads import Seen, Shape
from attunement.quality.rules import counted, lexicon, sayings
from attunement.quality.verdicts import Item
from attunement.readers.turns import role_of

SHORT_TURN_WORDS = 12
"""Of the context the last turn is read, and the one before it too where the last is shorter than this."""
LONG_WORDS, LENGTH_SLOPE = 60, 2.0
"""Words of a text that is half a message and half a post, and how sharply the two are parted."""
BANK_SIZE = 256
HALF_WORDS = 300
"""Of a longer transcript so many words of its beginning and of its end are read."""
END_WORDS = 60
"""The opening and the closing of a transcript, where it says what it is."""
WINDOW_WORDS = 24
"""About two sentences: a transcript is compared with sayings in such windows, each half in the next, since it may lack full stops."""
Bank = NDArray[np.float32]
"""Vectors of many questions, `[B, d]`: an answer that fits them all is generic."""


def look(features: Features, shape: Shape, items: Sequence[Item], bank: Bank | None = None) -> Seen:
    """What a head of `shape` sees of `items`; `bank` is for those that read answers."""
    if not items:
        return Seen(np.zeros((0, 0), dtype=np.float32), [])
    if shape.reads == "talk":
        return _talks(features, items)
    if shape.reads == "transcript":
        return _transcripts(features, items)
    if shape.reads == "answer":
        return _answers(features, items, bank)
    if shape.reads == "reply":
        return _replies(features, items)
    texts = [item.text for item in items]
    if shape.reads == "message":
        return _messages(features, texts)
    return _joined(features.class_vectors(texts), [(found,) for found in features.words(texts)])


def _joined(dense: Dense, words: Sequence[tuple[Words, ...]]) -> Seen:
    surface = np.stack([np.concatenate([part.surface for part in row]) for row in words])
    return Seen(np.concatenate([dense, surface], axis=1), words)


def _messages(features: Features, texts: Sequence[str]) -> Seen:
    """Both vectors, once for what is short and once for what is long: in a post a dark sentence is one of many, in a message it is all."""
    words = features.words(texts)
    lengths = np.asarray([np.log1p(len(text.split())) for text in texts], dtype=np.float32)
    long = 1 / (1 + np.exp(LENGTH_SLOPE * (np.log(LONG_WORDS) - lengths)))[:, None]
    both = np.concatenate([features.class_vectors(texts), features.vectors(texts)], axis=1)
    return _joined(np.concatenate([both * long, both * (1 - long), long], axis=1).astype(np.float32), [(w,) for w in words])


def _replies(features: Features, items: Sequence[Item]) -> Seen:
    """Of what was said before: a short last turn and the one before it count as one, by the sum of their vectors, so that every
    text is encoded once, whatever it follows."""
    texts = [item.text for item in items]
    last = [item.context[-1] if item.context else "" for item in items]
    earlier = [
        item.context[-2] if len(item.context) > 1 and len(said.split()) < SHORT_TURN_WORDS else ""
        for item, said in zip(items, last, strict=True)
    ]
    vectors = features.class_vectors([*texts, *last, *earlier])
    text, before, more = np.split(vectors, 3)
    summed = before + more
    before = np.where(
        more.any(1, keepdims=True), summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-6), before
    )
    told = [f"{more}\n{said}" if more else said for said, more in zip(last, earlier, strict=True)]
    words = list(zip(features.words(texts), features.words(told, "before:"), strict=True))
    return _joined(pair_vectors(text, before), words)


# --- answers --------------------------------------------------------------------------------------------------------


def _answers(features: Features, items: Sequence[Item], bank: Bank | None) -> Seen:
    asked = [item.context[-1] if item.context else "" for item in items]
    earlier = [item.context[-2] if len(item.context) > 1 else "" for item in items]
    vectors = features.vectors([*asked, *(item.text for item in items), *earlier])
    question, answer, context = np.split(vectors, 3)
    direct, told = (question * answer).sum(1), (context * answer).sum(1)
    fits = answer @ (bank if bank is not None else question).T
    mean, deviation = fits.mean(1), fits.std(1) + 1e-3
    best = np.maximum(direct, told)
    columns = [direct, told, (told > 0).astype(np.float32), best, mean, deviation, fits.max(1), (best - mean) / deviation,
               (fits > direct[:, None]).mean(1), (fits > best[:, None]).mean(1)]  # fmt: skip
    asked_words, words = features.words(asked), features.words([item.text for item in items])
    shared = [_shared(q, a) for q, a in zip(asked_words, words, strict=True)]
    overlap = [
        len(both.hashes) / np.sqrt(len(q.hashes) * len(a.hashes) + 1)
        for both, q, a in zip(shared, asked_words, words, strict=True)
    ]
    numbers = np.stack([*columns, np.asarray(overlap)], axis=1).astype(np.float32)
    # Not the vectors themselves: with products and distances by dimension the judge learnt pairs by heart (docs/LOG.md).
    return _joined(numbers, list(zip(shared, words, strict=True)))


def _shared(first: Words, second: Words) -> Words:
    """The words that stand in both texts, kept apart from those of one."""
    both = np.intersect1d(first.hashes, second.hashes, assume_unique=True)
    return Words(both, np.ones(len(both), dtype=np.float32), np.zeros(0, dtype=np.float32)).under("shared:")


# --- talks ----------------------------------------------------------------------------------------------------------


def _talks(features: Features, items: Sequence[Item]) -> Seen:
    texts = [text for item in items for _, text in item.turns]
    vectors = features.class_vectors(texts) if texts else np.zeros((0, features.embedder.dimensions), dtype=np.float32)
    dense: list[NDArray[np.float64]] = []
    words: list[tuple[str, str]] = []
    at = 0
    for item in items:
        spoken = vectors[at : at + len(item.turns)]
        at += len(item.turns)
        leader = _leader(item.turns)
        leads = np.asarray([speaker == leader for speaker, _ in item.turns], dtype=bool)
        parts = [
            spoken[leads].mean(0) if leads.any() else spoken[:0].sum(0),
            spoken[~leads].mean(0) if (~leads).any() else spoken[:0].sum(0),
        ]
        dense.append(np.concatenate([*parts, _floor(item.turns, leader)]))
        said = ["\n".join(text for speaker, text in item.turns if (speaker == leader) is led) for led in (True, False)]
        words.append((said[0], said[1]))
    own, other = (features.words([pair[i] for pair in words], prefix) for i, prefix in enumerate(("", "other:")))
    return _joined(np.stack(dense).astype(np.float32), list(zip(own, other, strict=True)))


def _leader(turns: Sequence[tuple[str, str]]) -> str:
    """The helper where the names tell one, else whoever says most."""
    counts: Counter[str] = Counter()
    for speaker, text in turns:
        counts[speaker] += len(text.split()) + 1
    helpers = [speaker for speaker in counts if role_of(speaker) == "therapist"]
    return max(helpers or counts, key=lambda s: counts[s]) if counts else ""


def _floor(turns: Sequence[tuple[str, str]], leader: str) -> NDArray[np.float64]:
    """Who holds the floor and how: speakers, shares, lengths, questions."""
    own = [text for speaker, text in turns if speaker == leader]
    rest = [text for speaker, text in turns if speaker != leader]
    lengths = [[len(text.split()) for text in texts] for texts in (own, rest)]
    total = max(1, sum(map(sum, lengths)))
    shares = Counter[str]()
    for speaker, text in turns:
        shares[speaker] += len(text.split())
    values = [
        np.log1p(len(turns)),
        len(shares),
        sum(lengths[0]) / total,
        max(shares.values(), default=0) / total,
        np.log1p(total),
    ]
    for texts, counts in zip((own, rest), lengths, strict=True):
        many = max(1, len(texts))
        values += [
            np.log1p(sum(counts) / many), np.log1p(max(counts, default=0)), sum(t.rstrip().endswith("?") for t in texts) / many,
            sum(t.count("?") for t in texts) / max(1, sum(counts)) * 10, sum(c <= 4 for c in counts) / many,
        ]  # fmt: skip
    return np.asarray(values)


# --- transcripts ----------------------------------------------------------------------------------------------------


def _transcripts(features: Features, items: Sequence[Item]) -> Seen:
    """Words of address and occasion, how near the talk comes to typical sayings, who holds the floor, and the words.

    Not the sentence vectors themselves, which say what a talk is about, and any kind of talk may be about anything.
    """
    texts = [_read("\n".join(text for _, text in item.turns)) for item in items]
    cues = np.stack([_cues(text) for text in texts])
    floor = np.stack([_floor(item.turns, _leader(item.turns)) for item in items])
    dense = np.concatenate([cues, floor, _nearness(features, texts)], axis=1).astype(np.float32)
    return _joined(dense, [(found,) for found in features.words(texts)])


def _read(text: str) -> str:
    words = text.split()
    return " ".join([*words[:HALF_WORDS], *words[-HALF_WORDS:]] if len(words) > 2 * HALF_WORDS else words)


def _cues(text: str) -> NDArray[np.float64]:
    """How often each rule of the lexicon `talk` matches in a hundred words, in the opening and in the closing."""
    words, rules = text.split(), lexicon("talk")
    rate = np.asarray(counted(rules, text)) / max(END_WORDS, len(words)) * 100
    ends = (" ".join(part) for part in (words[:END_WORDS], words[-END_WORDS:]))
    return np.asarray(np.log1p(np.concatenate([rate, *(counted(rules, end) for end in ends)])))


def _nearness(features: Features, texts: Sequence[str]) -> Dense:
    """Cosines `[n, 3 * sayings]` of each saying of the lexicon `talk` to the nearest window of a text, its first and its last."""
    parts = [list(_windows(text)) for text in texts]
    cosines = features.vectors([part for split in parts for part in split]) @ features.vectors(sayings("talk")).T
    by_text = np.split(cosines, np.cumsum([len(split) for split in parts])[:-1])
    return np.stack([np.concatenate([rows.max(0), rows[0], rows[-1]]) for rows in by_text])


def _windows(text: str) -> Iterator[str]:
    words, step = text.split(), WINDOW_WORDS // 2
    for start in range(0, max(1, len(words) - step), step):
        yield " ".join(words[start : start + WINDOW_WORDS])
