"""Bases that are a sparse Mixture of Experts already: the same model, with PEFT's LoRA, from its base to its export."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.errors import MissingExtraError, ModelError
from attunement.model.base import load_base, load_tokenizer
from attunement.model.checkpoint import read_description
from attunement.model.export import largest_difference, write_adapter
from attunement.model.moe_lora import MoEModel, load_moe
from attunement.model.sparse import sparse_blocks
from attunement.model.sparse_export import plan_export
from attunement.records import ModelConfig
from conftest import greedy, losses_one_by_one

peft = pytest.importorskip("peft")

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ROUTED: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2}
CONFIG = ModelConfig(num_experts=4, top_k=2, lora_rank=3, lora_alpha=6, dropout=0.0, context_length=64)
IDS = torch.randint(0, 96, (2, 11), generator=torch.Generator().manual_seed(1))


def new_base(family: str, **changes: Any) -> Any:
    """A tiny random one; routers are drawn wide, so that experts are chosen clearly."""
    sizes = {**SIZES, **changes}
    torch.manual_seed(3)
    if family == "mixtral":
        base = MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4, num_experts_per_tok=2))
    elif family == "qwen3_moe":
        base = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **ROUTED, head_dim=8, moe_intermediate_size=24, norm_topk_prob=True))
    else:
        base = OlmoeForCausalLM(OlmoeConfig(**sizes, **ROUTED))
    with torch.no_grad():
        for layer in base.model.layers:
            layer.mlp.gate.weight.copy_(torch.randn(layer.mlp.gate.weight.shape))
    return base.eval()


def trained(model: MoEModel) -> MoEModel:
    """As if trained: no adapter is zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def saved_base(family: str, folder: Path) -> Path:
    """On disk, with the tokenizer of the packaged base."""
    tokenizer = load_tokenizer("attunement-base")
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    new_base(family, vocab_size=len(tokenizer), max_position_embeddings=256, **ends).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def saved_checkpoint(family: str, folder: Path) -> Path:
    base, _ = load_base(str(saved_base(family, folder / "base")), "cpu")
    trained(MoEModel(base, replace(CONFIG, base=str(folder / "base")))).eval().save(folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(params=["mixtral", "qwen3_moe", "olmoe"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_starts_as_its_base_to_the_bit(family: str) -> None:
    base = new_base(family)
    with torch.no_grad():
        before = base(IDS).logits
        model = MoEModel(base, replace(CONFIG, dropout=0.3))
        assert torch.equal(model.train()(IDS).logits, before)  # with dropout, too: B is zero
        assert torch.equal(model.eval()(IDS).logits, before)


def test_only_lora_on_attention_and_experts_learns(family: str) -> None:
    model = MoEModel(new_base(family), CONFIG)
    shapes = {name.removeprefix("base.model.layers.1."): tuple(p.shape) for name, p in model.named_trainable() if ".1." in name}
    inner = 24 if family == "qwen3_moe" else 48
    sites = {"mlp.experts": (inner, 32, 4), "mlp.experts.base_layer": (32, 2 * inner, 4)}
    sites |= {f"self_attn.{n}": (32, 16 if n in ("k_proj", "v_proj") else 32, 1) for n in CONFIG.target_modules}
    assert shapes == {
        f"{site}.lora_{letter}.default.weight": (3 * count, inputs) if letter == "A" else (outputs, 3 * count)
        for site, (inputs, outputs, count) in sites.items()
        for letter in "AB"
    }
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    before = model.adapter_state()["base.model.layers.0.mlp.experts.base_layer.lora_B.default.weight"].clone()
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=1e-2)
    model.train()
    for _ in range(3):
        out = model(IDS, torch.ones_like(IDS), IDS)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not out.router_losses.any() and out.loss == out.language_loss
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
    assert not torch.equal(now["base.model.layers.0.mlp.experts.base_layer.lora_B.default.weight"], before)
    with torch.no_grad(), model.evaluating(), model.adapters_off():
        off = model(IDS).logits
    with torch.no_grad(), model.evaluating():
        assert torch.equal(off, new_base(family)(IDS).logits)
        assert not torch.allclose(model(IDS).logits, off, atol=1e-3)
    assert all(p.requires_grad for p in model.trainable_parameters()) and len(model.named_trainable()) == 2 * 6 * 2


def test_the_loss_is_that_of_the_labelled_tokens_and_padding_changes_nothing(family: str) -> None:
    model = trained(MoEModel(new_base(family), CONFIG)).eval()
    padded = torch.cat([IDS, torch.full((2, 5), 7)], 1)
    mask = (torch.arange(16) < 11).long().expand(2, -1)
    with torch.no_grad():
        short, logits = model(IDS, torch.ones_like(IDS), IDS), model(IDS).logits
        expected = functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        assert short.loss == pytest.approx(float(expected), rel=1e-5)
        assert model(padded, mask, torch.where(mask.bool(), padded, -100)).loss == pytest.approx(float(short.loss), rel=1e-4)
        with model.counting_usage() as usage:
            model(padded, mask)
    assert usage.sum(-1).tolist() == [[0, 0]] * 3 + [[2 * 11 * 2] * 2]  # no token has a domain


def test_usage_is_what_the_base_says_that_its_router_chose(family: str) -> None:
    model = trained(MoEModel(new_base(family), CONFIG)).eval()
    domains = torch.tensor([[0] * 4 + [2] * 7, [-1] * 11])
    with torch.no_grad():
        with model.counting_usage() as usage:
            model(IDS, domains=domains)
            with model.adapters_off():
                model(IDS)  # what the base does is no use of this model's
        logits = model.base(IDS, output_router_logits=True).router_logits
    for layer, router in enumerate(logits):
        chosen = functional.one_hot(router.topk(2).indices, 4).sum(1)
        flat = domains.flatten()
        for row, domain in enumerate((0, 1, 2, -1)):
            assert usage[row, layer].tolist() == chosen[flat == domain].sum(0).tolist()


def test_a_packed_row_is_its_sequences_one_by_one(family: str) -> None:
    model = trained(MoEModel(new_base(family), CONFIG)).eval()
    lengths = (5, 11, 3)
    ids = torch.randint(0, 96, (1, sum(lengths)), generator=torch.Generator().manual_seed(8))
    labels = ids.clone()
    labels[0, torch.tensor([0, 5, 16])] = -100
    whole = model(ids, None, labels, lengths=lengths)
    whole.token_losses.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_trainable()}
    model.zero_grad()
    torch.testing.assert_close(whole.token_losses, losses_one_by_one(model, ids, labels, lengths), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_trainable():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(family: str) -> None:
    found = []
    for checkpointing in (False, True):
        model = trained(MoEModel(new_base(family), CONFIG)).train()
        if checkpointing:
            model.enable_checkpointing()
        model(IDS[:1], None, IDS[:1], lengths=(11,)).loss.backward()
        found.append({name: p.grad for name, p in model.named_trainable()})
    assert all(float(gradient.abs().max()) > 0 for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_generation_with_a_cache_is_greedy_decoding(family: str) -> None:
    model = trained(MoEModel(new_base(family), CONFIG)).eval()
    ids = IDS[:1, :5]
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    with model.adapters_off():
        off = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    with torch.no_grad(), model.adapters_off():  # what was merged for it is out again
        base = new_base(family)
        assert torch.equal(off, base.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options))
        assert torch.equal(model(IDS).logits, base(IDS).logits) and not torch.equal(off, found)
    assert torch.equal(found, greedy(model, ids, 8))


def test_a_seed_means_one_model_and_16_bits_keep_their_factors_exact(family: str) -> None:
    one, same, other = (MoEModel(new_base(family), CONFIG, seed).adapter_state() for seed in (17, 17, 18))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    base = new_base(family).bfloat16()
    with torch.no_grad():
        before = base(IDS).logits
        model = MoEModel(base, CONFIG).eval()
        assert torch.equal(model(IDS).logits, before)
    assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}
    assert all(torch.equal(one[name], tensor) for name, tensor in model.adapter_state().items())


def test_experts_and_top_k_are_the_bases_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "attunement.model"):
        model = MoEModel(new_base("olmoe"), ModelConfig(context_length=8192))
    assert (model.config.num_experts, model.config.top_k, model.config.context_length) == (4, 2, 64)
    assert [record.getMessage() for record in caplog.records] == [
        "the base is a Mixture of 4 experts, 2 a token: these stay, model.num_experts=8 and model.top_k=2 do not count"
    ]
    caplog.clear()
    MoEModel(new_base("olmoe"), CONFIG)
    assert not caplog.records


