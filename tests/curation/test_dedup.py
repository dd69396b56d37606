from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.curation.dedup import Groups, Link, SignatureStore, drop_duplicates, links, signature, text_key
from attunement.quality.wording import fold

WORDS = "the quick brown fox sat near a quiet river while rain fell on old stones and nobody came to look for it today".split()


def jaccard(a: str, b: str) -> float:
    def shingles(text: str) -> set[str]:
        words = fold(text)
        return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def store(tmp_path: Path, texts: list[str], per_file: int = 3) -> SignatureStore:
    paths, counts = [], []
    for start in range(0, len(texts), per_file):
        block = np.stack([signature(t, 128) for t in texts[start : start + per_file]])
        paths.append(tmp_path / f"{start}.npy")
        np.save(paths[-1], block)
        counts.append(len(block))
    return SignatureStore(paths, counts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I don't know, really.", "i do n't know , really ."),
        ("It\u2019s café time", "IT'S CAFE TIME!"),
        ("He said: 'go on'", "he said go on"),
    ],
)
def test_folding_ignores_case_accents_punctuation_and_tokenisation(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert text_key(one) == text_key(other)


def test_fold_keeps_different_words_apart() -> None:
    assert text_key("I can") != text_key("I can't")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=30, max_size=60), st.integers(0, 25))
def test_signature_estimates_jaccard(words: list[str], cut: int) -> None:
    one, other = " ".join(words), " ".join(words[cut:])
    estimate = float(np.mean(signature(one, 512) == signature(other, 512)))
    assert abs(estimate - jaccard(one, other)) < 0.15  # standard error 0.022 at 512 permutations


def test_links_finds_similar_texts_across_files_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vocabulary = [f"word{i}" for i in range(500)]
    texts = [" ".join(rng.choice(vocabulary, 80)) for _ in range(10)]
    texts.append(texts[1].replace("word", "Word", 5))  # differs in case only
    changed = texts[4].split()
    changed[40] = "other"  # three of 78 shingles
    texts.append(" ".join(changed))
    found = links(store(tmp_path, texts), np.ones(len(texts), dtype=bool), 0.5)
    assert {(link.first, link.second) for link in found} == {(1, 10), (4, 11)}
    assert next(link for link in found if link.second == 10).similarity == 1.0


def test_links_leaves_ineligible_texts_alone(tmp_path: Path) -> None:
    texts = ["a b c d e f g h i j"] * 3
    assert [(x.first, x.second) for x in links(store(tmp_path, texts), np.array([True, False, True]), 0.5)] == [(0, 2)]
    assert links(store(tmp_path, texts), np.zeros(3, dtype=bool), 0.5) == []


def test_links_of_nothing() -> None:
    assert links(SignatureStore([], []), np.zeros(0, dtype=bool), 0.5) == []


def test_a_crowded_bucket_is_linked_to_its_first_members(tmp_path: Path) -> None:
    texts = ["the very same words stand here again and again"] * 60
    found = links(store(tmp_path, texts, per_file=16), np.ones(60, dtype=bool), 0.7)
    dropped = drop_duplicates(found, [1] * 60, 0.7)
    assert sorted(dropped) == list(range(1, 60))


def test_the_longer_text_is_kept_and_drops_only_for_one_that_stays() -> None:
    # 0 is like 1, 1 is like 2, but 0 is not like 2: with 1 gone, 2 has nothing to be dropped for.
    dropped = drop_duplicates([Link(0, 1, 0.9), Link(1, 2, 0.9)], [30, 20, 10], 0.7)
    assert {number: link.second for number, link in dropped.items()} == {1: 0}
    dropped = drop_duplicates([Link(0, 1, 0.9), Link(1, 2, 0.9)], [10, 30, 20], 0.7)
    assert {number: link.second for number, link in dropped.items()} == {0: 1, 2: 1}


def test_links_under_the_threshold_drop_nothing() -> None:
    assert drop_duplicates([Link(0, 1, 0.6)], [1, 1], 0.7) == {}


def test_groups_join_through_others() -> None:
    groups = Groups(6)
    groups.join(4, 5)
    groups.join(1, 4)
    assert groups.find(5) == groups.find(1) == 1
    assert groups.find(0) == 0
