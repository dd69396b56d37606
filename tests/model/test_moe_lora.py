"""The Mixture of LoRA experts: equal to its definition, to its base before training, and to itself after saving."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from attunement.errors import IntegrityError, ModelError
from attunement.model.base import load_base, load_tokenizer, pick_device, resolve_base
from attunement.model.checkpoint import atomic_folder, find_checkpoint, read_description
from attunement.model.experts import ExpertFeedForward, domain_loss, load_balancing_loss
from attunement.model.mixing import MaskedMix, mix_few
from attunement.model.moe_lora import MoEModel, load_moe
from attunement.model.segments import SegmentMix
from attunement.records import ModelConfig
from conftest import greedy, losses_one_by_one

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
CONFIG = ModelConfig(num_experts=4, top_k=2, lora_rank=3, lora_alpha=6, dropout=0.0, context_length=64)


def new_base(family: str) -> Any:
    torch.manual_seed(3)
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)).eval()


def trained(model: MoEModel) -> MoEModel:
    """As if trained: no adapter is zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture(params=["llama", "qwen3"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


IDS = torch.randint(0, 96, (2, 11), generator=torch.Generator().manual_seed(1))


def naive(block: ExpertFeedForward, x: Tensor) -> Tensor:
    """The definition, token by token and expert by expert, in float64."""
    dense, scale = block.dense.double(), block.scale
    tokens = x.double().flatten(0, -2)
    probabilities = (tokens @ block.router.weight.double().T).softmax(-1)
    weights, chosen = probabilities.topk(block.top_k, dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    rows = []
    for n, token in enumerate(tokens.split(1)):
        total = torch.zeros(1, tokens.shape[1], dtype=torch.float64)
        for k in range(block.top_k):
            e = int(chosen[n, k])
            gate = dense.gate_proj(token) + scale * (token @ block.gate_up_a[0, e].double().T) @ block.gate_b[e].double()
            up = dense.up_proj(token) + scale * (token @ block.gate_up_a[1, e].double().T) @ block.up_b[e].double()
            hidden = dense.act_fn(gate) * up
            down = dense.down_proj(hidden) + scale * (hidden @ block.down_a[e].double().T) @ block.down_b[e].double()
            total = total + weights[n, k] * down
        rows.append(total)
    return torch.cat(rows).view(x.shape)


@pytest.mark.parametrize(("top_k", "shared_rank"), [(1, 0), (2, 0), (4, 0), (2, 5)])
def test_the_layer_is_its_definition_with_its_gradients(family: str, top_k: int, shared_rank: int) -> None:
    block = trained(MoEModel(new_base(family), replace(CONFIG, top_k=top_k, shared_rank=shared_rank)))._layers[1].mlp
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2), requires_grad=True)
    out = block(x)
    parameters = [p for p in block.parameters() if p.requires_grad]
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    found = torch.autograd.grad((out * direction).sum(), [x, *parameters], allow_unused=True)
    expected = naive(block, x)
    wanted = torch.autograd.grad((expected * direction.double()).sum(), [x, *parameters], allow_unused=True)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        if other is None or float(other.abs().max()) < 1e-12:  # with one expert a token, its weight is always 1
            assert one is None or float(one.abs().max()) < 1e-6
        else:
            torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared_rank", [0, 5])
def test_it_starts_as_its_base_to_the_bit(family: str, shared_rank: int) -> None:
    base = new_base(family)
    with torch.no_grad():
        before = base(IDS).logits
        assert torch.equal(MoEModel(base, replace(CONFIG, shared_rank=shared_rank)).eval()(IDS).logits, before)


def test_only_adapters_and_routers_learn(family: str) -> None:
    model = MoEModel(new_base(family), CONFIG)
    names = {name.rsplit(".", 1)[1] for name, _ in model.named_trainable()}
    assert names == {"a", "b", "weight", "gate_up_a", "gate_b", "up_b", "down_a", "down_b"}
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=1e-2)
    model.train()
    for _ in range(3):
        loss = model(IDS, torch.ones_like(IDS), IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
    with torch.no_grad(), model.evaluating(), model.adapters_off():
        off = model(IDS).logits
    with torch.no_grad():
        assert torch.equal(off, new_base(family)(IDS).logits)
        assert not torch.allclose(model(IDS).logits, off, atol=1e-3)


def test_the_loss_is_that_of_the_labelled_tokens(family: str) -> None:
    model = trained(MoEModel(new_base(family), CONFIG)).eval()
    labels = IDS.clone()
    labels[:, :4] = -100
    labels[1, 9:] = -100
    with torch.no_grad():
        out, logits = model(IDS, torch.ones_like(IDS), labels), model(IDS).logits
        expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    assert out.language_loss == pytest.approx(float(expected), rel=1e-5)
    assert out.loss == pytest.approx(float(out.language_loss) + float(out.router_loss), rel=1e-6)
    assert len(out.token_losses) == 7 + 5


def test_padding_changes_nothing(family: str) -> None:
    model = trained(MoEModel(new_base(family), CONFIG)).eval()
    padded = torch.cat([IDS, torch.full((2, 5), 7)], 1)
    mask = (torch.arange(16) < 11).long().expand(2, -1)
    labels = torch.where(mask.bool(), padded, -100)
    with torch.no_grad():
        short, long = model(IDS, torch.ones_like(IDS), IDS), model(padded, mask, labels)
        assert long.loss == pytest.approx(float(short.loss), rel=1e-4)
        with model.counting_usage() as usage:
            model(padded, mask)
    assert usage.sum(-1).tolist() == [[0, 0]] * 3 + [[2 * 11 * 2] * 2]  # no token has a domain


def test_the_balancing_loss() -> None:
    even = torch.full((8, 4), 0.25)
    chosen = torch.tensor([[0, 1], [2, 3]] * 4)
    assert load_balancing_loss(even, chosen) == pytest.approx(1.0)
    collapsed = torch.zeros(8, 4)
    collapsed[:, 0] = 1
    one = torch.zeros(8, 1, dtype=torch.long)
    assert load_balancing_loss(collapsed, one) == pytest.approx(4.0)
    mask = torch.tensor([1, 0] * 4)
    mixed = torch.where(mask[:, None].bool(), collapsed, even)
    assert load_balancing_loss(mixed, one, mask) == pytest.approx(4.0)
    assert load_balancing_loss(even, chosen, torch.zeros(8)) == pytest.approx(0.0)


def test_generation_with_a_cache_is_greedy_decoding(family: str) -> None:
    model = trained(MoEModel(new_base(family), CONFIG)).eval()
    ids = IDS[:1, :5]
    found = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    assert torch.equal(found, greedy(model, ids, 8))


def test_a_seed_means_one_model(family: str) -> None:
    one, same, other = (MoEModel(new_base(family), CONFIG, seed).adapter_state() for seed in (17, 17, 18))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_context_is_capped_at_what_the_base_can() -> None:
    assert MoEModel(new_base("llama"), ModelConfig(num_experts=2, lora_rank=2)).config.context_length == 64


# --- what cannot be a base ------------------------------------------------------------------------------


def test_other_families_are_told_what_they_lack() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=96))
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel cannot become .* take a base of the Llama"):
        MoEModel(gpt2, CONFIG)
    with pytest.raises(ModelError, match=r"lack self_attn\.w_proj"):
        MoEModel(new_base("llama"), ModelConfig(target_modules=("w_proj",), context_length=64))


