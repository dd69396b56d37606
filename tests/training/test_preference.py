"""Preference tuning: it learns what was preferred, leaves the reference alone, gives a run like others, refuses clearly."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.config import PreferenceSettings
from attunement.errors import DataError, MissingExtraError, ModelError
from attunement.model.chat import encode_example
from attunement.model.moe_lora import load_moe
from attunement.storage.files import read_json, read_jsonl, write_jsonl
from attunement.training.held_out import SideScores, figures, log_probabilities
from attunement.training.pairs import encode_pair, read_pairs, split
from attunement.training.preference import PreferenceTuning
from attunement.training.runs import differences, runs_in
from attunement.training.unfinished import Unfinished

DAYS = ("Monday", "winter", "my birthday", "the move", "June", "the exam", "Friday", "spring")
FEELINGS = ("sad", "low", "tired", "angry", "lonely")
QUICK = PreferenceSettings(learning_rate=2e-3, epochs=3, batch_size=8, micro_batch_size=4, held_out_share=0.25, max_length=128)


def toy_pairs(path: Path, count: int = 40) -> Path:
    """Questions are preferred to advice: quick to learn, no one's words."""
    rows = []
    for number in range(count):
        feeling, day = FEELINGS[number % 5], DAYS[number // 5 % 8]
        rows.append(
            {
                "id": f"p-{number}",
                "source": "toy",
                "conversation_id": f"c-{number // 2}",
                "prompt": [{"role": "user", "content": f"I feel {feeling} since {day}."}],
                "chosen": f"What was {day} like for you?",
                "rejected": f"You should forget {day}.",
                "reason": "questions",
                "licence": "R",
            }
        )
    write_jsonl(path, rows)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture(scope="module")
def tuned(tiny_run: Path, pairs: Path) -> Path:
    """A tuned run, in a folder with the run that it comes from."""
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'attunement[prefer]'")
    runs = pairs.parent / "runs"
    shutil.copytree(tiny_run, runs / "tiny")
    out = runs / "preferred"
    PreferenceTuning(runs / "tiny", out, QUICK).tune(pairs)
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_moe(run)[0].adapter_state()


def test_what_is_preferred_is_learned(tuned: Path) -> None:
    found = read_json(tuned / "preference.json")
    assert found["pairs"] == 10 and found["conversations"] == 5
    before, after = found["reward"]["accuracy"]
    gain, low, high = found["reward"]["accuracy_gain"]
    assert before == 0.5 and after >= 0.9 and gain == pytest.approx(after - before, abs=1e-3) and 0 < low <= gain <= high
    assert found["reward"]["margin"][0] == 0 and found["reward"]["margin"][1] > 0.3
    assert found["likelihood"]["margin"][1] > found["likelihood"]["margin"][0]
    rows = list(read_jsonl(tuned / "metrics.jsonl"))
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)  # nothing is preferred to the reference before the first step
    assert rows[-1]["loss"] < 0.5


def test_the_reference_and_the_routers_are_left_alone(tuned: Path, tiny_run: Path, pairs: Path) -> None:
    old, new = weights(tiny_run), weights(tuned)
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved and not {name for name in moved if "router" in name}
    assert any(name.endswith("down_b") for name in moved) and any("self_attn" in name for name in moved)
    again, tokenizer, _ = load_moe(tiny_run)
    learned, held = split(read_pairs(pairs), QUICK.held_out_share, QUICK.seed)
    sides = [encode_pair(tokenizer, row, 128) for row in held]
    before, after = (SideScores.of(model, sides) for model in (again, load_moe(tuned)[0]))
    told = figures(before, after, [row["conversation_id"] for row in held], QUICK.beta, QUICK.seed)
    written = read_json(tuned / "preference.json")
    assert len(learned) == 30 and told["reward"] == written["reward"] and told["likelihood"] == written["likelihood"]


