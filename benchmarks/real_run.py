"""A run on curated real data, killed three times, against a single LoRA with as many parameters: `results/real-run.json`.

    attune data build ../shared/data --out out/dataset
    python benchmarks/real_run.py out/dataset --out out/real-run

Every source is a domain of its own. The Mixture is trained by `attune train run`, killed by SIGKILL at three random steps, and started
again; steps that were lost are computed a second time and their losses compared. The single LoRA is `model.num_experts=1` with the
rank that comes nearest in parameters; everything else is the same. Held-out: the test split, whose conversations neither has
seen; intervals are over conversations, paired. Then the Mixture is exported, and a process in which this package cannot be
imported computes its logits. What is there already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from safetensors.torch import load_file

from attunement.model.base import load_base
from attunement.model.moe_lora import MoEModel, load_moe
from attunement.records import ModelConfig
from attunement.storage.files import read_json, read_jsonl, write_json, write_jsonl
from attunement.training.data import load_examples
from attunement.training.held_out import log_probabilities

EXPERTS, RANK, LONGEST = 8, 8, 512
SHARED = ["training.learning_rate=1e-3", "training.micro_batch_size=32", "training.micro_batch_tokens=4096",
          "training.source_balance={}", "training.batch_size=16", "training.epochs=1", "training.early_stopping_patience=99"]  # fmt: skip
ATTUNE = str(Path(sys.executable).with_name("attune"))
SAMPLED = {"train": 6000, "validation": 100}
"""Of the rows of a split, so many: more than so short a run sees."""
RESAMPLES = 4000
PLAIN = """
import sys; sys.modules["attunement"] = None
import json, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
rows = json.load(open(sys.argv[2]))
with torch.no_grad():
    save_file({str(i): model(torch.tensor([ids])).logits[0].contiguous() for i, ids in enumerate(rows)}, sys.argv[3])
"""


def prepare(dataset: Path, folder: Path) -> list[str]:
    """The splits with each row's source as its domain; returns the domains."""
    names = sorted({row["source"] for row in read_jsonl(dataset / "train.jsonl")})
    for split in ("train", "validation", "test"):
        rows = [{**row, "domain": row["source"]} for row in read_jsonl(dataset / f"{split}.jsonl")]
        if split in SAMPLED:
            rows = random.Random(0).sample(rows, min(SAMPLED[split], len(rows)))
        write_jsonl(folder / f"{split}.jsonl", rows)
    return names


def settings(domains: Sequence[str], experts: int, rank: int, steps: int) -> list[str]:
    model = [f"model.num_experts={experts}", f"model.top_k={min(2, experts)}", f"model.lora_rank={rank}",
             f"model.lora_alpha={2 * rank}", f"model.context_length={LONGEST}",
             f"model.expert_domains={json.dumps(list(domains))}"]  # fmt: skip
    steps_of = [f"training.max_steps={steps}", f"training.checkpoint_interval={interval_of(steps)}"]
    return [word for setting in (*model, *SHARED, *steps_of) for word in ("--set", setting)]


