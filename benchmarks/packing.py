"""What packing costs: tokens per second by the length of sequences, padding, and loading: `results/packing.json`.

    python benchmarks/packing.py out/dataset

Rows of 8,192 tokens hold sequences of 512 to 8,192 tokens. A step may grow with the length only as attention does, so attention alone
(PyTorch's own, forward and backward, of as many layers, on the same shapes) is timed between the steps. Padding and loading are
those of a curated dataset (`attune data build`): tokens that a padded batch of as many examples would hold beside those of our
rows, and the time to make a step's batches beside the step's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import machine
import torch
from torch.nn import functional

from attunement.model.base import load_base
from attunement.model.moe_lora import MoEModel
from attunement.records import ModelConfig, TrainingConfig
from attunement.training.data import StepBatches, load_examples
from attunement.training.mixture import Mixture
from training import VOCABULARY, ours, step_of

LENGTHS = (512, 1024, 2048, 4096, 8192)
ROW = 8192
SHAPE = argparse.Namespace(hidden=512, inner=2048, layers=4, experts=8, rank=16, device="cpu", dtype="float32")
LOADED_STEPS = 20


def growth(runs: int) -> dict[str, Any]:
    """Seconds of a step and of its attention alone, by length."""
    model = ours(SHAPE)
    ids = torch.randint(0, VOCABULARY, (1, ROW))
    steps: dict[int, list[float]] = {length: [] for length in LENGTHS}
    alone: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for run in range(runs + 1):
        for length in LENGTHS:
            step = step_of(model, ids, (length,) * (ROW // length))
            for seconds, work in ((steps, step), (alone, lambda: attention(length))):  # noqa: B023
                started = time.perf_counter()
                work()
                if run:
                    seconds[length].append(time.perf_counter() - started)
    first = median(steps[LENGTHS[0]]), median(alone[LENGTHS[0]])
    out = {}
    for length in LENGTHS:
        step_seconds, attention_seconds = median(steps[length]), median(alone[length])
        out[str(length)] = {
            "step": round(step_seconds, 3),
            "attention alone": round(attention_seconds, 3),
            "tokens_per_second": round(ROW / step_seconds, 1),
            "step grew by": round(step_seconds - first[0], 3),
            "attention grew by": round(attention_seconds - first[1], 3),
        }
    return out


def attention(length: int) -> None:
    heads, groups, width = SHAPE.hidden // 64, max(1, SHAPE.hidden // 256), 64
    for _ in range(SHAPE.layers):
        q, k, v = (torch.randn(ROW // length, many, length, width, requires_grad=True) for many in (heads, groups, groups))
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).sum().backward()


def loading(dataset: Path) -> dict[str, Any]:
    """Padding and the time of loading, with the packaged base."""
    base, tokenizer = load_base("attunement-base", "cpu")
    examples = load_examples(dataset / "validation.jsonl", tokenizer, 1024)
    config = TrainingConfig()
    mixture = Mixture([e.share for e in examples], {}, config.max_repeats, config.seed)
    batches = StepBatches(
        examples, mixture, batch_size=32, micro_batch_size=config.micro_batch_size, micro_batch_tokens=config.micro_batch_tokens
    )
    model = MoEModel(base, ModelConfig(num_experts=8)).train()
    made, stepped, held, padded = [], [], 0, 0
    for number in range(LOADED_STEPS):
        started = time.perf_counter()
        parts = batches.batches(number)
        loaded = time.perf_counter()
        for part in parts if number < 3 else ():
            loss = model(part.input_ids, None, part.labels, lengths=part.lengths).loss
            assert loss is not None
            loss.backward()
        made.append(loaded - started)
        if number < 3:
            stepped.append(time.perf_counter() - loaded)
        held += sum(part.input_ids.numel() for part in parts)
        padded += sum(max(part.lengths) * len(part.lengths) for part in parts)
    learned = sum(sum(part.lengths) for number in range(LOADED_STEPS) for part in batches.batches(number))
    return {
        "examples": len(examples),
        "tokens": held,
        "padding": round(1 - learned / held, 4),
        "padding of padded batches": round(1 - learned / padded, 4),
        "loading of a step, seconds": round(median(made), 5),
        "a step, seconds": round(median(stepped), 3),
        "loading / step": round(median(made) / median(stepped), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    facts = {"machine": machine.describe(), "loading": loading(options.dataset), "growth": growth(options.runs)}
    machine.write("packing", facts)


if __name__ == "__main__":
    main()
