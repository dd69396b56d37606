"""What preference tuning was worth on pairs that it has not seen: log-probabilities, accuracies, margins, intervals.

The *reward* of a reply is DPO's: `beta` times how much more probable it is than under the model as it was (Rafailov 2023,
equation 5). Before the tuning all rewards are zero, so the accuracy is one half by definition. *Likelihood* compares the mean
log-probability of a token on either side, without a reference; before the tuning it says what the model preferred already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attunement.model.chat import IGNORED
from attunement.model.moe_lora import MoEModel
from attunement.training.data import Example, pack, parts
from attunement.training.pairs import SIDES, Pair

RESAMPLES = 2000
SCORED_AT_ONCE, TOKENS_AT_ONCE = 16, 4096
Numbers = NDArray[np.float64]


def log_probabilities(model: MoEModel, examples: Sequence[Example]) -> tuple[Numbers, Numbers]:
    """Of each example's learned ids: the sum of their log-probabilities in nats, and how many they are."""
    sums, counts = np.zeros(len(examples)), np.zeros(len(examples))
    with torch.no_grad(), model.evaluating():
        for part in parts(range(len(examples)), [len(e.ids) for e in examples], SCORED_AT_ONCE, TOKENS_AT_ONCE):
            batch = pack([examples[i] for i in part]).to(model.device)
            losses = model(batch.input_ids, None, batch.labels, lengths=batch.lengths).token_losses
            sizes = [sum(label != IGNORED for label in examples[i].labels[1:]) for i in part]
            sums[part] = [-float(own.sum()) for own in losses.float().cpu().split(sizes)]
            counts[part] = sizes
    return sums, counts


@dataclass(frozen=True)
class SideScores:
    """Log-probabilities `[pairs, 2]` of the chosen and the rejected replies, and their lengths in ids."""

    sums: Numbers
    counts: Numbers

    @classmethod
    def of(cls, model: MoEModel, pairs: Sequence[Pair]) -> SideScores:
        found = [log_probabilities(model, [pair.side(name) for pair in pairs]) for name in SIDES]
        return cls(np.stack([sums for sums, _ in found], 1), np.stack([counts for _, counts in found], 1))


def figures(before: SideScores, after: SideScores, conversations: Sequence[str], beta: float, seed: int) -> dict[str, Any]:
    """Accuracies and margins before and after; `gain` is [difference, low, high], the paired 95 % interval over conversations."""
    rewards = beta * (after.sums - before.sums)
    margins = {
        "reward": (np.zeros(len(rewards)), rewards[:, 0] - rewards[:, 1]),
        "likelihood": (_per_token(before), _per_token(after)),
    }
    out: dict[str, Any] = {"pairs": len(rewards), "conversations": len(set(conversations))}
    for name, (old, new) in margins.items():
        right = _right(old), _right(new)
        out[name] = {
            "accuracy": [_rounded(each.mean()) for each in right],
            "accuracy_gain": _interval(right[1] - right[0], conversations, seed),
            "margin": [_rounded(each.mean()) for each in (old, new)],
            "margin_gain": _interval(new - old, conversations, seed),
        }
    changes = (after.sums - before.sums) / after.counts
    out["nats_per_token"] = {side: _rounded(changes[:, place].mean()) for place, side in enumerate(SIDES)}
    return out


def _per_token(scores: SideScores) -> Numbers:
    means: Numbers = scores.sums / scores.counts
    return means[:, 0] - means[:, 1]


def _right(margins: Numbers) -> Numbers:
    """1 where the chosen reply is ahead, one half where neither is."""
    return np.where(margins == 0, 0.5, margins > 0)


def _interval(gains: Numbers, conversations: Sequence[str], seed: int) -> list[float]:
    """The mean of `gains` and its 95 % bootstrap interval. Whole conversations are drawn: their pairs are alike."""
    _, group = np.unique(np.asarray(conversations), return_inverse=True)
    sums, sizes = np.bincount(group, gains), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), (0.025, 0.975))
    return [_rounded(gains.mean()), _rounded(low), _rounded(high)]


def _rounded(value: Any) -> float:
    return round(float(value), 4)
