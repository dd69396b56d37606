"""How often each example is seen in an epoch: a quota for each source share, with a cap on repetition.

The target (30/25/20/15/10 by default) is met as far as the examples go. A share that is too small is seen at most
`max_repeats` times an epoch, and the others fill its place in their own proportions. What an epoch leaves out comes first in
the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def quotas(counts: Mapping[str, int], target: Mapping[str, float], size: int, max_repeats: float) -> dict[str, int]:
    """Examples of each share in an epoch of at most `size`; shares without a target weight get none, if any has one.

    No share gets more than `max_repeats` times what it has. Rounded down, the largest remainders up.
    """
    weights = {share: target.get(share, 0.0) for share, count in counts.items() if count}
    if not any(weights.values()):
        return dict(counts)
    most = {share: max_repeats * counts[share] for share in weights}
    given: dict[str, float] = dict.fromkeys(weights, 0.0)
    open_shares = {share for share, weight in weights.items() if weight > 0}
    left = float(size)
    while open_shares and left > 1e-9:  # what a full share cannot take goes to the open ones
        total = sum(weights[share] for share in open_shares)
        wanted = {share: given[share] + left * weights[share] / total for share in open_shares}
        for share, amount in wanted.items():
            given[share] = min(amount, most[share])
        full = {share for share in open_shares if given[share] >= most[share] - 1e-9}
        left = size - sum(given.values())
        if not full:
            break
        open_shares -= full
    whole = {share: int(amount + 1e-9) for share, amount in given.items()}
    for share in sorted(given, key=lambda s: whole[s] - given[s])[: round(sum(given.values())) - sum(whole.values())]:
        whole[share] += 1
    return whole


@dataclass(frozen=True)
class Mixture:
    """The order in which examples are seen: by `seed` and epoch alone. `shares` names each example's share."""

    shares: Sequence[str]
    target: Mapping[str, float]
    max_repeats: float
    seed: int

    @property
    def members(self) -> dict[str, NDArray[np.int64]]:
        """The examples of each share."""
        return {share: np.flatnonzero(np.asarray(self.shares) == share) for share in sorted(set(self.shares))}

    @property
    def quotas(self) -> dict[str, int]:
        """Examples of each share in an epoch."""
        counts = {share: len(rows) for share, rows in self.members.items()}
        return quotas(counts, self.target, len(self.shares), self.max_repeats)

    @property
    def size(self) -> int:
        """Examples in an epoch."""
        return sum(self.quotas.values())

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The examples of an epoch, shuffled. Each share is a stream of shuffled passes, which epochs cut into pieces."""
        quota, drawn = self.quotas, []
        for number, (share, rows) in enumerate(self.members.items()):
            places = np.arange(epoch * quota[share], (epoch + 1) * quota[share])
            for turn in np.unique(places // len(rows)):
                shuffled = np.random.default_rng((self.seed, number, int(turn))).permutation(rows)
                drawn.append(shuffled[places[places // len(rows) == turn] % len(rows)])
        return np.random.default_rng((self.seed, epoch)).permutation(np.concatenate(drawn))

    def report(self, tokens: Sequence[int], seen: NDArray[np.int64]) -> dict[str, Any]:
        """What was really seen, by share: `seen` counts how often each example was, `tokens` is each one's length."""
        total, length = max(1, int(seen.sum())), np.asarray(tokens)
        weight = max(1, int((seen * length).sum()))
        target = sum(self.target.get(share, 0.0) for share in self.members) or 1.0
        return {
            share: {
                "examples": len(rows),
                "target": round(self.target.get(share, 0.0) / target, 4),
                "share_of_examples": round(int(seen[rows].sum()) / total, 4),
                "share_of_tokens": round(int((seen[rows] * length[rows]).sum()) / weight, 4),
                "most_often": int(seen[rows].max(initial=0)),
                "never_seen": int((seen[rows] == 0).sum()),
            }
            for share, rows in self.members.items()
        }
