"""Step 5, balance and split: how much of each share, and which split a conversation's group falls into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from attunement.config import DataSettings
from attunement.curation.dedup import Groups
from attunement.records import SHARES
from attunement.storage.files import content_hash

SPLITS = ("train", "validation", "test")
BIGGEST_HELD_OUT_GROUP = 0.005
"""A group with more than this share of all conversations always trains: held out, it would be the whole split."""


def quota(counts: Mapping[str, int], target: Mapping[str, float]) -> dict[str, int]:
    """The largest mixture in the target proportions, over the shares that have any examples at all."""
    present = {share: target.get(share, 0.0) for share in SHARES if counts.get(share) and target.get(share)}
    if not present:
        return {}
    total = min(counts[share] / (weight / sum(present.values())) for share, weight in present.items())
    return {share: int(total * weight / sum(present.values()) + 1e-9) for share, weight in present.items()}


def over_share(shares: NDArray[np.int8], keys: NDArray[np.uint64], settings: DataSettings) -> NDArray[np.bool_]:
    """True for the examples to leave out so that the mixture meets the target. Random by key, the same each time.

    `shares[i]` is an index into `SHARES`, `keys[i]` a random-looking number that belongs to the example.
    """
    out = np.zeros(len(shares), dtype=bool)
    if settings.balance == "report":
        return out
    allowed = quota({share: int(np.sum(shares == i)) for i, share in enumerate(SHARES)}, settings.target_balance)
    for i, share in enumerate(SHARES):
        members = np.flatnonzero(shares == i)
        order = members[np.argsort(keys[members], kind="stable")]
        out[order[allowed.get(share, 0) :]] = True
    return out


def split_of_groups(
    groups: Groups, numbers: NDArray[np.uint64], members: Sequence[int], settings: DataSettings
) -> dict[int, str]:
    """The split of each member (running number of a conversation), by its group's smallest id and the seed."""
    smallest: dict[int, int] = {}
    size: dict[int, int] = {}
    for member in members:
        root = groups.find(member)
        smallest[root] = min(smallest.get(root, 2**64), int(numbers[member]))
        size[root] = size.get(root, 0) + 1
    limit = max(1.0, BIGGEST_HELD_OUT_GROUP * len(members))
    split: dict[int, str] = {}
    for root, number in smallest.items():
        place = int(content_hash([settings.seed, number])[:13], 16) / 16**13
        if size[root] > limit or place >= settings.test_share + settings.validation_share:
            split[root] = "train"
        else:
            split[root] = "test" if place < settings.test_share else "validation"
    return {member: split[groups.find(member)] for member in members}
