"""The next token of many replies at once, each drawn by its own settings as Transformers' `generate` draws it.

Shapes: n replies, V words of the vocabulary, k the likeliest that are looked at.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attunement.records import GenerationConfig


@dataclass
class Draw:
    """How one reply is drawn. `seen` `[V]` marks the tokens of its talk so far, the prompt's too; None where there is no penalty."""

    generation: GenerationConfig
    random: random.Random
    seen: Tensor | None = None

    @classmethod
    def of(
        cls, generation: GenerationConfig, seed: int | None, prompt: Sequence[int], vocabulary: int, device: torch.device
    ) -> Draw:
        seen = None
        if generation.repetition_penalty != 1:
            seen = torch.zeros(vocabulary, dtype=torch.bool, device=device)
            seen[torch.tensor(prompt, device=device)] = True
        return cls(generation, random.Random(seed), seen)

    def note(self, token: int) -> None:
        """The reply goes on with `token`."""
        if self.seen is not None:
            self.seen[token] = True


@dataclass
class Sampler:
    """Draws. `top_k` is the base's own setting, which `generate` takes too; 0 is the whole vocabulary."""

    top_k: int = 50

    def __call__(self, logits: Tensor, draws: Sequence[Draw]) -> tuple[list[int], list[float]]:
        """The tokens drawn from `logits` `[n, V]` (float32), and the log-probabilities that the model gave them."""
        scores = _penalised(logits, draws)
        tokens = scores.argmax(-1)
        drawn = [n for n, draw in enumerate(draws) if draw.generation.temperature > 0]
        if drawn:
            some = scores[torch.tensor(drawn, device=scores.device)] if len(drawn) < len(draws) else scores
            found = self._sampled(some, [draws[n] for n in drawn])
            tokens = tokens.index_copy(0, torch.tensor(drawn, device=scores.device), found) if some is not scores else found
        told = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        return tokens.tolist(), told.tolist()

    def _sampled(self, scores: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Temperature, the `top_k` likeliest, of these the nucleus; then one point of each reply's own random numbers."""
        wanted = [(d.generation.temperature, d.generation.top_p, d.random.random()) for d in draws]
        heat, top_p, point = torch.tensor(wanted, device=scores.device).T.unsqueeze(-1).unbind()
        best, places = (scores / heat).topk(min(self.top_k or scores.shape[1], scores.shape[1]), dim=-1)
        shares = best.softmax(-1)
        before = shares.cumsum(-1) - shares
        shares = torch.where(before < top_p, shares, 0.0)
        shares[:, 0].clamp_(min=torch.finfo(shares.dtype).tiny)
        upto = shares.cumsum(-1)
        chosen = (upto <= point * upto[:, -1:]).sum(-1, keepdim=True)
        last = (shares > 0).sum(-1, keepdim=True) - 1  # a point may be rounded to 1
        return places.gather(1, torch.minimum(chosen, last))[:, 0]


def _penalised(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Keskar 2019 as Transformers has it: what was said before is made less likely, once however often."""
    rows = [n for n, draw in enumerate(draws) if draw.seen is not None]
    if not rows:
        return logits
    at = torch.tensor(rows, device=logits.device)
    some = logits[at]
    seen = torch.stack([s for n in rows if (s := draws[n].seen) is not None])
    penalty = torch.tensor([[draws[n].generation.repetition_penalty] for n in rows], device=logits.device)
    changed = torch.where(seen, torch.where(some < 0, some * penalty, some / penalty), some)
    return logits.index_copy(0, at, changed)
