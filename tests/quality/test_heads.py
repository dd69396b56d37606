"""Trained heads: they learn, are calibrated, keep, and judge a text the same alone and among others."""

from __future__ import annotations

import numpy as np
import pytest

from attunement.embedding import Embedder
from attunement.errors import DataError, ModelError
from attunement.quality.features import SURFACE, Features, fold_text
from attunement.quality.heads import Head, Seen, Shape, fit, folds_of, targets_of
from attunement.quality.labelled import Example
from attunement.quality.looking import look
from attunement.quality.own_sets import written_crisis
from attunement.quality.verdicts import Item

SHAPE = Shape(("none", "danger"), reads="reply")


@pytest.fixture(scope="module")
def features() -> Features:
    return Features(Embedder())


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return written_crisis()[:500]


@pytest.fixture(scope="module")
def seen(features: Features, examples: list[Example]) -> Seen:
    return look(features, SHAPE, [e.item for e in examples])


def labels(examples: list[Example]) -> list[tuple[str]]:
    return [("none",) if e.labels == ("none",) else ("danger",) for e in examples]


@pytest.fixture(scope="module")
def head(seen: Seen, examples: list[Example]) -> Head:
    train = np.flatnonzero(folds_of([e.group for e in examples]) != 0)
    targets = targets_of(SHAPE, labels(examples))[train]
    return fit(SHAPE, seen.take(train), targets, [examples[i].group for i in train], {"data": "written/crisis"})


def test_it_learns_what_it_has_not_seen(head: Head, seen: Seen, examples: list[Example]) -> None:
    test = np.flatnonzero(folds_of([e.group for e in examples]) == 0)
    found, wanted = head.predict(seen.take(test)), targets_of(SHAPE, labels(examples))[test]
    assert np.allclose(found.sum(1), 1)
    above = found[wanted[:, 1] == 1, 1][:, None] > found[wanted[:, 1] == 0, 1][None]
    assert above.mean() > 0.7  # the area under the ROC curve; 0.5 is chance
    assert abs(found[:, 1].mean() - wanted[:, 1].mean()) < 0.15


def test_a_verdict_does_not_depend_on_its_neighbours(head: Head, features: Features, examples: list[Example]) -> None:
    some = examples[:3]
    together = head.predict(look(features, SHAPE, [e.item for e in some]))
    for example, row in zip(some, together, strict=True):
        alone = head.predict(look(Features(Embedder()), SHAPE, [example.item]))
        assert np.allclose(alone[0], row, atol=1e-5)
    assert head.predict(look(features, SHAPE, [])).shape == (0, 2)


@pytest.mark.parametrize("text", ["", " ", "\U0001f480" * 50, "word " * 50_000, "я больше не могу", "\u200b\u200b"])
def test_any_text_gets_a_verdict(head: Head, features: Features, text: str) -> None:
    found = head.predict(look(features, SHAPE, [Item(text)]))
    assert np.isfinite(found).all() and np.allclose(found.sum(), 1)


def test_it_is_kept_and_read_again(head: Head, seen: Seen) -> None:
    data = head.to_bytes()
    again = Head.from_bytes(data, "crisis")
    assert again.shape == head.shape and again.notes["data"] == "written/crisis"
    assert np.allclose(again.predict(seen), head.predict(seen), atol=5e-3)  # weights are kept in 16 bits
    assert again.to_bytes() == Head.from_bytes(again.to_bytes(), "crisis").to_bytes()
    with pytest.raises(ModelError, match="crisis is damaged"):
        Head.from_bytes(data[:-200], "crisis")


def test_training_is_deterministic(head: Head, seen: Seen, examples: list[Example]) -> None:
    train = np.flatnonzero(folds_of([e.group for e in examples]) != 0)
    targets = targets_of(SHAPE, labels(examples))[train]
    again = fit(SHAPE, seen.take(train), targets, [examples[i].group for i in train], {"data": "written/crisis"})
    assert np.allclose(again.predict(seen), head.predict(seen), atol=1e-6)


def test_a_class_without_examples_is_told(seen: Seen, examples: list[Example]) -> None:
    with pytest.raises(DataError, match="no example of 'danger'"):
        fit(SHAPE, seen, targets_of(SHAPE, [("none",)] * len(seen)), [e.group for e in examples], {})


def test_classes_may_stand_together(features: Features) -> None:
    shape = Shape(("joy", "fear"), multilabel=True)
    rows = [
        (f"{a} {b} number {i}", tuple(n for n, on in (("joy", "happy" in a), ("fear", "afraid" in b)) if on))
        for i in range(25)
        for a in ("I am so happy", "It is a table")
        for b in ("and I am afraid", "and it is blue")
    ]
    looked = look(features, shape, [Item(t) for t, _ in rows])
    made = fit(shape, looked, targets_of(shape, [found for _, found in rows]), [t for t, _ in rows], {})
    found = made.predict(
        look(features, shape, [Item("I am so happy today and I am afraid too"), Item("It is a chair and it is green")])
    )
    assert (found[0] > 0.5).all() and not (found[1] > 0.5).any()


def test_folding_keeps_the_words(features: Features) -> None:
    assert fold_text("I\u2019m \u200bso\u00a0tired") == "I'm so tired"
    assert set(features.words(["No, no!"])[0].counts) == {2.0, 1.0}
    (plain,), (other,) = features.words(["no"]), features.words(["no"], "before:")
    assert not set(plain.hashes) & set(other.hashes)


def test_words_are_those_of_a_text_alone(features: Features) -> None:
    texts = ["I am not sure, are you?", "", "\U0001f622 STOP!", "I am not sure, are you?"]
    together = features.words(texts)
    for text, found in zip(texts, together, strict=True):
        (alone,) = Features(Embedder()).words([text])
        assert all(np.array_equal(getattr(found, n), getattr(alone, n)) for n in ("hashes", "counts", "surface"))
    surface = dict(zip(SURFACE, together[0].surface, strict=True))
    assert surface["ends_with_question"] == 1 and surface["question_marks"] > 0 and surface["exclamations"] == 0
    assert surface["first_person"] > 0 and surface["second_person"] > 0 and surface["negations"] > 0
    assert not together[1].surface.any() and together[2].surface[SURFACE.index("unknown")] > 0
