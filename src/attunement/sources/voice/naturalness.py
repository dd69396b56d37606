"""How natural a response reads: as a person would say it, whole, and not as a recogniser garbled it. 0-1, with its parts.

    fluency       log perplexity per word under the packaged base lies where that of real responses of this length lies (5 to 95 %), and
                  rises as much as theirs where the words are put in another order
    smoothness    few fillers, repeats, restarts and cut-offs: up to 6 in 100 words are ordinary (Fox Tree 1995; Bortfeld 2001)
    completeness  it ends where a sentence can end, and does not open in the middle of one

The bands (`lexicon/naturalness.json`) were measured with and without punctuation, since recognisers write none.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from attunement.records import DialoguePair
from attunement.sources.voice.lexicon_counts import FOLDER, is_question, words_of, written

ORDINARY_DISFLUENCY, MOST_DISFLUENCY = 0.06, 0.30
"""Share of words from which smoothness falls, and at which it is 0."""
LENGTHS = (8, 16, 40)
"""Words from which a longer response has a band of its own: the fewer the words, the wider it is."""
SHUFFLES = 2
LONGEST_WORDS = 300
"""Of a longer response the beginning and the end are read, half each: the base's context is 1,024 tokens."""
DANGLING_END = frozenset(
    "a an the and or but because if although unless while whereas than of to for with from by at into onto upon between among within "
    "my your his her its our their i we they he she who whose which very every each such am is are was were be been has had does did "
    "will would shall should can could may might must gonna gotta".split()
)
"""No English sentence ends with these, or hardly one in a hundred does."""
DANGLING_OPEN = frozenset("of than nor whereas been being 'm 're 've 'll".split())
PUNCTUATED_SHARE = 0.5
"""A transcript whose responses end with a mark this often is punctuated: there one without a mark is cut off."""
_MARK = re.compile(r"[.!?\u2026][\"')\]\u201d\u2019]*\s*$")
_CUT_OFF = re.compile(r"(?:\w-|[,;:]|\s[-\u2013\u2014]+|\u2014|\.\.\.|\u2026)\s*$")
_RESTART = re.compile(r"\b\w+-(?=\s)|\s[\u2013\u2014-]{1,2}\s")


@dataclass(frozen=True)
class Naturalness:
    """`score` 0-1, the product of `parts` (fluency, smoothness, completeness; without a model no fluency). `figures`: raw values."""

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


class Fluency:
    """Log perplexities under the packaged base. It loads at the first use, on the CPU (12 MB)."""

    def __init__(self) -> None:
        self._loaded: tuple[Any, Any] | None = None

    def figures(self, text: str) -> tuple[float, float]:
        """Nats per word of `text`, and the log probability that a sentence or the whole ends after its last word."""
        import torch

        model, tokenizer = self._load()
        bare = shortened(text).rstrip(" \t\n\r\f\v.!?,;:\u2026\u2014-")
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(bare, add_special_tokens=False)["input_ids"]]])
        with torch.inference_mode():
            logs = model(ids).logits[0].float().log_softmax(-1)
        nats = -logs[:-1].gather(1, ids[0, 1:, None]).sum().item()
        marks = [tokenizer.convert_tokens_to_ids(mark) for mark in (".", "!", "?")]
        return nats / max(1, len(bare.split())), float(logs[-1, [*marks, tokenizer.eos_token_id]].logsumexp(0))

    def order_gain(self, text: str) -> float:
        """How many nats per word the order of the words is worth: perplexity of the shuffled words less that of the text, both bare."""
        words = re.sub(r"[^\w'\s-]", " ", shortened(text).lower()).split()
        rng = random.Random(" ".join(words))
        mixed = [" ".join(rng.sample(words, len(words))) for _ in range(SHUFFLES)]
        return float(np.mean([self.figures(other)[0] for other in mixed])) - self.figures(" ".join(words))[0]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from attunement.model.base import PACKAGED, load_base

            self._loaded = load_base(PACKAGED, "cpu")
        return self._loaded


def naturalness(pairs: Sequence[DialoguePair], fluency: Fluency | None = None) -> list[Naturalness]:
    """Of the response of each pair. Without `fluency` the perplexity and what the base says of its end do not count."""
    ends: dict[str, list[bool]] = {}
    for pair in pairs:
        ends.setdefault(str(pair.metadata.get("transcript", "")), []).append(bool(_MARK.search(pair.response)))
    punctuated = {name: float(np.mean(found)) >= PUNCTUATED_SHARE for name, found in ends.items()}
    return [natural(pair.response, punctuated[str(pair.metadata.get("transcript", ""))], fluency) for pair in pairs]


