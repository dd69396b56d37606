"""The built-in engine and its holder: real tiny models, many threads, and nothing that depends on who else is served."""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attunement.config import ServingSettings
from attunement.errors import IntegrityError, ModelError, ServiceError
from attunement.model.batching import BatchedModel, Chunk
from attunement.model.chat import encode_prompt, reply
from attunement.model.checkpoint import find_checkpoint
from attunement.model.moe_lora import MoEModel
from attunement.records import GenerationConfig, ModelConfig
from attunement.serving.engines import DEADLINE, LENGTH, STOP, BusyError, EngineError, Inbox, Piece, kept_in_time
from attunement.serving.engines.builtin import BuiltinEngine
from attunement.serving.engines.holder import EngineHolder, checkpoints_before
from attunement.serving.engines.sampling import Draw, Sampler

GREEDY = GenerationConfig(24, temperature=0, repetition_penalty=1.15)
FEELINGS = ("sad", "low", "tired", "angry", "lonely", "lost", "empty", "afraid")
TALKS = [[{"role": "user", "content": f"I feel {feeling} since {day}."}] for feeling in FEELINGS for day in ("Monday", "winter")]


def settings(**changed: Any) -> ServingSettings:
    return ServingSettings(**changed)


@pytest.fixture(scope="module")
def engine(tiny_run: Path) -> Iterator[BuiltinEngine]:
    with closing(BuiltinEngine.load(tiny_run, settings())) as found:
        found.start()
        yield found


@pytest.fixture(scope="module")
def alone(engine: BuiltinEngine) -> list[str]:
    """What each talk is answered when nobody else is, by `generate`."""
    return [reply(engine._model, engine._tokenizer, talk, GREEDY) for talk in TALKS]


