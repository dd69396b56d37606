"""A base held in 8 or 4 bits (QLoRA): it starts as itself, learns, comes back from its run, and nothing is fetched for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from attunement.errors import MissingExtraError
from attunement.model.base import load_base
from attunement.model.export import Export
from attunement.model.moe_lora import MoEModel, load_moe
from attunement.storage.files import read_jsonl
from attunement.training.data import dataset_of
from attunement.training.system import TrainingSystem
from conftest import TINY_MODEL, TINY_TRAINING


def bytes_of(base: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in base.parameters())


@pytest.mark.parametrize(("bits", "most"), [("8bit", 0.45), ("4bit", 0.36)])
def test_it_is_smaller_and_starts_as_itself(bits: str, most: float) -> None:
    base, tokenizer = load_base("attunement-base", "cpu", quantization=bits)
    assert bytes_of(base) < most * bytes_of(load_base("attunement-base", "cpu")[0])  # its embeddings stay as they are
    ids = torch.tensor([tokenizer("I can't sleep lately.").input_ids])
    with torch.no_grad():
        before = base(ids).logits
        model = MoEModel(base, replace(TINY_MODEL, quantization=bits)).eval()
        assert torch.equal(model(ids).logits, before)


def test_a_run_over_it_learns_serves_and_exports(tiny_dataset: Path, tmp_path: Path) -> None:
    system = TrainingSystem(tmp_path / "run", quiet=True)
    system.initialize_model(replace(TINY_MODEL, quantization="4bit"))
    system.train(dataset_of(tiny_dataset), replace(TINY_TRAINING, epochs=2))
    checked = [row["validation_loss"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl") if row["validation_loss"]]
    assert checked[-1] < checked[0] - 0.3
    model, tokenizer, _ = load_moe(tmp_path / "run", "cpu")
    assert model.config.quantization == "4bit"
    # What goes out is over the base's own weights: as near to the run as its weights are to the bits that held them.
    Export(tmp_path / "run").write(tmp_path / "out")
    standard = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.tensor([tokenizer("I feel sad since Monday. That sounds hard.").input_ids])
    with torch.no_grad():
        ours, theirs = model(ids).logits.log_softmax(-1), standard(ids).logits.log_softmax(-1)
    assert (theirs.exp() * (theirs - ours)).sum(-1).mean() < 0.05


def test_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"attunement\[qlora\]"):
        load_base("attunement-base", "cpu", quantization="4bit")


@pytest.mark.parametrize(
    "user",
    [
        "from attunement.model.base import load_base; load_base('attunement-base', 'cpu', quantization='4bit')",
        "from attunement.training.trl_trainers import require_trl; require_trl()",
    ],
    ids=["quantization", "trl"],
)
def test_native_code_from_a_hub_is_not_asked_for(user: str, tmp_path: Path) -> None:
    """bitsandbytes imports `kernels`, where it is installed, to fetch some: in a process of its own, as it happens on import."""
    (tmp_path / "kernels.py").write_text("print('ASKED', flush=True)\ndef get_kernel(*a, **k): print('FETCHED', flush=True)\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{user}\nassert 'bitsandbytes' in sys.modules; import kernels"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "ASKED\n", "only by the last line of the program, and nothing was fetched"
