"""The trained judges: what each says, what it learns from, and how a verdict is made of what its head finds.

    emotion              28 labels of GoEmotions         crisis      danger in a client's words, by level
    emotional_reaction   three components of empathy     crisis_whose  whose danger it is
    interpretation         (EPITOME), each none,         unsafe      a reply that a user's turn makes unsafe
    exploration            weak, strong                  bias        a text that is biased against a group
    helper               a helper's turn, good or not    behaviour   what a therapist's turn does
    session              fidelity to motivational        client_talk change, neutral or sustain talk
                           interviewing                  coherence   whether an answer fits its question
    technique            the same in eight techniques    content_type interview, podcast, monologue, speech
    need                 to be heard, or to look at a thought   role  therapist, client, host, guest

Their weights, and the judges at work, are in `panel`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attunement.errors import ConfigError
from attunement.quality import labelled, own_sets, roles
from attunement.quality.features import looks_english, pieces
from attunement.quality.heads import Head, Seen, Shape
from attunement.quality.labelled import Example
from attunement.quality.misfits import coherence_examples
from attunement.quality.rules import hits, lexicon
from attunement.quality.techniques import (
    NEEDS,
    TECHNIQUES,
    annomi_techniques,
    session_techniques,
    written_needs,
    written_techniques,
)
from attunement.quality.verdicts import Item, Span, Verdict
from attunement.records import CRISIS_LEVELS

DOUBT = 0.25
"""Share of the watch point under which a judge is nearly sure that there is nothing."""

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
    nothing (below a quarter of the watch point), unless the rule's level is imminent: 'we read about a suicide in class'."""
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
    graded: bool = False
    """Its classes are grades that are read one by one: the label is not bound to the side of the operating point."""
    only_new: bool = False
    """Learns from what the encoder has not seen alone: where its few features are the encoder's own opinion."""

    def verdicts(self, head: Head, items: Sequence[Item], seen_of: Callable[[Sequence[Item]], Seen]) -> list[Verdict]:
        """In the order of `items`; `seen_of` gives what the head sees of some."""
        parts = [list(pieces(item.text)) if self.pieces else [item.text] for item in items]
        read = [replace(item, text=text) for item, texts in zip(items, parts, strict=True) for text in texts]
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
        best = int(head.said(row[None])[0])
        if not self.positive:
            return Verdict(round(float(row[best]), 4), classes[best], labels)
        # Rounded first: label and score must lie on the same side of the operating point.
        score = round(min(1.0, float(sum(row[classes.index(name)] for name in self.positive))), 4)
        return Verdict(score, classes[best] if self.graded else self._label(head, row, score), labels)

    def _explained(self, head: Head, verdict: Verdict, item: Item) -> Verdict:
        """The verdict with what the judge's rules find, and with what makes it worth little."""
        if not self.shape.whole:
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
            Source("written/empathy", "R", lambda _: own_sets.written_empathy(name), known="fold"),
            Source("epitome", "NC", lambda data: labelled.epitome(data, name), needs="epitome"),
        ),
        positive=("1", "2"),
        graded=True,
    )


def _sessions(role: str) -> tuple[Source, ...]:
    return (
        Source("written/sessions", "R", lambda _: labelled.turns_of(own_sets.written_sessions(), role), known="fold"),
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
            Shape(CRISIS_LEVELS, reads="message"),
            (
                Source("written/crisis", "R", lambda _: own_sets.written_crisis(), known="fold"),
                Source("written/crisis_more", "R", lambda _: own_sets.written_crisis(own_sets.LATER_CRISIS)),
                Source("labelled_posts", "R", labelled.labelled_posts, needs="imhi", known="fold"),
                Source("written/sessions", "R", lambda _: own_sets.ordinary_turns(), known="fold"),
                Source("goemotions", "R", labelled.ordinary_comments, needs="goemotions"),
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
                Source("written/crisis", "R", lambda _: own_sets.written_whose(), known="fold"),
                Source("written/crisis_more", "R", lambda _: own_sets.written_whose(own_sets.LATER_CRISIS)),
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
                Source("written/good_replies", "R", lambda _: own_sets.good_replies(), known="fold"),
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
                Source("written/bias", "R", lambda _: own_sets.written_bias(), known="fold"),
                Source("redditbias", "R", labelled.redditbias, needs="redditbias", known="fold"),
                Source("counselchat", "R", labelled.plain_texts, needs="counselchat", known="fold"),
                Source("goemotions", "R", labelled.unbiased_comments, needs="goemotions"),
                Source("written/sessions", "R", lambda _: own_sets.unbiased_turns(), known="fold"),
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
            "technique",
            "the technique of a therapist's turn",
            Shape(TECHNIQUES, reads="reply"),
            (
                Source("written/technique", "R", lambda _: written_techniques()),
                Source("written/technique_sessions", "R", lambda _: session_techniques(), known="fold"),
                Source("annomi", "N", annomi_techniques, needs="annomi"),
            ),
            blank="other",
        ),
        Judge(
            "need",
            "what would help a client now: to be heard, or to look at a thought",
            Shape(NEEDS, reads="reply"),
            (Source("written/need", "R", lambda _: written_needs()),),
            blank="listening",
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
                Source("written/sessions", "R", lambda _: labelled.whole(own_sets.written_sessions()), known="fold"),
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
                Source("written/helper", "R", lambda _: own_sets.written_helper(), known="fold"),
                Source("written/sessions", "R", lambda _: labelled.turns_by_quality(own_sets.written_sessions()), known="fold"),
                Source("counseling-feedback", "NC", labelled.counseling_feedback, needs="counseling-feedback"),
            ),
            positive=("good",),
        ),
        Judge(
            "content_type",
            "what kind of talk a conversation is",
            Shape(labelled.CONTENT_TYPES, reads="transcript"),
            (
                Source("written/content_type", "R", lambda _: own_sets.written_content_type()),
                Source("written/content_type_more", "R", lambda _: own_sets.written_content_type("content_type_more")),
            ),
        ),
        Judge(
            "role",
            "who says a turn: therapist or client, host or guest",
            Shape(roles.TURN_ROLES, reads="reply"),
            (
                Source(
                    "written/sessions", "R", lambda _: roles.mixed(roles.turns_by_role(own_sets.written_sessions())), known="fold"
                ),
                Source("written/talk_roles", "R", lambda _: roles.mixed(roles.turns_by_role(roles.written_roles()))),
                Source("written/edge_cases", "R", lambda _: roles.mixed(roles.written_scenes())),
                Source("written/turns", "R", lambda _: roles.mixed(roles.written_turns())),
                Source("written/helper", "R", lambda _: roles.mixed(roles.written_helpers()), known="fold"),
                Source("annomi", "N", lambda data: roles.mixed(roles.annomi_roles(data)), needs="annomi"),
            ),
        ),
    )
}


def find(name: str) -> Judge:
    """The judge `name`. Raises `ConfigError` that names the nearest one."""
    if name not in JUDGES:
        near = difflib.get_close_matches(name, JUDGES, n=1, cutoff=0.0)
        raise ConfigError(f"there is no judge '{name}'; did you mean '{near[0]}'? List them with  attune quality list")
    return JUDGES[name]