def test_the_reference_is_what_trl_computes(tiny_run: Path, pairs: Path, tmp_path: Path) -> None:
    """Padded rows in TRL's own forward pass, and packed ones in ours, give the same log-probabilities."""
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'attunement[prefer]'")
    from rich.progress import Progress

    from attunement.training import trl_trainers

    model, tokenizer, _ = load_moe(tiny_run)
    sides = [encode_pair(tokenizer, row, 128) for row in read_pairs(pairs)[:12]]
    ours = SideScores.of(model, sides)
    before = {name: tensor.clone() for name, tensor in model.adapter_state().items()}
    kept: list[Any] = []
    real = trl_trainers._dpo

    def spied(progress: Progress, unfinished: Unfinished) -> Any:
        kind, config, row = real(progress, unfinished)

        class Seen(kind):  # type: ignore[misc]
            def train(self, **_: Any) -> None:
                kept.append(self.train_dataset)
                self.state.global_step = 0

        return Seen, config, row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trl_trainers, "_dpo", spied)
        watch = trl_trainers.Watch(lambda row: None, dict)
        trl_trainers.tune(
            model, tokenizer, sides, QUICK, progress=Progress(disable=True), unfinished=Unfinished(tmp_path, "x"), watch=watch
        )
    for place, side in enumerate(("chosen", "rejected")):
        assert kept[0][f"ref_{side}_logps"] == pytest.approx(list(ours.sums[:, place]), abs=1e-3)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.adapter_state().items())
    assert "forward" not in vars(model.base) and len(model.named_trainable()) == len(before)


