"""The trained judges: what each says, what it learns from, and where its weights lie.

    emotion              28 labels of GoEmotions         crisis      danger in a client's words, by level
    emotional_reaction   three components of empathy     unsafe      a reply that a user's turn makes unsafe
    interpretation         (EPITOME), each none,         bias        a text that is biased against a group
    exploration            weak, strong                  behaviour   what a therapist's turn does
    helper               a helper's turn, good or not    client_talk change, neutral or sustain talk
    session              fidelity to motivational        coherence   whether an answer fits its question
                           interviewing                  content_type interview, podcast, monologue, speech

A judge's weights come from the user's home (`attune quality train`) where they are, otherwise from the package, which will
ship what was trained on sets that may be redistributed (none yet).
"""

from __future__ import annotations

import difflib
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import PACKAGED, SHIPPED, Embedder
from attunement.errors import ConfigError, ModelError
from attunement.quality import labelled
from attunement.quality.features import Features
from attunement.quality.heads import Head, Seen, Shape
from attunement.quality.labelled import Example
from attunement.quality.looking import look
from attunement.quality.misfits import coherence_examples
from attunement.quality.rules import hits, lexicon
from attunement.quality.verdicts import Item, Span, Verdict
from attunement.records import CRISIS_LEVELS
from attunement.storage.files import content_hash

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped judges."""
KEPT_VERDICTS, KEPT_LOOKS = 65536, 4
DOUBT = 0.5
VERDICT_VERSION = 1
"""Goes up when the same weights would give other verdicts."""

Load = Callable[[Path], Sequence[Example]]


@dataclass(frozen=True)
class Source:
    """A labelled set: `needs` is its folder below the data folder ('' for one that comes with the package).

    `known` says which of it the encoder was trained on (`scripts/train_encoder.py`): nothing, all but the held-out `fold`,
    all but the held-out `folds` of questions and answers, or the set's own `train` split.
    """

    name: str
    licence: str
    load: Load
    needs: str = ""
    known: Literal["nothing", "fold", "folds", "train"] = "nothing"


@dataclass(frozen=True)
class Judge:
    """`score` is the sum of the probabilities of `positive`; without any, the likeliest label's own probability."""

    name: str
    about: str
    shape: Shape
    sources: tuple[Source, ...]
    positive: tuple[str, ...] = ()
    lexicon: str = ""
    """Rules that explain a verdict: their codes are its reasons, their places its spans."""
    rules_decide: bool = False
    """A rule's finding makes a verdict positive, too: recall first. It stays a mere reason where the judge is nearly sure that there is
    nothing (below half the watch point), unless the rule's level is imminent: 'we read about a suicide in class'."""
    miss_cost: float = 1.0
    """What a missed positive costs beside a false alarm: sets the operating point (`heads` notes)."""
    tried_on: str = ""
    """The cost is taken on sources whose name starts so, where others are too easy."""
    alarms: float = 1.0
    watch_alarms: float = 1.0
    alarms_on: str = ""
    """At the operating point at most `alarms` of the negatives of sources whose name starts so are called positive; the point of least
    cost, where that is lower, is noted as `watch_point`, at which at most `watch_alarms` of them are."""
    keep: float = 0.0
    """Share of the positives that the operating point keeps, where that matters more than costs."""
    blank: str = ""
    """The label of an empty text (default: the first that is not positive); its score is 0."""
    pieces: bool = False
    """A long text is read piece by piece, and the piece with the highest score counts."""
    only_new: bool = False
    """Learns from what the encoder has not seen alone: where its few features are the encoder's own opinion."""

    def verdicts(self, head: Head, items: Sequence[Item], seen_of: Callable[[Sequence[Item]], Seen]) -> list[Verdict]:
        """In the order of `items`; `seen_of` gives what the head sees of some."""
        parts = [list(_pieces(item.text)) if self.pieces else [(0, item.text)] for item in items]
        read = [replace(item, text=text) for item, texts in zip(items, parts, strict=True) for _, text in texts]
        found = iter(head.predict(seen_of(read)))
        out = []
        for item, texts in zip(items, parts, strict=True):
            verdict = max((self._verdict(head, next(found)) for _ in texts), key=lambda v: v.score if self.positive else 0.0)
            out.append(self._explained(head, verdict, item))
        return out

    def _verdict(self, head: Head, row: NDArray[np.float64]) -> Verdict:
        classes = self.shape.classes
        labels = {name: round(float(p), 4) for name, p in zip(classes, row, strict=True)}
        if self.shape.multilabel:
            margin = row / np.maximum(head.thresholds, 1e-6)
            names = [classes[i] for i in np.argsort(-margin, kind="stable") if margin[i] >= 1]
            best = int(np.argmax(margin))
            return Verdict(round(float(row[best]), 4), classes[best], labels, tuple(names))
        best = int(np.argmax(row))
        if not self.positive:
            return Verdict(round(float(row[best]), 4), classes[best], labels)
        # Rounded first: label and score must lie on the same side of the operating point.
        score = round(min(1.0, float(sum(row[classes.index(name)] for name in self.positive))), 4)
        return Verdict(score, self._label(head, row, score), labels)

    def _explained(self, head: Head, verdict: Verdict, item: Item) -> Verdict:
        """The verdict with what the judge's rules find, and with what makes it worth little."""
        if self.shape.reads != "talk":
            if not item.text.strip():
                label = self.blank or next(name for name in self.shape.classes if name not in self.positive)
                return Verdict(0.0, label, dict.fromkeys(self.shape.classes, 0.0) | {label: 1.0}, reasons=("empty",))
            if not looks_english(item.text):
                verdict = replace(verdict, reasons=(*verdict.reasons, "not_english"))
        found = hits(lexicon(self.lexicon), item.text) if self.lexicon else []
        if not found:
            return verdict
        lowered = item.text.casefold()
        places = [(lowered.find(hit.text), hit) for hit in found]
        spans = tuple(Span(at, at + len(hit.text), hit.code) for at, hit in places if at >= 0 and len(lowered) == len(item.text))
        verdict = replace(verdict, reasons=tuple(dict.fromkeys([*verdict.reasons, *(hit.code for hit in found)])), spans=spans)
        least = float(head.notes.get("operating_point", 0.5))
        if not self.rules_decide or verdict.score >= least:
            return verdict
        doubtful = verdict.score < head.notes.get("watch_point", least) * DOUBT
        if doubtful and not any(hit.level == "imminent" for hit in found):
            return verdict
        likely = max(self.positive, key=lambda name: verdict.labels[name])
        return replace(verdict, score=round(least, 4), label=likely)

    def _label(self, head: Head, row: NDArray[np.float64], score: float) -> str:
        """The likeliest class on the side of the operating point on which the score is."""
        above = score >= head.notes.get("operating_point", 0.5)
        side = [name for name in self.shape.classes if (name in self.positive) is above]
        return max(side, key=lambda name: row[self.shape.classes.index(name)])


