"""A run over a base that is a sparse Mixture of Experts: it learns, goes on to the same bits, and tells its routing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import OlmoeConfig, OlmoeForCausalLM
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.model.base import load_tokenizer
from attunement.model.moe_lora import MoEModel
from attunement.storage.files import read_json, read_jsonl
from attunement.training.data import dataset_of
from attunement.training.system import TrainingSystem
from conftest import TINY_MODEL, TINY_TRAINING

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("olmoe")
    tokenizer = load_tokenizer("attunement-base")
    torch.manual_seed(3)
    config = OlmoeConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, num_experts=6, num_experts_per_tok=3,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    OlmoeForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_that_breaks_goes_on_to_the_same_bits(
    checkpointing: bool, base: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = replace(TINY_TRAINING, gradient_checkpointing=checkpointing)

    def train(name: str) -> Path:
        system = TrainingSystem(tmp_path / name)
        model = system.initialize_model(replace(TINY_MODEL, base=str(base)))
        assert (model.config.num_experts, model.config.top_k) == (6, 3)
        return system.train(dataset_of(tiny_dataset), training).checkpoint

    whole, forward, calls = train("whole"), MoEModel.forward, []

    def breaking(self: MoEModel, *arguments: Any, **options: Any) -> Any:
        calls.append(self.training)
        if sum(calls) > 16:  # two micro-batches a step: in the ninth
            raise RuntimeError("the machine broke")
        return forward(self, *arguments, **options)

    monkeypatch.setattr(MoEModel, "forward", breaking)
    with pytest.raises(RuntimeError, match="the machine broke"):
        train("broken")
    assert read_json(tmp_path / "broken" / "run.json")["step"] == 6
    monkeypatch.undo()
    again = train("broken")
    found, wanted = (load_file(folder / "adapter.safetensors") for folder in (again, whole))
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    rows = [[row["loss"] for row in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("whole", "broken")]
    assert rows[0] == rows[1] and rows[0][-1] < rows[0][0] and len(rows[0]) == 18


def test_train_run_and_export_at_the_command_line(base: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    sets = ("model.lora_rank=4", "model.context_length=128", "training.batch_size=8", "training.epochs=1")
    options = [word for each in sets for word in ("--set", each)]
    command = ["train", "run", "--data", str(tiny_dataset), "--base", str(base), "--out", str(run), "--json", *options]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert json.loads(CliRunner().invoke(app, command).stdout) == json.loads(first.stdout)  # the finished run is given back
    assert read_json(run / "config.json")["model"]["num_experts"] == 6
    routing = read_json(run / "routing.json")
    tokens = {sum(layer) for rows in routing.values() for layer in rows}
    assert all(len(rows) == 2 and len(rows[0]) == 6 for rows in routing.values())
    assert tokens and all(count > 0 and count % 3 == 0 for count in tokens)
    assert (run / "routing.png").stat().st_size > 5_000 and (run / "training.html").is_file()
    assert all(row["router_balance"] == 0 for row in read_jsonl(run / "metrics.jsonl"))
    exported = CliRunner().invoke(app, ["export", "--run", str(run), "--out", str(out), "--json"])
    assert exported.exit_code == 0, exported.output
    told = json.loads(exported.stdout)
    assert told["architecture"] == "OlmoeForCausalLM" and told["largest_logit_difference"] < 1e-4
    dense = CliRunner().invoke(app, ["export", "--run", str(run), "--out", str(tmp_path / "dense"), "--format", "merged-dense"])
    assert dense.exit_code != 0 and "no dense model computes the same" in str(dense.output) + str(dense.exception)