def test_nothing_is_told_to_the_outside(tiny_run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = pytest.importorskip("trl.trainer.base_trainer", reason="TRL is not installed: pip install 'attunement[prefer]'")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("telemetry")

    assert hasattr(trainer._BaseTrainer, "_send_telemetry")  # still TRL's name for what is overridden
    monkeypatch.setattr(trainer, "send_telemetry", refuse)
    PreferenceTuning(tiny_run, tmp_path / "run", QUICK.model_copy(update={"max_steps": 1})).tune(pairs)


def test_the_run_is_one_like_others(tuned: Path, tiny_run: Path, tmp_path: Path) -> None:
    run, config, dataset = (read_json(tuned / f"{name}.json") for name in ("run", "config", "dataset"))
    assert run["status"] == "finished" and run["step"] == 12 and run["metrics"]["reward_accuracy"] >= 0.9
    assert run["metrics"]["validation_perplexity"] > 1 and config["preference"]["method"] == "dpo"
    assert config["tuned_from"]["checkpoint"] == read_json(tiny_run / "run.json")["best"]
    assert dataset["dataset_sha256"] == read_json(tiny_run / "dataset.json")["dataset_sha256"]
    assert dataset["pairs_licences"] == ["R"]
    assert "trl" in read_json(tuned / "environment.json")
    names = {row["run"] for row in runs_in(tuned.parent)}
    assert names == {"tiny", "preferred"}
    learned = [row["id"] for row in read_jsonl(tuned / "examples.jsonl") if row["source"] == "toy"]
    assert len(learned) == 30
    assert {row["run"] for row in runs_in(tuned.parent, "x-train-7")} == names  # of the first stage
    assert {row["run"] for row in runs_in(tuned.parent, learned[0])} == {"preferred"}  # of the second
    assert differences([tiny_run, tuned])["preference.method"] == [None, "dpo"]
    runner = CliRunner()
    for command in (["train", "show", str(tuned)], ["export", "--run", str(tuned), "--out", str(tmp_path / "export")]):
        result = runner.invoke(app, command)
        assert result.exit_code == 0, (result.output, result.exception)
    assert "commercial" not in (tmp_path / "export" / "README.md").read_text()
    refused = runner.invoke(app, ["train", "resume", str(tuned)])
    assert "finished tuning on preferences" in str(refused.exception)


def test_a_licence_stays_with_what_was_learned(tiny_run: Path, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'attunement[prefer]'")
    rows = [{**row, "licence": "NC"} for row in read_pairs(pairs)]
    write_jsonl(tmp_path / "bought.jsonl", rows)
    once = QUICK.model_copy(update={"max_steps": 1, "held_out_share": 0})
    PreferenceTuning(tiny_run, tmp_path / "one", once).tune(tmp_path / "bought.jsonl")
    PreferenceTuning(tmp_path / "one", tmp_path / "two", once).tune(pairs)
    assert read_json(tmp_path / "two" / "dataset.json")["pairs_licences"] == ["NC", "R"]
    result = CliRunner().invoke(
        app, ["export", "--run", str(tmp_path / "two"), "--format", "adapter", "--out", str(tmp_path / "x")]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert "not for commercial use" in (tmp_path / "x" / "README.md").read_text()


def test_orpo_learns_too(tiny_run: Path, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'attunement[prefer]'")
    PreferenceTuning(tiny_run, tmp_path / "run", QUICK.model_copy(update={"method": "orpo", "beta": 1.0})).tune(pairs)
    found, rows = read_json(tmp_path / "run" / "preference.json"), list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert found["reward"]["accuracy"][1] >= 0.9 and rows[-1]["loss"] < rows[0]["loss"]
    assert found["likelihood"]["margin_gain"][1] > 0


@pytest.mark.parametrize("broken", ["divergence", "interrupt"])
def test_what_ends_early_leaves_no_run_and_starts_again(
    tiny_run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'attunement[prefer]'")
    from attunement.training import trl_trainers

    out = tmp_path / "runs" / "second"
    (left := out.parent / ".second.1.tmp").mkdir(parents=True)  # of a call that was killed
    tuning = PreferenceTuning(tiny_run, out, QUICK.model_copy(update={"max_steps": 3}))

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if broken == "interrupt":
            patch.setattr(trl_trainers._Told, "on_step_end", interrupt)
            with pytest.raises(KeyboardInterrupt):
                tuning.tune(pairs)
            (unfinished,) = (path for path in out.parent.iterdir() if path != left)
            assert unfinished.name == ".second.unfinished"
            with pytest.raises(DataError, match="unfinished tuning with another run, settings or pairs: give the same again"):
                PreferenceTuning(tiny_run, out, QUICK).tune(pairs)
        else:
            wild = PreferenceTuning(tiny_run, out, QUICK.model_copy(update={"learning_rate": 1e9}))
            with pytest.raises(ModelError, match=r"diverged.*nothing was written: take a lower preference\.learning_rate"):
                wild.tune(pairs)
            assert list(out.parent.iterdir()) == []
    trained = tuning.tune(pairs)
    assert trained.metrics["steps"] == 3 and list(out.parent.iterdir()) == [out]
    stamp = (out / "run.json").stat().st_mtime_ns
    assert tuning.tune(pairs).metrics["steps"] == 3 and (out / "run.json").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="holds another run: choose another --out"):
        PreferenceTuning(tiny_run, out, QUICK).tune(pairs)


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the package catches it."""


def test_a_tuning_that_is_interrupted_and_killed_ends_with_the_same_bits(
    tuned: Path, tiny_run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps an epoch: SIGINT in step 3, killed at step 8 after the checkpoint of step 5, whose newer one is torn."""
    from attunement.training import trl_trainers

    out, real, steps = tmp_path / "run", trl_trainers._Told.on_log, list[int]()
    unfinished = out.with_name(".run.unfinished")

    def on_log(self: Any, args: Any, state: Any, control: Any, **others: Any) -> None:
        real(self, args, state, control, **others)
        steps.append(state.global_step)
        if steps == [1, 2, 3]:
            os.kill(os.getpid(), signal.SIGINT)
        if state.global_step == 8 and len(steps) < 12:
            raise Killed

    monkeypatch.setattr(trl_trainers._Told, "on_log", on_log)
    tuning = PreferenceTuning(tiny_run, out, QUICK.model_copy(update={"checkpoint_interval": 5}))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(pairs)
    assert signal.getsignal(signal.SIGINT) is handler and not out.exists()
    assert [path.name for path in (unfinished / "checkpoints").iterdir()] == ["step-000004"]
    with pytest.raises(Killed):
        tuning.tune(pairs)
    kept = sorted(path.name for path in (unfinished / "checkpoints").iterdir())
    assert kept == ["step-000004", "step-000005"]
    assert not [path for path in unfinished.rglob("*") if path.suffix in (".pt", ".pth", ".bin", ".pkl")]
    torn = unfinished / "checkpoints" / "step-000006"
    shutil.copytree(unfinished / "checkpoints" / "step-000005", torn)
    (torn / "state.safetensors").write_bytes(b"torn")
    trained = tuning.tune(pairs)
    assert steps == [1, 2, 3, 4, 4, 5, 6, 7, 8, 6, 7, 8, 9, 10, 11, 12, 12] and trained.metrics["steps"] == 12
    first, again = weights(tuned), weights(out)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    told, rows = (list(read_jsonl(run / "metrics.jsonl")) for run in (tuned, out))
    assert [{name: row[name] for name in other} for other, row in zip(told, rows, strict=True)] == told
    assert [row["step"] for row in rows if "held_out_accuracy" in row] == [5, 10]
    assert read_json(tuned / "preference.json") == read_json(out / "preference.json")
    assert not unfinished.exists() and list(tmp_path.iterdir()) == [out]


def test_a_tuning_that_is_killed_after_its_last_step_only_measures(
    tuned: Path, tiny_run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attunement.training import preference

    out = tmp_path / "run"
    tuning = PreferenceTuning(tiny_run, out, QUICK.model_copy(update={"max_steps": 5}))

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(preference, "write_state", killed)
        with pytest.raises(Killed):
            tuning.tune(pairs)
    before = (out.with_name(".run.unfinished") / "metrics.jsonl").read_text()
    assert tuning.tune(pairs).metrics["steps"] == 5
    assert (out / "metrics.jsonl").read_text() == before and before.count("\n") == 5


def test_the_page_of_a_tuning_tells_what_it_was_worth(tuned: Path) -> None:
    page = (tuned / "training.html").read_text(encoding="utf-8")
    told = read_json(tuned / "preference.json")
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and page.count("data:image/png;base64,") == 1
    assert "<h1>Training of preferred</h1>" in page and "tuned on preferences by\nDPO" in page
    low, high = told["reward"]["accuracy_gain"][1:]
    assert f"{low:+.3f} to {high:+.3f}" in page and f"{told['likelihood']['margin'][1]:.3f}" in page
    assert (tuned / "preference.png").read_bytes().startswith(b"\x89PNG")


def test_without_held_out_pairs_nothing_is_measured(tiny_run: Path, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'attunement[prefer]'")
    settings = ["preference.held_out_share=0", "preference.max_steps=1"]
    command = ["train", "prefer", "--run", tiny_run, "--pairs", pairs, "--out", tmp_path / "run"]
    result = CliRunner().invoke(app, [*map(str, command), *(word for each in settings for word in ("--set", each))])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "so nothing was measured" in (tmp_path / "run" / "training.html").read_text()
    assert "no pairs, so nothing was measured" in result.stdout and "validation: loss" in result.stdout
    assert "reward_accuracy" not in read_json(tmp_path / "run" / "run.json")["metrics"]


def test_pairs_are_encoded_as_examples_are(tiny_run: Path) -> None:
    model, tokenizer, _ = load_moe(tiny_run)
    prompt = [{"role": "user" if i % 2 == 0 else "assistant", "content": f"Word {i} and more of it."} for i in range(9)]
    row = {"prompt": prompt, "chosen": "Tell me.", "rejected": "You should stop. " * 4}
    whole = encode_pair(tokenizer, row, 1000)
    for side in ("chosen", "rejected"):
        wanted = encode_example(tokenizer, [*prompt, {"role": "assistant", "content": row[side]}], 1000)
        assert (whole.side(side).ids, whole.side(side).labels) == (wanted.ids, wanted.labels)
    cut = encode_pair(tokenizer, row, 60)
    assert all(len(cut.side(side).ids) <= 60 for side in ("chosen", "rejected"))
    assert len(cut.prompt) < len(whole.prompt) and cut.chosen == whole.chosen and "Word 8" in tokenizer.decode(cut.prompt)
    sums, counts = log_probabilities(model, [whole.side("chosen")])
    out = model(torch.tensor([whole.side("chosen").ids]), None, torch.tensor([whole.side("chosen").labels]))
    assert sums[0] == pytest.approx(-float(out.token_losses.detach().sum()), abs=1e-3) and counts[0] == len(whole.chosen)


def test_whole_conversations_are_held_out(pairs: Path) -> None:
    rows = read_pairs(pairs)
    learned, held = split(rows, 0.25, 17)
    assert len(held) == 10 and not {r["conversation_id"] for r in learned} & {r["conversation_id"] for r in held}
    assert [r["id"] for r in split(rows, 0.25, 18)[1]] != [r["id"] for r in held]
    assert split(rows, 0, 17) == (rows, [])


GOOD = {
    "id": "a",
    "source": "s",
    "conversation_id": "c",
    "prompt": [{"role": "user", "content": "x"}],
    "chosen": "y",
    "rejected": "z",
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no pairs: make the pairs with  attune train pairs"),
        ("nonsense", "line 1: no JSON object"),
        ("[1]", "line 1: no JSON object"),
        (json.dumps({**GOOD, "chosen": ""}), "line 1: chosen is missing or empty"),
        (json.dumps({k: v for k, v in GOOD.items() if k not in ("id", "prompt")}), "line 1: id, prompt is missing or empty"),
        (json.dumps({**GOOD, "rejected": 5}), "line 1: rejected must be text"),
        (json.dumps({**GOOD, "prompt": [{"role": "assistant", "content": "x"}]}), "the prompt must be chat messages"),
        (json.dumps({**GOOD, "prompt": ["x"]}), "the prompt must be chat messages"),
    ],
)
def test_files_that_hold_no_pairs_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as raised:
        read_pairs(tmp_path / "pairs.jsonl")
    assert "\n" not in str(raised.value)


def test_bad_use_says_what_to_do(tiny_run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'attunement[prefer]'")
    one = toy_pairs(tmp_path / "one.jsonl", 2)
    (tmp_path / "full").mkdir()
    checkpoint = next((tiny_run / "checkpoints").iterdir())
    out = tmp_path / "run"
    for run, source, place, words in (
        (tiny_run, tmp_path / "none.jsonl", out, "cannot read"),
        (tmp_path / "nowhere", pairs, out, "there is no model at"),
        (checkpoint, pairs, out, "is not a run's folder"),
        (tiny_run, one, out, "no pairs are left to learn from"),
        (tiny_run, pairs, tmp_path / "full", "exists and holds no run"),
        (tiny_run, pairs, tiny_run, "holds another run"),
    ):
        with pytest.raises((DataError, ModelError), match=words) as raised:
            PreferenceTuning(run, place, QUICK).tune(source)
        assert "\n" not in str(raised.value) and not out.exists()
    command = ["train", "prefer", "--run", str(tiny_run), "--pairs", str(pairs), "--out", str(out), "--method", "ppo"]
    assert "setting 'preference.method' (--set): Input should be 'dpo' or 'orpo'" in str(
        CliRunner().invoke(app, command).exception
    )


def test_without_trl_the_extra_is_named(tiny_run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'attunement\[prefer\]'"):
        PreferenceTuning(tiny_run, tmp_path / "run", QUICK).tune(pairs)
