"""The export: standard architectures give the run's logits without this package, and what is not exact is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from attunement.errors import IntegrityError, ModelError
from attunement.model.base import load_base, load_tokenizer
from attunement.model.export import Export, largest_difference, write_adapter
from attunement.model.moe_lora import MoEModel, load_adapter_file, load_moe
from attunement.records import ModelConfig

SIZES: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
LONG_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 32}  # fmt: skip
FAMILIES: dict[str, tuple[Any, str]] = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES)), "MixtralForCausalLM"),
    "llama, tied": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)), "MixtralForCausalLM"),
    "llama, wide heads": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=32)), "MixtralForCausalLM"),
    "llama, scaled rope": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LONG_ROPE)), "Qwen2MoeForCausalLM"),
    "mistral, window": (lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)), "MixtralForCausalLM"),
    "qwen2": (lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)), "Qwen2MoeForCausalLM"),
    "qwen3": (lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32)), "Qwen3MoeForCausalLM"),
}
CONFIG = ModelConfig(num_experts=4, top_k=2, lora_rank=3, lora_alpha=6, dropout=0.0, context_length=64)


def checkpoint_of(base: Any, folder: Path, config: ModelConfig = CONFIG, **saving: Any) -> Path:
    """A base on disk with random norms and biases, and a checkpoint over it in which no adapter is zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
            elif "embed" not in name:
                parameter.mul_(3)
    base.save_pretrained(folder / "base", **saving)
    load_tokenizer("attunement-base").save_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    model = MoEModel(base, replace(config, base=str(folder / "base"))).eval()
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save(folder / "checkpoint")
    return folder / "checkpoint"