def interval_of(steps: int) -> int:
    return max(1, steps // 6)


def parameters(experts: int, rank: int) -> int:
    base, _ = load_base("attunement-base", "cpu")
    model = MoEModel(base, ModelConfig(num_experts=experts, top_k=min(2, experts), lora_rank=rank))
    return sum(p.numel() for p in model.trainable_parameters())


def start(data: Path, run: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    program = [ATTUNE, "train", "run", "--data", str(data), "--out", str(run), *words]
    return subprocess.Popen(program, env={**os.environ, "HF_HUB_OFFLINE": "1"})


def losses(run: Path) -> dict[int, float]:
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["step"]: row["loss"] for row in map(json.loads, filter(lambda line: line.endswith("}"), lines))}


def train_killed(data: Path, run: Path, words: Sequence[str], steps: int) -> dict[str, Any]:
    """Trains with three kills; how many losses that were computed twice differ."""
    chance, seen, kills, differ = random.Random(5), dict[int, float](), [], 0
    places = sorted(chance.sample(range(steps // 8, steps - steps // 8), 3))
    for place in [*places, None]:
        process = start(data, run, words)
        while process.poll() is None and (place is None or max(losses(run), default=0) < place):
            time.sleep(0.1)
        if place is not None and process.poll() is None:
            process.kill()
            kills.append(max(losses(run)))
        code = process.wait()
        assert place is not None or code == 0, "the run failed: see above"
        found = losses(run)
        differ += sum(found[step] != seen[step] for step in found if step in seen)
        seen |= found
    return {"killed_after_step": kills, "of_these_different": differ}


def twice(kills: dict[str, Any], steps: int) -> int:
    """Steps since the last checkpoint before each kill."""
    return sum(step % interval_of(steps) for step in kills["killed_after_step"])


def paired(nats: dict[str, np.ndarray], counts: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Perplexities, and the 95 % interval of Mixture over single LoRA; whole conversations are drawn."""
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sums = {name: np.bincount(group, values) for name, values in nats.items()}
    sizes = np.bincount(group, counts)
    drawn = np.random.default_rng(0).integers(0, len(sizes), (RESAMPLES, len(sizes)))
    ratio = np.exp((sums["mixture"] - sums["single LoRA"])[drawn].sum(1) / sizes[drawn].sum(1))
    low, high = np.quantile(ratio, (0.025, 0.975))
    return {
        "conversations": len(sizes),
        "perplexity": {name: round(float(np.exp(values.sum() / counts.sum())), 3) for name, values in nats.items()},
        "mixture over single": round(float(np.exp((nats["mixture"] - nats["single LoRA"]).sum() / counts.sum())), 4),
        "interval_95": [round(float(low), 4), round(float(high), 4)],
    }


def held_out(data: Path, runs: dict[str, Path]) -> dict[str, Any]:
    rows = list(read_jsonl(data / "test.jsonl"))
    nats: dict[str, np.ndarray] = {}
    counts = np.zeros(0)
    for name, run in runs.items():
        model, tokenizer, _ = load_moe(run, "cpu")
        examples = load_examples(data / "test.jsonl", tokenizer, LONGEST)
        sums, counts = log_probabilities(model, examples)
        nats[name] = -sums
        if "base" not in nats:
            with model.adapters_off():
                nats["base"] = -log_probabilities(model, examples)[0]
    groups, sources = [row["conversation_id"] for row in rows], np.asarray([row["source"] for row in rows])
    out = {"all": paired(nats, counts, groups)}
    for source in sorted(set(sources)):
        at = np.flatnonzero(sources == source)
        out[source] = paired({n: v[at] for n, v in nats.items()}, counts[at], [groups[i] for i in at])
    return out


def exported(run: Path, data: Path, folder: Path) -> dict[str, Any]:
    """The export's logits in a process without this package, beside the run's."""
    export = folder / "export"
    if not export.exists():
        words = ["export", "--run", str(run), "--format", "hf-moe", "--dtype", "float32", "--out", str(export)]
        subprocess.run([ATTUNE, *words], check=True)
    model, tokenizer, _ = load_moe(run, "cpu")
    shown = [list(e.ids) for e in load_examples(data / "test.jsonl", tokenizer, LONGEST)[:8]]
    write_json(folder / "shown.json", shown)
    plain = [sys.executable, "-c", PLAIN, str(export), str(folder / "shown.json"), str(folder / "logits.safetensors")]
    subprocess.run(plain, check=True)
    found = load_file(folder / "logits.safetensors")
    with torch.no_grad():
        differences = [float((model(torch.tensor([ids])).logits[0] - found[str(i)]).abs().max()) for i, ids in enumerate(shown)]
    return {"texts": len(shown), "tokens": sum(map(len, shown)), "largest_difference": max(differences)}


def told_of(runs: dict[str, Path]) -> dict[str, Any]:
    """What each run was, and what it reached on the validation split."""
    out = {}
    for name, run in runs.items():
        config, state = read_json(run / "config.json"), read_json(run / "run.json")
        kept = ("num_experts", "lora_rank", "lora_alpha", "attention_rank", "shared_rank")
        adapter = read_json(run / "checkpoints" / state["best"] / "moe.json")
        out[name] = {
            "model": {key: config["model"].get(key, 0) for key in kept},
            "learning_rate": config["training"]["learning_rate"],
            "trainable": adapter["trainable_parameters"],
            "metrics": state["metrics"],
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar="RUN", help="only: a Mixture's run and a single LoRA's on OUT's data"
    )
    options = parser.parse_args()
    data = options.out / "data"
    if options.compare:
        runs = dict(zip(("mixture", "single LoRA"), options.compare, strict=True))
        machine.write(
            "real-run-best-rates", {"machine": machine.describe(), "runs": told_of(runs), "held_out": held_out(data, runs)}
        )
        return
    domains = prepare(options.dataset, data) if not (data / "test.jsonl").exists() else []
    domains = domains or sorted({row["source"] for row in read_jsonl(data / "train.jsonl")})
    wanted = parameters(EXPERTS, RANK)
    single = min(range(RANK, 16 * RANK), key=lambda rank: abs(parameters(1, rank) - wanted))
    runs = {"mixture": options.out / "mixture", "single LoRA": options.out / "single"}
    words = settings(domains, EXPERTS, RANK, options.steps)
    if not (options.out / "kills.json").exists():
        write_json(options.out / "kills.json", train_killed(data, runs["mixture"], words, options.steps))
    if (code := start(data, runs["single LoRA"], settings(domains, 1, single, options.steps)).wait()) != 0:
        sys.exit(code)
    facts = {
        "machine": machine.describe(),
        "dataset": {"examples": read_json(runs["mixture"] / "config.json")["examples"], "domains": domains},
        "base": "attunement-base",
        "steps": options.steps,
        "mixture": {"experts": EXPERTS, "rank": RANK, "trainable": wanted},
        "single": {"rank": single, "trainable": parameters(1, single)},
        "seconds": {name: read_json(run / "run.json")["metrics"]["seconds"] for name, run in runs.items()},
        "kills": {**(kills := read_json(options.out / "kills.json")), "steps_computed_twice": twice(kills, options.steps)},
        "held_out": held_out(data, runs),
        "export": exported(runs["mixture"], data, options.out),
    }
    machine.write("real-run", facts)


if __name__ == "__main__":
    main()