def test_dropout_is_for_attention_only() -> None:
    model = MoEModel(new_base("qwen3_moe"), replace(CONFIG, dropout=0.25))
    dropped = {
        name.rpartition(".lora_dropout")[0]: part.p for name, part in model.named_modules() if type(part).__name__ == "Dropout"
    }
    assert {name.rpartition(".")[2] for name in dropped} == set(CONFIG.target_modules) and set(dropped.values()) == {0.25}


def test_a_base_of_dense_and_sparse_layers_counts_the_sparse_ones() -> None:
    torch.manual_seed(3)
    base = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **ROUTED, head_dim=8, moe_intermediate_size=24, mlp_only_layers=[0]))
    assert len(sparse_blocks(base.model.layers)) == 1
    model = MoEModel(base, CONFIG).eval()
    with torch.no_grad(), model.counting_usage() as usage:
        model(IDS)
    assert usage.sum(-1).tolist() == [[0]] * 3 + [[2 * 11 * 2]]


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"lacks w_proj: name its projections in model\.target_modules"):
        MoEModel(new_base("mixtral"), replace(CONFIG, target_modules=("q_proj", "w_proj")))
    other = GptOssForCausalLM(GptOssConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2, head_dim=8))
    with pytest.raises(ModelError, match="or a sparse one"):  # its experts have biases, and lie transposed
        MoEModel(other, CONFIG)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"attunement\[sparse\]"):
        MoEModel(new_base("mixtral"), CONFIG)


