"""Near-duplicates by MinHash (datasketch) and banding, with memory that stays flat.

A signature per text is written beside its shard; what is held at once is one band's keys (8 bytes a text) and the
links found. Similarity is the Jaccard index of word 3-grams of the folded text (case, accents, punctuation and
tokenisation do not count), estimated from the signatures (standard error about 0.04 at 128 permutations).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from datasketch import MinHash
from numpy.typing import NDArray

from attunement.quality.wording import SHINGLE_WORDS, fold

Signature = NDArray[np.uint32]

BAND_ROWS = 4
"""32 bands of 4 rows at 128 permutations: a pair at similarity 0.5 becomes a candidate in 87 %, at 0.7 in 99.98 %."""
BUCKET_LIMIT = 24
"""Members of one bucket that are compared with each other; texts beyond are compared with these first ones only."""


def text_key(text: str) -> int:
    """A 64-bit key that is equal for texts that differ in case, spaces and punctuation only."""
    return xxhash.xxh3_64_intdigest(" ".join(fold(text)).encode("utf-8", "surrogatepass"))


@cache
def _empty(permutations: int) -> Any:
    return MinHash(num_perm=permutations, seed=1, hashfunc=xxhash.xxh32_intdigest)


def signature(text: str, permutations: int) -> Signature:
    """The MinHash signature of `text`: uint32 `[permutations]`. Texts under 3 words count as one shingle."""
    words = fold(text)
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode("utf-8", "surrogatepass") for i in range(last)}
    sketch = _empty(permutations).copy()
    sketch.update_batch(shingles)
    return np.asarray(sketch.hashvalues).astype(np.uint32)


@dataclass(frozen=True)
class Link:
    """Two texts, by their running number, whose estimated similarity is at least the asked one."""

    first: int
    second: int
    similarity: float


class SignatureStore:
    """The signatures of many shards, as the `.npy` files (`uint32 [n, permutations]`) that stand beside them.

    A file is read whole when a band or a row of it is wanted. Small stores stay in memory, of big ones the few last files.
    """

    IN_MEMORY_BYTES = 32_000_000

    def __init__(self, paths: Sequence[Path], counts: Sequence[int]) -> None:
        self._paths = list(paths)
        self._starts = np.cumsum([0, *counts])
        small = sum(path.stat().st_size for path in self._paths) <= self.IN_MEMORY_BYTES
        self._read = lru_cache(maxsize=None if small else 32)(lambda number: np.load(self._paths[number], allow_pickle=False))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def band_keys(self, band: int) -> NDArray[np.uint64]:
        """One 64-bit key per text: equal for texts whose signatures agree in all rows of the band."""
        keys = np.zeros(len(self), dtype=np.uint64)
        for number in range(len(self._paths)):
            rows = self._read(number)[:, band * BAND_ROWS : (band + 1) * BAND_ROWS].astype(np.uint64)
            part = keys[self._starts[number] : self._starts[number + 1]]
            for column in range(BAND_ROWS):  # multiplicative mixing; wraps around on purpose
                part ^= rows[:, column]
                part *= np.uint64(0x9E3779B97F4A7C15)
        return keys

    def bands(self) -> int:
        return 0 if not self._paths else int(self._read(0).shape[1]) // BAND_ROWS

    def row(self, index: int) -> Signature:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return np.asarray(self._read(number)[index - self._starts[number]])


def links(store: SignatureStore, eligible: NDArray[np.bool_], at_least: float) -> list[Link]:
    """Pairs of eligible texts whose estimated similarity is at least `at_least`; `first < second`, sorted."""
    members = np.flatnonzero(eligible)
    found = np.zeros(0, dtype=np.uint64)
    for band in range(store.bands() if len(members) > 1 else 0):
        found = np.union1d(found, _bucket_pairs(store.band_keys(band)[members], members))
    out = []
    for both in found.tolist():
        first, second = both >> 32, both & 0xFFFFFFFF
        similarity = float(np.mean(store.row(first) == store.row(second)))
        if similarity >= at_least:
            out.append(Link(first, second, similarity))
    return out


def _bucket_pairs(keys: NDArray[np.uint64], members: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Members with equal keys, as `first << 32 | second`."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    borders = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    pairs: list[NDArray[np.uint64]] = [np.zeros(0, dtype=np.uint64)]
    for start in np.flatnonzero(np.diff(borders) > 1):
        bucket = members[order[borders[start] : borders[start + 1]]].astype(np.uint64)
        for i in range(min(len(bucket) - 1, BUCKET_LIMIT)):
            pairs.append((bucket[i] << np.uint64(32)) | bucket[i + 1 :])
    return np.concatenate(pairs)


class Groups:
    """Disjoint sets over running numbers (union-find with path halving; 4 bytes a member)."""

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size, dtype=np.int32)

    def find(self, member: int) -> int:
        parent = self._parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = int(parent[member])
        return member

    def join(self, first: int, second: int) -> None:
        """The smaller number stands for both."""
        a, b = self.find(first), self.find(second)
        if a != b:
            self._parent[max(a, b)] = min(a, b)


def drop_duplicates(found: Sequence[Link], weight: Sequence[int] | NDArray[Any], at_least: float) -> dict[int, Link]:
    """Which texts to leave out: dropped number -> the link to the one that is kept in its place.

    The heavier (longer) text is kept, the earlier one at equal weight; a text is dropped only for one that stays.
    """
    near: dict[int, list[Link]] = {}
    for link in found:
        if link.similarity >= at_least:
            near.setdefault(link.first, []).append(link)
            near.setdefault(link.second, []).append(link)
    dropped: dict[int, Link] = {}
    kept: set[int] = set()
    for member in sorted(near, key=lambda m: (-int(weight[m]), m)):
        if member in dropped:
            continue
        kept.add(member)
        for link in near[member]:
            other = link.second if link.first == member else link.first
            if other not in kept and other not in dropped:
                dropped[other] = Link(other, member, link.similarity)
    return dropped