def _levels(name: str) -> Judge:
    return Judge(
        name,
        f"{name.replace('_', ' ')} in a reply: 0 none, 1 weak, 2 strong",
        Shape(("0", "1", "2"), reads="reply"),
        (
            Source("written/empathy", "R", lambda _: labelled.written_empathy(name), known="fold"),
            Source("epitome", "NC", lambda data: labelled.epitome(data, name), needs="epitome"),
        ),
        positive=("1", "2"),
    )


def _sessions(role: str) -> tuple[Source, ...]:
    return (
        Source("written/sessions", "R", lambda _: labelled.turns_of(labelled.written_sessions(), role), known="fold"),
        Source("annomi", "N", lambda data: labelled.turns_of(labelled.annomi(data), role), needs="annomi"),
    )


JUDGES: Mapping[str, Judge] = {
    judge.name: judge
    for judge in (
        Judge(
            "coherence",
            "whether an answer fits its question",
            Shape(("answers_another_question", "generic_reply", "fit"), reads="answer"),
            (Source("counselchat", "R", coherence_examples, needs="counselchat", known="folds"),),
            positive=("fit",),
            keep=0.95,
            only_new=True,
        ),
        Judge(
            "crisis",
            "danger in a client's words: the levels of the C-SSRS screener and other kinds",
            Shape(CRISIS_LEVELS),
            (
                Source("written/crisis", "R", lambda _: labelled.written_crisis(), known="fold"),
                Source("written/crisis_more", "R", lambda _: labelled.written_crisis("crisis_more"), known="fold"),
                Source("written/crisis_posts", "R", lambda _: labelled.written_crisis("crisis_posts")),
                Source("labelled_posts", "R", labelled.labelled_posts, needs="imhi", known="fold"),
                Source("sdcnl", "N", labelled.sdcnl_levels, needs="sdcnl"),
            ),
            positive=CRISIS_LEVELS[1:],
            lexicon="crisis",
            rules_decide=True,
            tried_on="written/",
            alarms=0.05,
            watch_alarms=0.15,
            alarms_on="written/",
            pieces=True,
        ),
        Judge(
            "crisis_whose",
            "whose danger a text speaks of",
            Shape(labelled.WHOSE),
            (
                Source("written/crisis", "R", lambda _: labelled.written_whose(), known="fold"),
                Source("written/crisis_more", "R", lambda _: labelled.written_whose("crisis_more"), known="fold"),
                Source("written/crisis_posts", "R", lambda _: labelled.written_whose("crisis_posts")),
                Source("labelled_posts", "R", labelled.whose_posts, needs="imhi", known="fold"),
            ),
            blank="nobody",
        ),
        Judge(
            "unsafe",
            "a reply that the turn before it makes unsafe",
            Shape(("safe", *labelled.UNSAFE), reads="reply"),
            (
                Source("diasafety", "R", labelled.diasafety_both, needs="diasafety", known="train"),
                Source("counselchat", "R", labelled.therapists_answers, needs="counselchat", known="fold"),
                Source("written/good_replies", "R", lambda _: labelled.good_replies(), known="fold"),
            ),
            positive=labelled.UNSAFE,
            alarms=0.02,
            alarms_on="written/",
        ),
        Judge(
            "bias",
            "a text that is biased against a group",
            Shape(("not_biased", "biased")),
            (
                Source("written/bias", "R", lambda _: labelled.written_bias(), known="fold"),
                Source("redditbias", "R", labelled.redditbias, needs="redditbias", known="fold"),
                Source("counselchat", "R", labelled.plain_texts, needs="counselchat", known="fold"),
                Source("crows-pairs", "SA", labelled.crows_texts, needs="crows-pairs"),
            ),
            positive=("biased",),
            lexicon="bias",
            tried_on="written/",
            alarms=0.1,
            alarms_on="written/",
        ),
        Judge(
            "emotion",
            "28 emotions in a text",
            Shape(labelled.EMOTIONS, multilabel=True),
            (Source("goemotions", "R", labelled.goemotions_both, needs="goemotions", known="train"),),
            blank="neutral",
        ),
        Judge(
            "behaviour",
            "what a therapist's turn does",
            Shape(labelled.BEHAVIOURS, reads="reply"),
            _sessions("therapist"),
            blank="other",
        ),
        Judge(
            "client_talk",
            "a client's talk of change",
            Shape(labelled.CLIENT_TALK, reads="reply"),
            _sessions("client"),
            blank="neutral",
        ),
        Judge(
            "session",
            "fidelity of a session to motivational interviewing",
            Shape(("low", "high"), reads="talk"),
            (
                Source("written/sessions", "R", lambda _: labelled.whole(labelled.written_sessions()), known="fold"),
                Source("annomi", "N", lambda data: labelled.whole(labelled.annomi(data)), needs="annomi"),
                Source("hlqc", "N", lambda data: labelled.whole(labelled.hlqc(data)), needs="automisc"),
            ),
            positive=("high",),
        ),
        *map(_levels, labelled.EMPATHY),
        Judge(
            "helper",
            "a helper's turn that experts find good",
            Shape(("not_good", "good"), reads="reply"),
            (
                Source("written/helper", "R", lambda _: labelled.written_helper(), known="fold"),
                Source("written/sessions", "R", lambda _: labelled.turns_by_quality(labelled.written_sessions()), known="fold"),
                Source("counseling-feedback", "NC", labelled.counseling_feedback, needs="counseling-feedback"),
            ),
            positive=("good",),
        ),
        Judge(
            "content_type",
            "what kind of talk a conversation is",
            Shape(labelled.CONTENT_TYPES, reads="talk"),
            (Source("written/content_type", "R", lambda _: labelled.written_content_type()),),
        ),
    )
}