# --- on disk ------------------------------------------------------------------------------------------------


def test_a_saved_model_comes_back_to_the_bit(family: str, tmp_path: Path) -> None:
    checkpoint = saved_checkpoint(family, tmp_path)
    model, _, info = load_moe(checkpoint, "cpu")
    assert info["kind"] == "sparse" and not model.training and info["trainable_parameters"] < 20_000
    ids = torch.randint(3, 6000, (2, 20), generator=torch.Generator().manual_seed(4))
    again, _ = load_base(str(tmp_path / "base"), "cpu")
    with torch.no_grad():
        assert torch.equal(trained(MoEModel(again, model.config)).eval()(ids).logits, model(ids).logits)
    with pytest.raises(ModelError, match="do not fit this model"):
        model.load_adapter(MoEModel(new_base(family), CONFIG).adapter_state() | {"other": torch.zeros(1)})
    write_adapter(checkpoint, tmp_path / "adapter")
    assert read_description(tmp_path / "adapter")["kind"] == "sparse"
    assert "LoRA of rank 3 on its own 4 experts" in (tmp_path / "adapter" / "README.md").read_text()
    with torch.no_grad():
        assert torch.equal(load_moe(tmp_path / "adapter", "cpu")[0](ids).logits, model(ids).logits)


def test_the_export_is_the_bases_architecture_with_the_same_logits(family: str, tmp_path: Path) -> None:
    checkpoint = saved_checkpoint(family, tmp_path)
    written = plan_export(checkpoint).write(tmp_path / "out", shard_bytes=200_000)
    base, told = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32, output_loading_info=True)
    assert type(base).__name__ == written.architecture == type(new_base(family)).__name__
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    assert largest_difference(checkpoint, tmp_path / "out") < 1e-4
    run, _, _ = load_moe(checkpoint, "cpu")
    ids = torch.randint(3, 6000, (3, 60), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(base(ids).logits, run(ids).logits, rtol=0, atol=1e-4)
        with run.adapters_off():  # the test can fail: the adapters do much more than the tolerance
            assert (base(ids).logits - run(ids).logits).abs().max() > 0.05


def test_the_export_loads_where_this_package_and_peft_are_not(tmp_path: Path) -> None:
    checkpoint = saved_checkpoint("mixtral", tmp_path)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", "--run", str(checkpoint), "--out", str(out), "--json"])
    told = json.loads(done.stdout)
    assert told["architecture"] == "MixtralForCausalLM" and told["largest_logit_difference"] < 1e-4
    ids = torch.randint(3, 6000, (1, 50), generator=torch.Generator().manual_seed(4))
    program = (
        "import sys; sys.modules['attunement'] = sys.modules['peft'] = None\n"
        "import torch; from transformers import AutoModelForCausalLM\n"
        f"m = AutoModelForCausalLM.from_pretrained({str(out)!r}, dtype=torch.float32)\n"
        f"torch.save(m(torch.tensor({ids.tolist()})).logits.detach(), {str(tmp_path / 'logits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    run, _, _ = load_moe(checkpoint, "cpu")
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "logits.pt", weights_only=True), run(ids).logits, rtol=0, atol=1e-4)


def test_no_dense_model_computes_the_same(tmp_path: Path) -> None:
    checkpoint = saved_checkpoint("olmoe", tmp_path)
    with pytest.raises(ModelError, match=r"4 experts and a router .* no dense model computes the same.* which is exact$"):
        plan_export(checkpoint, dense=True)
    plan = plan_export(checkpoint)
    plan._files = {name: path for name, path in plan._files.items() if "experts.3" not in name and ".1." not in name}  # type: ignore[misc]
    with pytest.raises(ModelError, match=r"no tensors for model\.layers\.1\..* --format adapter"):
        plan.entries()
