"""Held-out perplexity before and after fine-tuning, with an interval: the same answers, the same tokens, one model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attunement.model.chat import IGNORED, encode_example
from attunement.model.moe_lora import MoEModel

RESAMPLES = 2000
SEED = 17


@dataclass(frozen=True)
class Scored:
    """Summed loss in nats of each example's answer, `[n]`, with and without the adapters, and its `tokens`."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    tokens: NDArray[np.int64]


@torch.no_grad()
def score_answers(
    model: MoEModel, tokenizer: Any, talks: Sequence[Sequence[dict[str, str]]], step: Callable[[], None] = lambda: None
) -> Scored:
    """One example at a time: no padding, so that no figure depends on its neighbours."""
    before, after, tokens = [], [], []
    with model.evaluating():
        for talk in talks:
            encoded = encode_example(tokenizer, talk, model.config.context_length)
            if all(label == IGNORED for label in encoded.labels[1:]):
                continue
            ids = torch.tensor([encoded.ids], device=model.device)
            labels = torch.tensor([encoded.labels], device=model.device)
            losses = model(ids, None, labels).token_losses
            with model.adapters_off():
                base = model(ids, None, labels).token_losses
            assert losses is not None and base is not None
            after.append(float(losses.double().sum()))
            before.append(float(base.double().sum()))
            tokens.append(len(losses))
            step()
    return Scored(np.asarray(before), np.asarray(after), np.asarray(tokens, dtype=np.int64))


def perplexities(scored: Scored, seed: int = SEED) -> dict[str, Any]:
    """Perplexity per answer token before and after, and their ratio, each with a 95 % interval (bootstrap over examples)."""
    n = len(scored.tokens)
    if not n:
        return {"examples": 0, "tokens": 0, "before": None, "after": None, "ratio": None}
    drawn = np.random.default_rng(seed).integers(0, n, size=(RESAMPLES, n))
    tokens = scored.tokens[drawn].sum(1)
    before, after = scored.before[drawn].sum(1) / tokens, scored.after[drawn].sum(1) / tokens
    whole = scored.tokens.sum()

    def row(value: float, samples: NDArray[np.float64]) -> dict[str, float]:
        low, high = np.exp(np.quantile(samples, [0.025, 0.975]))
        return {"value": round(math.exp(value), 3), "low": round(float(low), 3), "high": round(float(high), 3)}

    return {
        "examples": n,
        "tokens": int(whole),
        "before": row(scored.before.sum() / whole, before),
        "after": row(scored.after.sum() / whole, after),
        "ratio": row((scored.after.sum() - scored.before.sum()) / whole, after - before),
    }
