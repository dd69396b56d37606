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

SLACK = 0.0025
"""How far a held-out split in which a share is missing may move the shares of the whole: both together half a percentage point."""
BIG = 0.2
"""Part of a split's examples of one share from which a group is held out only where smaller ones do not suffice."""


def quota(counts: Mapping[str, int], target: Mapping[str, float]) -> dict[str, int]:
    """The largest mixture in the target proportions, over the shares that have any examples at all."""
    present = {share: target.get(share, 0.0) for share in SHARES if counts.get(share) and target.get(share)}
    if not present:
        return {}
    total = min(counts[share] / (weight / sum(present.values())) for share, weight in present.items())
    return {share: int(total * weight / sum(present.values()) + 1e-9) for share, weight in present.items()}


def over_share(
    shares: NDArray[np.int8], keys: NDArray[np.uint64], splits: NDArray[np.int8], target: Mapping[str, float]
) -> NDArray[np.bool_]:
    """True for the examples to leave out so that the mixture meets the target in every split, and so in all. Random by key, the

    same each time. `shares[i]` is an index into `SHARES` (-1: left out before), `splits[i]` one into `SPLITS`, `keys[i]` a
    random-looking number that belongs to the example.
    """
    out = np.zeros(len(shares), dtype=bool)
    trained = 0
    for split in range(len(SPLITS)):  # the training split first
        here = splits == split
        counts = {share: int(np.sum(here & (shares == i))) for i, share in enumerate(SHARES)}
        allowed = quota(counts, target)
        if split == 0:
            trained, target = sum(allowed.values()), {share: target[share] for share in allowed}
        else:
            allowed = _bounded(allowed, trained, target)
        for i, share in enumerate(SHARES):
            members = np.flatnonzero(here & (shares == i))
            order = members[np.argsort(keys[members], kind="stable")]
            out[order[allowed.get(share, 0) :]] = True
    return out


def _bounded(allowed: Mapping[str, int], trained: int, target: Mapping[str, float]) -> dict[str, int]:
    """`allowed` of a held-out split, made smaller where a share is missing there, so that no share of the whole moves by more than `SLACK`."""
    whole = sum(target.values())
    missing = [weight / whole for share, weight in target.items() if not allowed.get(share)]
    rest = 1 - sum(missing)
    if not missing or len(missing) == len(target):
        return dict(allowed)
    most = max([*missing, *(target[share] / whole * (1 / rest - 1) for share in allowed)])
    size = sum(allowed.values())
    part = min(1.0, trained * SLACK / (most - SLACK) / size) if size and most > SLACK else 1.0
    return {share: int(count * part) for share, count in allowed.items()}


def split_of_groups(
    groups: Groups, numbers: NDArray[np.uint64], members: Sequence[int], settings: DataSettings
) -> dict[int, str]:
    """The split of each member (running number of a conversation), by its group's smallest id and the seed."""
    smallest, size = _groups(groups, numbers, members)
    limit = max(1.0, BIGGEST_HELD_OUT_GROUP * len(members))
    split: dict[int, str] = {}
    for root, number in smallest.items():
        place = _place(number, settings)
        if size[root] > limit or place >= settings.test_share + settings.validation_share:
            split[root] = "train"
        else:
            split[root] = "test" if place < settings.test_share else "validation"
    return {member: split[groups.find(member)] for member in members}


def split_by_share(
    groups: Groups, numbers: NDArray[np.uint64], examples: Mapping[int, Mapping[int, int]], settings: DataSettings
) -> dict[int, str]:
    """The split of each member, so that every share is held out in its part: a balance can be kept in each split only then.

    `examples[member]` counts a conversation's examples by share (an index into `SHARES`). A group counts for the share that most
    of its examples are of. The groups of a share come in the order of their hashes, the big ones last; each goes to the test
    split, then to validation, where that brings the share's part nearer to the wanted one.
    """
    smallest, _ = _groups(groups, numbers, list(examples))
    counts: dict[int, dict[int, int]] = {root: {} for root in smallest}
    for member, by_share in examples.items():
        into = counts[groups.find(member)]
        for share, count in by_share.items():
            into[share] = into.get(share, 0) + count
    of_share: dict[int, list[int]] = {}
    for root, by_share in counts.items():
        of_share.setdefault(max(by_share, key=lambda share: (by_share[share], -share)), []).append(root)
    split = dict.fromkeys(smallest, "train")
    for share, roots in of_share.items():
        total = sum(counts[root][share] for root in roots)
        for name, part in (("test", settings.test_share), ("validation", settings.validation_share)):
            wanted, held = part * total, 0
            order = {root: (counts[root][share] > BIG * wanted, _place(smallest[root], settings), root) for root in roots}
            for root in sorted(roots, key=order.__getitem__):
                more = counts[root][share]
                if split[root] == "train" and abs(held + more - wanted) < abs(held - wanted):
                    split[root], held = name, held + more
    return {member: split[groups.find(member)] for member in examples}


def _groups(groups: Groups, numbers: NDArray[np.uint64], members: Sequence[int]) -> tuple[dict[int, int], dict[int, int]]:
    """The smallest id and the number of members of each group, by its root."""
    smallest: dict[int, int] = {}
    size: dict[int, int] = {}
    for member in members:
        root = groups.find(member)
        smallest[root] = min(smallest.get(root, 2**64), int(numbers[member]))
        size[root] = size.get(root, 0) + 1
    return smallest, size


def _place(number: int, settings: DataSettings) -> float:
    """Where the group with the smallest id `number` stands between 0 and 1."""
    return int(content_hash([settings.seed, number])[:13], 16) / 16**13