def find(name: str) -> Judge:
    """The judge `name`. Raises `ConfigError` that names the nearest one."""
    if name not in JUDGES:
        near = difflib.get_close_matches(name, JUDGES, n=1, cutoff=0.0)
        raise ConfigError(f"there is no judge '{name}'; did you mean '{near[0]}'? List them with  attune quality list")
    return JUDGES[name]


_PIECE = 900
"""Characters of a piece: about what the encoder reads of a text."""
_COMMON = frozenset(
    "the and of to you that it i my for with but have be this not are they she will would what when how just like know feel your don't "
    "i'm it's im dont about there been were because if or at from we our out up go get why who think want".split()
)
"""Frequent English words that are none of Spanish, French, German or Dutch."""


@lru_cache(maxsize=1024)
def looks_english(text: str) -> bool:
    """Whether a text of five words or more holds some of English's most frequent ones; shorter ones are let pass if in Latin."""
    words: list[str] = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text[:2000].casefold())
    if not words:
        return True
    if len(words) < 5:
        return sum(c.isascii() for word in words for c in word) * 2 >= sum(map(len, words))
    return sum(word in _COMMON for word in words) >= 0.1 * len(words)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """(place, piece) of a text in overlapping pieces of `_PIECE` characters that end at white space; a short text is its own."""
    start, end = 0, len(text)
    while end - start > _PIECE * 1.3:
        cut = text.rfind(" ", start + _PIECE // 2, start + _PIECE)
        cut = cut if cut > 0 else start + _PIECE
        yield start, text[start:cut]
        start = max(start + 1, cut - _PIECE // 6)
    yield start, text[start:]


class Judges:
    """All judges over one set of features. Weights load when a judge is first asked; `home` may hold the user's own.

    Verdicts are kept under the hash of what was judged. Judges that were trained with another encoder than `embedder`'s
    (the shipped ones, where `embedding.model` names a foreign model) get one of their own.
    """

    def __init__(self, embedder: Embedder | None = None, home: Path | None = None) -> None:
        self.embedder = embedder or Embedder()
        self.home = home
        self._lock = threading.RLock()
        self._heads: dict[str, Head] = {}
        self._features: dict[str, Features] = {}
        self._seen: OrderedDict[tuple[str, str, tuple[Item, ...]], Seen] = OrderedDict()
        self._kept: OrderedDict[bytes, Verdict] = OrderedDict()

    @property
    def features(self) -> Features:
        """Those of the configured encoder."""
        return self._features_of(self.embedder.settings.model)

    def _features_of(self, model: str) -> Features:
        if model not in self._features:
            own = self.embedder.settings.model == model
            embedder = self.embedder if own else Embedder(self.embedder.settings.model_copy(update={"model": model}))
            self._features[model] = Features(embedder)
        return self._features[model]

    def path(self, name: str) -> Path | None:
        """The weights in use: the user's own, else the shipped ones, else None."""
        places = [self.home / "judges" / f"{name}.npz"] if self.home else []
        return next((p for p in [*places, WEIGHTS / f"{name}.npz"] if p.is_file()), None)

    def head(self, name: str) -> Head:
        """The weights of judge `name`. Raises `ModelError` when there are none, or their encoder is not to be had."""
        if name not in self._heads:
            path = self.path(find(name).name)
            if path is None:
                raise ModelError(f"the judge '{name}' has no weights yet: train it with  attune quality train {name} --data DIR")
            head = Head.from_bytes(path.read_bytes(), name)
            made_with, used = head.notes.get("encoder", ""), self.embedder.settings.model
            if made_with not in (used, PACKAGED, SHIPPED):
                raise ModelError(
                    f"the judge '{name}' reads vectors of {made_with}, not of {used} (embedding.model): train it again with"
                    f"  attune quality train {name} --data DIR"
                )
            self._heads[name] = head
        return self._heads[name]

    def operating_point(self, name: str) -> float:
        """The score from which a verdict of judge `name` is positive."""
        return float(self.head(name).notes["operating_point"])

    def watch_point(self, name: str) -> float:
        """The lower score from which a miss would cost more than a false alarm that is answered gently."""
        return float(self.head(name).notes.get("watch_point", self.operating_point(name)))

    def fingerprint(self) -> str:
        """Changes with the weights in use, the encoder and how it computes: what was judged with another one is out of date."""
        used = {name: content_hash(path.read_bytes()) for name in JUDGES if (path := self.path(name))}
        settings = self.embedder.settings
        return content_hash([VERDICT_VERSION, used, settings.model, settings.max_tokens, settings.runtime, settings.precision])

    def topics(self, texts: Sequence[str]) -> list[int]:
        """Of the coherence judge's bank of questions the one that is nearest to each text."""
        if not texts:
            return []
        return [int(place) for place in (self.vectors(texts) @ self.head("coherence").extras["bank"].T).argmax(1)]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The sentence vectors `[n, d]` that coherence is judged by."""
        with self._lock:
            return self._features_of(self.head("coherence").notes["encoder"]).vectors(texts)

    def judge(self, name: str, items: Sequence[Item]) -> list[Verdict]:
        """The verdicts of judge `name` on `items`, in order: the same alone, in any batch and in any order."""
        if not items:
            return []
        with self._lock:  # the encoder and what is kept are for one thread at a time
            return self._judge(find(name), items)

    def _judge(self, judge: Judge, items: Sequence[Item]) -> list[Verdict]:
        name, head = judge.name, self.head(judge.name)
        keys = [hashlib.blake2b(repr((name, item)).encode("utf-8", "surrogatepass"), digest_size=16).digest() for item in items]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in found}
        if new:
            told = judge.verdicts(head, list(new.values()), lambda read: self._look(judge, head, read))
            found |= dict(zip(new, told, strict=True))
        for key in dict.fromkeys(keys):
            self._kept[key] = found[key]
            self._kept.move_to_end(key)
        while len(self._kept) > KEPT_VERDICTS:
            self._kept.popitem(last=False)
        return [found[key] for key in keys]

    def _look(self, judge: Judge, head: Head, items: Sequence[Item]) -> Seen:
        """What several judges in a row see of the same items is computed once."""
        model = head.notes["encoder"]
        if judge.shape.reads == "answer":  # each has a bank of its own
            return look(self._features_of(model), judge.shape, items, head.extras.get("bank"))
        key = (judge.shape.reads, model, tuple(items))
        if key not in self._seen:
            self._seen[key] = look(self._features_of(model), judge.shape, items)
        self._seen.move_to_end(key)
        while len(self._seen) > KEPT_LOOKS:
            self._seen.popitem(last=False)
        return self._seen[key]

    def described(self) -> list[dict[str, Any]]:
        """Every judge: where its weights come from, their data, licences and figures."""
        rows = []
        for judge in JUDGES.values():
            path = self.path(judge.name)
            notes = Head.from_bytes(path.read_bytes(), judge.name).notes if path else {}
            place = "none" if path is None else "shipped" if path.parent == WEIGHTS else "home"
            rows.append({"judge": judge.name, "about": judge.about, "weights": place, "path": str(path or ""), **notes})
        return rows