@pytest.mark.parametrize("shared_rank", [0, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_export_gives_the_same_logits(family: str, shared_rank: int, tmp_path: Path) -> None:
    make, architecture = FAMILIES[family]
    torch.manual_seed(1)
    checkpoint = checkpoint_of(make(), tmp_path, replace(CONFIG, shared_rank=shared_rank, attention_rank=shared_rank))
    written = Export(checkpoint).write(tmp_path / "out", shard_bytes=200_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1 and index["metadata"]["total_size"] == written.bytes
    assert written.architecture == architecture
    standard, told = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32, output_loading_info=True)
    assert type(standard).__name__ == architecture
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert sum(p.numel() for p in standard.parameters()) == written.parameters
    assert largest_difference(checkpoint, tmp_path / "out") < 1e-4
    run, tokenizer, _ = load_moe(checkpoint, "cpu")
    ids = torch.randint(0, 320, (3, 40), generator=torch.Generator().manual_seed(2))
    ids = torch.cat([ids, ids], 1)[:, :60]
    with torch.no_grad():
        torch.testing.assert_close(standard(ids).logits, run(ids).logits, rtol=0, atol=1e-4)
        with run.adapters_off():  # the test can fail: the adapters do much more than the tolerance
            assert (standard(ids).logits - run.base(ids).logits).abs().max() > 0.05
    assert (tmp_path / "out" / "chat_template.jinja").is_file() or tokenizer.chat_template


def test_it_loads_where_this_package_is_not(tiny_run: Path, tmp_path: Path) -> None:
    """Another interpreter that may not import us, on the packaged base with a trained run."""
    out = tmp_path / "out"
    Export(tiny_run, dtype="float32").write(out)
    run, _, _ = load_moe(tiny_run, "cpu")
    ids = torch.randint(3, 6000, (1, 50), generator=torch.Generator().manual_seed(4))
    program = (
        "import sys; sys.modules['attunement'] = None\n"
        "import torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"m = AutoModelForCausalLM.from_pretrained({str(out)!r}, dtype=torch.float32)\n"
        f"t = AutoTokenizer.from_pretrained({str(out)!r})\n"
        "assert t.apply_chat_template([{'role': 'user', 'content': 'hello'}], tokenize=False, add_generation_prompt=True)\n"
        f"torch.save(m(torch.tensor({ids.tolist()})).logits.detach(), {str(tmp_path / 'logits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "logits.pt", weights_only=True), run(ids).logits, rtol=0, atol=1e-4)
    manifest = json.loads((out / "attunement.json").read_text())
    assert (
        manifest["run"] == "tiny"
        and manifest["dataset_sha256"]
        and set(manifest["files"]) >= {"config.json", "model.safetensors"}
    )
    assert "no replacement for a clinician" in (out / "README.md").read_text()


def test_in_16_bits_it_is_as_near_as_16_bits_are(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(FAMILIES["llama"][0](), tmp_path)
    Export(checkpoint, dtype="bfloat16").write(tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    run, _, _ = load_moe(checkpoint, "cpu")
    ids = torch.randint(0, 320, (2, 60), generator=torch.Generator().manual_seed(2))
    standard = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad():
        ours, theirs = run(ids).logits.log_softmax(-1), standard(ids).logits.log_softmax(-1)
    assert (ours.exp() * (ours - theirs)).sum(-1).mean() < 5e-3


def test_one_expert_is_a_dense_model(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(FAMILIES["llama"][0](), tmp_path, replace(CONFIG, num_experts=1, top_k=1))
    written = Export(checkpoint, dense=True).write(tmp_path / "out")
    assert written.architecture == "LlamaForCausalLM" and largest_difference(checkpoint, tmp_path / "out") < 1e-4


def test_what_is_not_exact_is_refused(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(FAMILIES["llama"][0](), tmp_path)
    with pytest.raises(ModelError, match="no dense model computes the same"):
        Export(checkpoint, dense=True)
    with pytest.raises(ModelError, match="cannot be written as 'int3'"):
        Export(checkpoint, dtype="int3")
    biased = checkpoint_of(LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True)), tmp_path / "biased")
    with pytest.raises(ModelError, match="attention has biases"):
        Export(biased)
    other = checkpoint_of(FAMILIES["qwen3"][0](), tmp_path / "other")
    with pytest.raises(IntegrityError, match="is not the one"):
        Export(checkpoint, base=str(tmp_path / "other" / "base"))
    (tmp_path / "there").mkdir()
    with pytest.raises(ModelError, match="exists"):
        Export(other).write(tmp_path / "there")


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    checkpoint = checkpoint_of(FAMILIES["llama"][0](), tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"its disk has 0\.0 GB left"):
        Export(checkpoint).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_adapter_alone(tiny_run: Path, tmp_path: Path) -> None:
    written = write_adapter(tiny_run, tmp_path / "adapter")
    run, _, _ = load_moe(tiny_run, "cpu")
    again, _, _ = load_moe(tmp_path / "adapter", "cpu")
    ids = torch.randint(3, 6000, (1, 20), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert torch.equal(run(ids).logits, again(ids).logits)
    assert written.bytes == (tmp_path / "adapter" / "adapter.safetensors").stat().st_size
    with pytest.raises(ModelError, match="exists"):
        write_adapter(tiny_run, tmp_path / "adapter")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_lengthened_context_goes_with_it(family: str, tmp_path: Path) -> None:
    """Also beyond the base's own 64 positions, where an export without the scaling would go wrong."""
    checkpoint = checkpoint_of(FAMILIES[family][0](), tmp_path)
    settings = replace(CONFIG, base=str(tmp_path / "base"), context_length=256, rope_scaling={"rope_type": "yarn", "factor": 4.0})
    base, _ = load_base(settings.base, "cpu", rope_scaling=settings.rope_scaling)
    model = MoEModel(base, settings).eval()
    assert model.config.context_length == 256
    model.load_adapter(load_adapter_file(checkpoint))
    model.save(tmp_path / "long")
    Export(tmp_path / "long").write(tmp_path / "out")
    standard = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert standard.config.max_position_embeddings == 256
    ids = torch.randint(0, 320, (1, 200), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(standard(ids).logits, model(ids).logits, rtol=0, atol=1e-4)
    with pytest.raises(ModelError, match="needs rope_type and factor"):
        load_base(settings.base, "cpu", rope_scaling={"factor": 2.0})