def natural(text: str, punctuated: bool, fluency: Fluency | None = None) -> Naturalness:
    """Of one response; `punctuated` says whether its transcript has punctuation."""
    if not words_of(text):
        return Naturalness(0.0, {"completeness": 0.0})
    figures: dict[str, float] = {"disfluency": round(disfluency(text), 4)}
    parts = {"smoothness": _falling(figures["disfluency"], ORDINARY_DISFLUENCY, MOST_DISFLUENCY)}
    ending = 0.0
    if fluency is not None:
        per_word, ending = fluency.figures(text)
        figures |= {"log_perplexity": round(per_word, 4), "log_ending": round(ending, 4)}
        gain = fluency.order_gain(text)
        figures["order_gain"] = round(gain, 4)
        parts["fluency"] = min(within_band(per_word, len(text.split()), punctuated), order_part(gain, len(text.split())))
    parts["completeness"] = completeness(text, punctuated, ending if fluency is not None else None)
    score = math.prod(parts.values())
    return Naturalness(round(score, 4), {name: round(value, 4) for name, value in parts.items()}, figures)


def shortened(text: str) -> str:
    """A long text's beginning and end."""
    words = text.split()
    half = LONGEST_WORDS // 2
    return text if len(words) <= LONGEST_WORDS else " ".join([*words[:half], *words[-half:]])


@cache
def bands() -> Mapping[str, Any]:
    """By `punctuated` or `unpunctuated` and place of the length among `LENGTHS`, `low` and `high`; how they were made."""
    return dict(json.loads((FOLDER / "naturalness.json").read_text(encoding="utf-8")))


def length_class(words: int) -> str:
    """Which band a response of so many words has."""
    return str(sum(words >= least for least in LENGTHS))


def within_band(per_word: float, words: int, punctuated: bool) -> float:
    """1 inside the band of real responses; outside it halves with each sixth of the band's width."""
    band = bands()["punctuated" if punctuated else "unpunctuated"][length_class(words)]
    outside = max(band["low"] - per_word, per_word - band["high"], 0.0)
    return float(0.5 ** (outside / ((band["high"] - band["low"]) / 6)))


def order_part(gain: float, words: int) -> float:
    """1 where the order is worth what it is in all but 5 % of real responses of this length; 0 where another order is as likely."""
    low = bands()["order"][length_class(words)]["low"]
    return 1.0 if low <= 0 else min(1.0, max(0.0, gain / low))


def disfluency(text: str) -> float:
    """Fillers, repeated words or phrases of up to three, restarts and cut-offs, as a share of the words."""
    words = words_of(text)
    if not words:
        return 0.0
    told = written("words")["fillers"]
    singles, phrases = set(told["words"].split()), [tuple(phrase.split()) for phrase in told["phrases"].split("|")]
    found = sum(word in singles for word in words)
    grams = Counter(tuple(words[n : n + size]) for size in (2, 3) for n in range(len(words) - size + 1))
    found += sum(grams[phrase] for phrase in phrases)
    for size in (1, 2, 3):
        found += sum(words[n : n + size] == words[n + size : n + 2 * size] for n in range(len(words) - 2 * size + 1))
    return (found + len(_RESTART.findall(text))) / len(words)


def completeness(text: str, punctuated: bool, ending: float | None = None) -> float:
    """1 for whole sentences; less where the text ends in the middle of one, where a mark is missing or where it opens in the middle.

    `ending` is the base's log probability of an end: as likely as real responses' ends costs nothing.
    """
    words, value = words_of(text), 1.0
    marked = bool(_MARK.search(text))
    if _CUT_OFF.search(text) or (not marked and words[-1] in DANGLING_END and not is_question(text)):
        value *= 0.3
    elif punctuated and not marked:
        value *= 0.6
    if words[0] in DANGLING_OPEN:
        value *= 0.7
    if ending is not None:
        band = bands()["ending"]
        value *= 1 - 0.8 * _rising(band["low"] - ending, 0.0, band["low"] - band["never"])
    return value


def _rising(value: float, start: float, end: float) -> float:
    return min(1.0, max(0.0, (value - start) / (end - start)))


def _falling(value: float, start: float, end: float) -> float:
    return 1 - _rising(value, start, end)