def said(pieces: Iterator[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def at_once(work: Callable[[int], Any], count: int) -> list[Any]:
    """What `work` gives for 0 to `count - 1`, each in a thread, all begun together; an error is given too."""
    found: list[Any] = [None] * count
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait()
        try:
            found[number] = work(number)
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def wait_until(true: Callable[[], Any], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)


# --- what is said ------------------------------------------------------------------------------------


def test_sixteen_at_once_get_what_each_would_alone(engine: BuiltinEngine, alone: list[str]) -> None:
    pieces = at_once(lambda n: list(engine.stream(TALKS[n], GREEDY)), len(TALKS))
    assert [said(iter(found)) for found in pieces] == alone
    assert len(set(alone)) > 1
    for found in pieces:
        assert found[-1].finish in (STOP, LENGTH) and not any(piece.finish for piece in found[:-1])
        assert all(told <= 0 for piece in found for told in piece.logprobs)


def test_with_few_rows_little_memory_and_long_prompts_it_is_the_same(
    tiny_run: Path, engine: BuiltinEngine, alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newcomers wait for a row, their prompts are read in pieces, rows move, and the cache grows."""
    monkeypatch.setattr("attunement.serving.engines.builtin.CHUNK", 7)
    with closing(
        BuiltinEngine(engine._model, engine._tokenizer, engine.deployed, settings(max_batch=3, max_tokens=200))
    ) as small:
        small.start()
        assert at_once(lambda n: said(small.stream(TALKS[n], GREEDY)), len(TALKS)) == alone
        with pytest.raises(ServiceError, match=r"raise serving\.max_tokens"):
            said(small.stream(TALKS[0], replace(GREEDY, max_new_tokens=500)))


def test_log_probabilities_are_those_of_a_pass_over_the_whole(engine: BuiltinEngine) -> None:
    pieces = list(engine.stream(TALKS[0], GREEDY))
    told = [each for piece in pieces for each in piece.logprobs]
    prompt = encode_prompt(engine._tokenizer, TALKS[0], 100)
    ids = [*prompt, *engine._tokenizer(said(iter(pieces)), add_special_tokens=False)["input_ids"], engine._tokenizer.eos_token_id]
    with torch.no_grad():
        logits = engine._model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
    wanted = logits.log_softmax(-1).gather(1, torch.tensor(ids[len(prompt) :])[:, None])[:, 0]
    assert pieces[-1].finish == STOP and told == pytest.approx(wanted.tolist(), abs=1e-4)


def test_a_seed_draws_the_same_words_whoever_else_is_there(engine: BuiltinEngine) -> None:
    warm = GenerationConfig(24, temperature=1.5, top_p=0.95)
    first = said(engine.stream(TALKS[0], warm, seed=3))
    found = at_once(lambda n: said(engine.stream(TALKS[0], warm, seed=3 if n % 2 else n)), 8)
    assert {found[n] for n in range(1, 8, 2)} == {first}
    assert len(set(found)) > 2


@pytest.mark.parametrize(
    ("family", "window"), [("Llama", None), ("Mistral", 5), ("Qwen2", None), ("Qwen3", None), ("Mixtral", None)]
)
def test_passes_over_the_cache_compute_what_a_whole_pass_does(family: str, window: int | None) -> None:
    """Rows of other lengths beside each other, prompts in pieces, grouped heads, sliding windows."""
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8,
    }  # fmt: skip
    if window:
        sizes["sliding_window"] = window
    if family == "Mixtral":  # sparse already: PEFT's adapters, merged while the engine runs
        pytest.importorskip("peft", reason="the extra sparse is not installed")
        sizes |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    torch.manual_seed(0)
    base = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**sizes))
    model = MoEModel(base, ModelConfig(num_experts=4, lora_rank=4, context_length=64)).eval()
    for parameter in model.trainable_parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    rows = [torch.randint(0, 64, (length,)).tolist() for length in (19, 7, 12)]
    with torch.no_grad():
        wanted = [model(torch.tensor([row])).logits[0, -1] for row in rows]
    batched = BatchedModel(model)
    with batched.ready():
        batched.cache.make_room(2, 16, [])
        batched.step((), (), [Chunk(0, 0, rows[0][:9]), Chunk(1, 0, rows[1][:-1])])
        batched.cache.make_room(3, 32, [9, 6])
        batched.step((), (), [Chunk(0, 9, rows[0][9:-1])])
        first = batched.step([row[-1] for row in rows[:2]], [18, 6], [Chunk(2, 0, rows[2][:-1])])
        batched.cache.move(2, 1, 11)
        second = batched.step([rows[0][-1], rows[2][-1]], [18, 11])
    torch.testing.assert_close(first[:2], torch.stack(wanted[:2]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(second, torch.stack([wanted[0], wanted[2]]), atol=1e-4, rtol=1e-4)
    assert base.config._attn_implementation != "attunement_batched" and not batched.cache.bytes


@pytest.mark.parametrize("top_k", [0, 3])
def test_words_are_drawn_as_transformers_draws_them(top_k: int) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(1)
    logits, prompt = torch.randn(1, 12) * 2, [1, 4, 7]
    how = GenerationConfig(8, temperature=0.8, top_p=0.7, repetition_penalty=1.4)
    scores = logits
    for step in (
        RepetitionPenaltyLogitsProcessor(1.4),
        TemperatureLogitsWarper(0.8),
        *([TopKLogitsWarper(top_k)] if top_k else []),
        TopPLogitsWarper(0.7),
    ):
        scores = step(torch.tensor([prompt]), scores)
    wanted = scores.softmax(-1)[0]
    many = 4000
    draw = Draw.of(how, 5, prompt, 12, torch.device("cpu"))
    draws = [Draw(how, random.Random(n), draw.seen) for n in range(many)]
    tokens, told = Sampler(top_k)(logits.expand(many, -1), draws)
    shares = torch.tensor([Counter(tokens)[n] / many for n in range(12)])
    assert torch.equal(shares > 0, wanted > 0) and (shares - wanted).abs().max() < 0.04
    assert told[0] == pytest.approx(float(logits.log_softmax(-1)[0, tokens[0]]))


# --- who waits, who leaves ---------------------------------------------------------------------------


def test_a_reply_that_is_given_up_frees_its_row(engine: BuiltinEngine) -> None:
    pieces = engine.stream(TALKS[0], replace(GREEDY, max_new_tokens=60))
    next(pieces)
    assert len(engine._rows) == 1
    pieces.close()
    wait_until(lambda: not engine._rows)


class Slow(BuiltinEngine):
    """Each step takes `pause` longer."""

    pause = 0.05

    def _step(self, *arguments: Any) -> None:
        time.sleep(self.pause)
        super()._step(*arguments)


@pytest.fixture
def slow(engine: BuiltinEngine) -> Iterator[Slow]:
    found = Slow(engine._model, engine._tokenizer, engine.deployed, settings(max_batch=2, max_waiting=2))
    with closing(found):
        found.start()
        yield found


def test_the_deadline_ends_a_reply(slow: Slow) -> None:
    started = time.monotonic()
    pieces = list(slow.stream(TALKS[0], replace(GREEDY, max_new_tokens=60), started + 0.5))
    assert time.monotonic() - started < 1.2
    assert pieces[-1].finish == DEADLINE and said(iter(pieces))
    wait_until(lambda: not slow._rows)


def test_whose_turn_does_not_come_is_busy_and_takes_no_place(slow: Slow) -> None:
    """Two have the rows until after the deadline of two more; a fifth finds the queue full."""
    long = [slow.stream(talk, replace(GREEDY, max_new_tokens=64)) for talk in TALKS[:2]]
    for pieces in long:
        next(pieces)
    found = at_once(lambda n: said(slow.stream(TALKS[n], GREEDY, time.monotonic() + 0.15)), 3)
    assert [type(each) for each in found] == [BusyError] * 3
    for pieces in long:
        pieces.close()
    wait_until(lambda: not slow._rows)
    assert said(slow.stream(TALKS[0], GREEDY))


def test_near_the_deadline_a_reply_ends_with_its_sentence() -> None:
    words = [Piece(word, (-1.0,)) for word in ("One ", "two. ", "three", ".", " Four", " five.")]

    def paced() -> Iterator[Piece]:
        for piece in words:
            time.sleep(0.01)
            yield piece

    assert said(kept_in_time(paced(), time.monotonic() + 5)) == "One two. three. Four five."
    assert said(kept_in_time(paced(), time.monotonic() + 0.06)) == "One two. three."


def test_an_inbox_keeps_the_deadline() -> None:
    inbox: Inbox[int] = Inbox(time.monotonic() + 0.1)
    with pytest.raises(BusyError):
        next(inbox.read())
    inbox = Inbox(time.monotonic() + 0.1)
    inbox.put(1)
    assert list(inbox.read()) == [1]


def test_a_step_that_fails_is_told_and_the_next_request_is_served(
    engine: BuiltinEngine, monkeypatch: pytest.MonkeyPatch, alone: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    real = BatchedModel.step

    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(BatchedModel, "step", broken)
    with pytest.raises(EngineError, match="the model failed"):
        said(engine.stream(TALKS[0], GREEDY))
    monkeypatch.setattr(BatchedModel, "step", real)
    assert said(engine.stream(TALKS[0], GREEDY)) == alone[0]
    assert "a step of the engine failed" in caplog.text


def test_closing_ends_what_runs_and_the_thread(engine: BuiltinEngine) -> None:
    found = BuiltinEngine(engine._model, engine._tokenizer, engine.deployed, settings())
    with pytest.raises(EngineError):
        next(found.stream(TALKS[0], GREEDY))
    before = torch.get_num_threads()
    found.start()
    pieces = found.stream(TALKS[0], replace(GREEDY, max_new_tokens=64))
    next(pieces)
    found.close()
    with pytest.raises(EngineError):
        for _ in pieces:
            pass
    found.close()
    assert found._thread is not None and not found._thread.is_alive() and torch.get_num_threads() == before


# --- the holder --------------------------------------------------------------------------------------


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the run with its best checkpoint alone, to break."""
    best = find_checkpoint(tiny_run)
    folder = Path(shutil.copytree(tiny_run, tmp_path / "tiny", ignore=shutil.ignore_patterns("epoch-*")))
    shutil.copytree(best, folder / "checkpoints" / best.name)
    return folder


def make(path: Path) -> BuiltinEngine:
    return BuiltinEngine.load(path, settings())


def broken(checkpoint: Path) -> Path:
    file = checkpoint / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-8] + b"\0" * 8)
    return checkpoint


def test_a_swap_under_load_drops_no_reply(run: Path, engine: BuiltinEngine, alone: Sequence[str]) -> None:
    with closing(EngineHolder(make)) as holder:
        before = holder.load(run)
        stop, failed, answered = threading.Event(), [], []

        def ask(number: int) -> None:
            while not stop.is_set():
                try:
                    answered.append(said(holder.stream(TALKS[number], GREEDY)) == alone[number])
                except Exception as error:
                    failed.append(error)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        held = holder.stream(TALKS[0], GREEDY)
        first = next(held).text
        after = [holder.load(run) for _ in range(2)]
        assert isinstance(before, BuiltinEngine) and before._thread is not None and before._thread.is_alive()
        assert first + said(held) == alone[0]
        wait_until(lambda: before._thread is not None and not before._thread.is_alive())
        done = len(answered)
        wait_until(lambda: len(answered) > done + 8)
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed and all(answered)
        assert holder.engine is after[-1] and not holder.alert


def test_a_model_that_cannot_be_loaded_leaves_the_one_that_answers(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(EngineHolder(make)) as holder:
        with pytest.raises(ServiceError, match="no model is loaded"):
            next(holder.stream(TALKS[0], GREEDY))
        good = holder.load(run)
        checkpoint = find_checkpoint(run)
        bad = broken(Path(shutil.copytree(checkpoint, run / "checkpoints" / "epoch-009-step-000099")))
        assert holder.load(bad) is good
        assert "epoch-009-step-000099 could not be loaded" in holder.alert and good.version in holder.alert
        assert [(r.name, r.levelno) for r in caplog.records if "could not" in r.message] == [("attunement.alerts", logging.ERROR)]
        assert said(holder.stream(TALKS[0], GREEDY))
        assert holder.load(run) is not good and not holder.alert


def test_the_checkpoint_before_it_is_loaded(run: Path) -> None:
    checkpoint = find_checkpoint(run)
    for name in ("epoch-004-step-000024", "epoch-005-step-000030"):
        broken(Path(shutil.copytree(checkpoint, run / "checkpoints" / name)))
    newest = run / "checkpoints" / "epoch-005-step-000030"
    assert [each.name for each in checkpoints_before(newest)] == ["epoch-004-step-000024", checkpoint.name]
    with closing(EngineHolder(make)) as holder:
        assert holder.load(newest).deployed.checkpoint == checkpoint
        assert "epoch-005-step-000030 could not be loaded" in holder.alert
    broken(checkpoint)
    with closing(EngineHolder(make)) as holder:
        with pytest.raises(IntegrityError):
            holder.load(newest)
        with pytest.raises(ModelError, match="there is no model at"):
            holder.load(run / "none")
        assert holder.engine is None


def test_a_model_that_gives_no_numbers_does_not_start(engine: BuiltinEngine, tiny_run: Path) -> None:
    found = BuiltinEngine.load(tiny_run, settings())
    with torch.no_grad():
        found._model.trainable_parameters()[0].fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        found.start()