def test_a_feed_forward_that_does_something_else_is_refused() -> None:
    base = new_base("llama")
    for layer in base.model.layers:
        layer.mlp.forward = lambda x: 2 * x
    with pytest.raises(ModelError, match="is not down"):
        MoEModel(base, CONFIG)


def test_bases_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither here nor can it be fetched"):
        resolve_base("nobody/no-such-model")
    with pytest.raises(ModelError, match="there is no base model"):
        resolve_base("../no such//name")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        resolve_base(str(tmp_path / "empty"))
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text("{}")
    (tmp_path / "pickled/pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickles are not read"):
        resolve_base(str(tmp_path / "pickled"))
    (tmp_path / "pickled/model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(str(tmp_path / "pickled"))


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type in ("cpu", "cuda")
    with pytest.raises(ModelError, match="take 'auto' or 'cpu'"):
        pick_device("abacus")


def test_a_tokenizer_without_template_gets_one(tmp_path: Path) -> None:
    base, tokenizer = load_base("attunement-base", "cpu")
    tokenizer.chat_template, tokenizer.pad_token = None, None
    base.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    again = load_tokenizer(str(tmp_path))
    assert again.pad_token_id is not None
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert "User: Hi\nAssistant: Hello" in again.apply_chat_template(talk, tokenize=False)


# --- checkpoints ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, MoEModel]]:
    base, _ = load_base("attunement-base", "cpu")
    model = trained(MoEModel(base, CONFIG)).eval()
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    yield folder, model


@pytest.fixture
def copied(saved: tuple[Path, MoEModel], tmp_path: Path) -> Path:
    import shutil

    shutil.copytree(saved[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_a_saved_model_comes_back_to_the_bit(saved: tuple[Path, MoEModel]) -> None:
    folder, model = saved
    again, tokenizer, info = load_moe(folder, "cpu")
    assert info["base"]["name"] == "attunement-base" and info["checkpoint"] == folder and not again.training
    ids = torch.tensor([tokenizer("I feel low today.")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_damaged_and_foreign_checkpoints(copied: Path) -> None:
    description = json.loads((copied / "moe.json").read_text())

    def with_fields(**changes: Any) -> None:
        (copied / "moe.json").write_text(json.dumps({**description, **changes}))

    with_fields(base={"name": "attunement-base", "sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="is not the one that"):
        load_moe(copied)
    with_fields(format_version=99)
    with pytest.raises(ModelError, match="a newer attunement wrote it"):
        load_moe(copied)
    with_fields(format="other")
    with pytest.raises(ModelError, match="does not describe a model of this program"):
        load_moe(copied)
    with_fields(model={"colour": "blue"})
    with pytest.raises(ModelError, match="lacks a part of its description"):
        load_moe(copied)
    (copied / "moe.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_moe(copied)
    with_fields()
    (copied / "adapter.safetensors").write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="missing or damaged"):
        read_description(copied)


def test_adapters_of_another_shape_are_refused(saved: tuple[Path, MoEModel]) -> None:
    other = MoEModel(new_base("qwen3"), CONFIG)
    with pytest.raises(ModelError, match="do not fit this model"):
        other.load_adapter(saved[1].adapter_state())


def test_where_a_checkpoint_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        find_checkpoint(tmp_path / "none")
    with pytest.raises(ModelError, match="holds neither a checkpoint"):
        find_checkpoint(tmp_path)
    (tmp_path / "run.json").write_text('{"best": ""}')
    with pytest.raises(ModelError, match="has no checkpoint yet"):
        find_checkpoint(tmp_path)
    (tmp_path / "run.json").write_text('{"best": "epoch-001"}')
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints" / "epoch-001"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for text in ("first", "second"):
        with atomic_folder(target) as folder:
            (folder / "file").write_text(text)
        assert (target / "file").read_text() == text
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "file").write_text("third")
        raise RuntimeError
    assert (target / "file").read_text() == "second" and list(tmp_path.iterdir()) == [target]


def packed_row(count: int = 3) -> tuple[Tensor, tuple[int, ...], Tensor]:
    """Sequences of several lengths in one row, their lengths, and labels without any first token."""
    generator = torch.Generator().manual_seed(8)
    lengths = (5, 11, 3, 8)[:count]
    ids = torch.randint(0, 96, (1, sum(lengths)), generator=generator)
    labels = ids.clone()
    labels[0, torch.tensor([0, *lengths[:-1]]).cumsum(0)] = -100
    return ids, lengths, labels


@pytest.mark.parametrize("window", [0, 4])
def test_a_packed_row_is_its_sequences_one_by_one(family: str, window: int) -> None:
    """Outputs and gradients: no token sees another sequence's, positions start anew, a window slides within each."""
    base = new_base(family) if not window else MistralForCausalLM(MistralConfig(**SIZES, sliding_window=window)).eval()
    model = trained(MoEModel(base, CONFIG)).eval()
    ids, lengths, labels = packed_row()
    before = base.config._attn_implementation
    whole = model(ids, None, labels, lengths=lengths)
    whole.token_losses.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_trainable() if p.grad is not None}
    model.zero_grad()
    torch.testing.assert_close(whole.token_losses, losses_one_by_one(model, ids, labels, lengths), rtol=1e-5, atol=1e-5)
    assert len(gradients) > 10
    for name, parameter in model.named_trainable():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)
    assert base.config._attn_implementation == before


def test_gradient_checkpointing_changes_no_gradient(family: str) -> None:
    ids, lengths, labels = packed_row()
    found = []
    for checkpointing in (False, True):
        model = trained(MoEModel(new_base(family), CONFIG)).train()
        if checkpointing:
            model.enable_checkpointing()
        model(ids, None, labels, lengths=lengths).loss.backward()
        found.append({name: p.grad for name, p in model.named_trainable()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_domains_draw_their_tokens_to_their_experts(family: str) -> None:
    """Training the routers by the domain loss alone sends each domain to the experts that are its own."""
    config = replace(CONFIG, expert_domains=["a", "b"], router_aux_loss=0.0, router_z_loss=0.0, router_domain_loss=1.0)
    model = MoEModel(new_base(family), config)
    ids, lengths, labels = packed_row(2)
    domains = torch.tensor([[0] * 5 + [1] * 11])
    routers = [p for name, p in model.named_trainable() if "router" in name]
    optimizer = torch.optim.Adam(routers, lr=0.05)
    for _ in range(150):
        out = model(ids, None, labels, lengths=lengths, domains=domains)
        assert out.router_loss is not None
        optimizer.zero_grad()
        out.router_loss.backward()
        optimizer.step()
    with torch.no_grad(), model.counting_usage() as usage:
        model(ids, None, labels, lengths=lengths, domains=domains)
    assert usage[0].sum() == 5 * 2 * 2 and usage[1].sum() == 11 * 2 * 2 and not usage[2].any()
    owned = torch.stack([usage[0][:, 0::2].sum(), usage[1][:, 1::2].sum()])
    assert (owned >= 0.8 * usage[:2].sum((1, 2))).all()  # some tokens stand in both


@pytest.mark.parametrize("rows", [3, 150])
def test_a_processor_and_a_gpu_compute_the_same(rows: int) -> None:
    """Segments against masks, forward and backward, and a step of generation; in double precision, two experts are never chosen."""
    draw = torch.Generator().manual_seed(rows)
    gate, up, low = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((rows, 40), (rows, 40), (rows, 2, 24)))
    logits = torch.randn(rows, 2, generator=draw, dtype=torch.float64)
    chosen = torch.stack([torch.randperm(6, generator=draw)[:2] for _ in range(rows)])
    factors = [torch.randn(32, 40, generator=draw, dtype=torch.float64)[:24] for _ in range(3)]
    outputs = []
    for mix in (MaskedMix, SegmentMix):
        inputs = [tensor.clone().requires_grad_() for tensor in (gate, up, low, logits, *factors)]
        found = mix.apply(*inputs[:3], inputs[3].softmax(-1), chosen, *inputs[4:], 6, functional.silu)
        wanted = [torch.cos(torch.arange(t.numel(), dtype=t.dtype)).view_as(t) for t in found]
        outputs.append([*found, *torch.autograd.grad(found, inputs, wanted)])
    for masked, segmented in zip(*outputs, strict=True):
        assert torch.allclose(masked, segmented, atol=1e-12)
    few = mix_few(gate, up, low, logits.softmax(-1), chosen, (factors[0], factors[1], factors[2]), 6, functional.silu)
    for found, segmented in zip(few, outputs[1], strict=False):
        assert torch.allclose(found, segmented, atol=1e-12)


def test_more_domains_than_experts_share_them(family: str) -> None:
    model = MoEModel(new_base(family), replace(CONFIG, expert_domains=list("abcdefg")))
    ids, lengths, labels = packed_row(2)
    domains = torch.tensor([[6] * 5 + [-1] * 11])
    with torch.no_grad(), model.counting_usage() as usage:
        model(ids, None, labels, lengths=lengths, domains=domains)
    assert usage[6].sum() == 5 * 2 * 2 and usage[7].sum() == 11 * 2 * 2 and not usage[:6].any()
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    for domain, own in ((6, 0.3), (2, 0.3), (0, 0.1)):
        assert domain_loss(probabilities, torch.tensor([domain]), 7).item() == pytest.approx(-math.log(own))
    assert domain_loss(probabilities, torch.tensor([1]), 2).item() == pytest.approx(-math.log(0.2 + 0.4))
