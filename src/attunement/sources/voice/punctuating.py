"""Sentences for an engine that gives bare words: ends by pauses, question marks by how a sentence opens.

Rules of English, and rough ones: a sentence that runs on without a pause is not cut, a question by melody alone ("You left?") is
missed. Figures: `benchmarks/results/voice.json`, part `hearing`, `punctuation`. Words keep their times and confidence.

Pauses as the strongest sign of a sentence's end: Shriberg et al., "Prosody-based automatic segmentation of speech into sentences and
topics", 2000.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from attunement.records import SpokenWord

PAUSE_SECONDS = 0.35
"""Silence between words that ends a sentence. 0.25 to 0.3 does as well on synthetic turns; people also halt within sentences."""
_CUT_SECONDS = 0.15
"""Where the next words open a sentence anew ("so what ...", "did you ..."), so much is enough."""
_LEAST_WORDS = 3
"""A shorter start waits for more: "well ... I went" is one sentence."""
_BEFORE = frozenset("and but so or well now okay ok then because oh yes no yeah right".split())
_AUXILIARY = frozenset(
    "am is are was were do does did have has had can could will would shall should may might must isn't aren't wasn't weren't "
    "don't doesn't didn't haven't hasn't hadn't can't couldn't won't wouldn't shouldn't".split()
)
_SUBJECT = frozenset(
    "i you he she it we they there that this these those the a an your my his her our their anyone anybody anything someone "
    "somebody everyone people".split()
)
_ASKS = frozenset("what who whom whose which why how".split())
_ASKS_WITH_VERB = frozenset("when where".split())
"""These open clauses of statements as often ("when I was a student ..."): only with a verb before its subject."""
_TELLS = frozenset("i we he she they people to most".split())
"""After `what` or `how`: "what we call lazy is ...", "how to rest"."""
_NAMES = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february april june july august september october "
    "november december english".split()
)  # not march and may


def punctuated(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """The words with capitals, full stops and question marks; the last word ends a sentence."""
    out: list[SpokenWord] = []
    for sentence in sentences(words):
        texts = [_cased(word.text) for word in sentence]
        texts[0] = texts[0][:1].upper() + texts[0][1:]
        texts[-1] += "?" if is_question([word.text for word in sentence]) else "."
        out += [replace(word, text=text) for word, text in zip(sentence, texts, strict=True)]
    return out


def sentences(words: Sequence[SpokenWord]) -> Iterator[Sequence[SpokenWord]]:
    """Cut at pauses."""
    start = 0
    for place in range(1, len(words)):
        pause = words[place].start_seconds - words[place - 1].end_seconds
        opens = pause >= _CUT_SECONDS and _asks([word.text.lower() for word in words[place : place + 6]])
        if place - start >= _LEAST_WORDS and (pause >= PAUSE_SECONDS or opens):
            yield words[start:place]
            start = place
    if words:
        yield words[start:]


def is_question(words: Sequence[str]) -> bool:
    """Whether bare words of one sentence ask something: by their opening, or a tag at their end ("isn't it")."""
    said = [word.lower() for word in words]
    tag = len(said) > 3 and said[-2] in _AUXILIARY and "n't" in said[-2] and said[-1] in _SUBJECT
    return tag or _asks(said)


def _asks(said: Sequence[str]) -> bool:
    while len(said) > 1 and said[0] in _BEFORE:
        said = said[1:]
    if len(said) < 2:
        return bool(said) and said[0] in _ASKS
    first, second = said[0], said[1]
    if first in ("what", "how", "why") and second in _TELLS:
        return False
    first = first.removesuffix("'s")
    if first in _ASKS:
        return True
    if first in _ASKS_WITH_VERB:
        return _inverted(said[1:6])
    return first in _AUXILIARY and second in _SUBJECT


def _inverted(said: Sequence[str]) -> bool:
    """A verb before its subject, as questions have it, and no subject before both."""
    for place, word in enumerate(said[:-1]):
        if word in _AUXILIARY:
            return said[place + 1] in _SUBJECT
        if word in ("i", "you", "he", "she", "it", "we", "they", "the") and place == 0:
            return False
    return False


def _cased(word: str) -> str:
    if re.fullmatch(r"i(?:'\w+)?", word):
        return "I" + word[1:]
    return word.capitalize() if word in _NAMES else word
