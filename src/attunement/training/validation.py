"""What a model makes of the validation split, which the processes of a run divide among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from attunement.model.moe_lora import MoEModel
from attunement.training.data import Batch, Example, deal, pack, parts
from attunement.training.processes import Processes


def loss_of(model: MoEModel, examples: Sequence[Example], size: int, tokens: int, processes: Processes) -> float | None:
    """Mean loss per learned token, in nats; None without examples. `size` examples and `tokens` tokens at a time."""
    if not examples:
        return None

    def losses() -> list[float]:
        total, count = 0.0, 0
        for batch, counts in _dealt(model, examples, size, tokens, processes):
            found = model(batch.input_ids, None, batch.labels, lengths=batch.lengths).token_losses
            if counts:
                total, count = total + float(found.sum()), count + len(found)
        return [total, count]

    with torch.no_grad(), model.evaluating():
        total, count = processes.sums(processes.together(losses))
    return total / max(1, count)


def routing_of(model: MoEModel, examples: Sequence[Example], size: int, tokens: int, processes: Processes) -> dict[str, Any]:
    """Tokens by domain, layer and expert."""
    with torch.no_grad(), model.evaluating(), model.counting_usage() as usage:
        for batch, counts in _dealt(model, examples, size, tokens, processes):
            before = usage.clone()
            model(batch.input_ids, None, batch.labels, lengths=batch.lengths, domains=batch.domains)
            if not counts:
                usage.copy_(before)
    served = torch.tensor(processes.sums(usage.flatten().tolist())).long().view_as(usage)
    names = [*model.config.expert_domains[: len(usage) - 1], "no domain"]
    return {name: rows for name, rows in zip(names, served.tolist(), strict=True) if any(map(any, rows))}


def _dealt(
    model: MoEModel, examples: Sequence[Example], size: int, tokens: int, processes: Processes
) -> Iterator[tuple[Batch, bool]]:
    """This process's batches of `examples`, and whether each counts here."""
    lengths = [len(e.ids) for e in examples]
    cut = parts(range(len(examples)), lengths, size, tokens)
    costs = [sum(lengths[i] for i in part) for part in cut]
    for number, counts in deal(costs, processes.size, equal=processes.sharded)[processes.rank]:
        yield pack([examples[i] for i in cut[number]]).to(model.device), counts
