"""Edge cases by a language model behind a local server: used answers, unusable ones, a budget, interruptions, a provider that is down."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.config import load_settings
from attunement.errors import BudgetError, ServiceError, TemporaryError
from attunement.providers.opening import ANSWERS, open_provider
from attunement.quality.panel import Judges
from attunement.sources.edge_cases.generator import EdgeCaseGenerator
from attunement.sources.edge_cases.run import generate_folder
from attunement.storage.files import read_jsonl
from speaking import Answer, Speaker, said, speaking

pytest.importorskip("openai", reason="the extra 'openai' is not installed")
RUN = CliRunner()


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def talk_of(body: dict[str, Any], salt: str = "") -> str:
    """A conversation that is of the scenario that was asked for, in words of its own."""
    rng = Random(body["messages"][-1]["content"] + salt)
    words = "the a I to my of and house night door work mother bread river stone letter winter quiet street window garden train friend".split()
    turns = [
        {"role": ("client", "therapist")[i % 2], "text": " ".join(rng.choices(words, k=14)) + ("?" if i % 2 else ".")}
        for i in range(8)
    ]
    return json.dumps({"turns": turns})


def by_model(judges: Judges, speaker: Speaker, out: Path, budget: float | None = None, **more: Any) -> EdgeCaseGenerator:
    settings = load_settings(
        overrides=[f"providers.{k}={v}" for k, v in {"model": '"m"', "concurrency": 2, "max_retries": 0, **more}.items()]
    ).settings
    provider = open_provider(f"{speaker.address}/v1", settings.providers, out / ANSWERS, budget_usd=budget)
    return EdgeCaseGenerator(provider, settings, only=["suicidality", "family_conflict"], judges=judges)


def run(generator: EdgeCaseGenerator, out: Path, count: int = 3) -> dict[str, Any]:
    prompts = generator.generate_prompts(count)
    return generate_folder(generator, prompts, out, most=len(prompts))


def test_a_model_writes_and_is_asked_once(judges: Judges, tmp_path: Path) -> None:
    with speaking(lambda path, body: said(path, f"```json\n{talk_of(body)}\n```")) as speaker:
        report = run(by_model(judges, speaker, tmp_path), tmp_path)
        assert report["conversations"] == 6 and len(speaker.asked) == 6 and report["account"]["prompt_tokens"] == 60
        again = run(by_model(judges, speaker, tmp_path), tmp_path)
        assert again["conversations"] == 6 and len(speaker.asked) == 6 and again["account"]["cached"] == 6
        more = run(by_model(judges, speaker, tmp_path), tmp_path, 4)  # the first three of each category are the same
        assert more["conversations"] == 8
    rows = list(read_jsonl(tmp_path / "conversations.jsonl"))
    assert {r["generated_by"] for r in rows} == {f"openai-compatible({speaker.address[7:]}):m"} and {
        r["model"] for r in rows
    } == {"m-1"}
    assert all(re.fullmatch("[0-9a-f]{64}", r["prompt_sha256"]) and "terms apply" in r["licence"] for r in rows)
    assert all(r["clinical_review_required"] for r in rows if r["category"] == "suicidality")
    asked = speaker.asked[0][2]["messages"]
    assert "No gore" in asked[0]["content"] and "Way of speaking" in asked[1]["content"]


GERMAN = json.dumps({"turns": [{"role": r, "text": "Ich weiß nicht, was ich noch tun soll, und alles ist mir zu viel geworden."} for _ in range(4) for r in ("client", "therapist")]})  # fmt: skip
SHORT = json.dumps({"turns": [{"role": "client", "text": "I am here."}, {"role": "therapist", "text": "You are."}]})
OUT_OF_TURN = json.dumps({"turns": [{"role": "client", "text": "the house is quiet"}] * 8})


def broken_role(body: dict[str, Any]) -> str:
    return talk_of(body).replace('"therapist", "text": "', '"therapist", "text": "As an AI language model I cannot feel. ', 1)


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("refused", lambda p, b: said(p, "I'm sorry, but I can't help with that.")),
        ("refused", lambda p, b: said(p, "", "content_filter")),
        ("cut", lambda p, b: said(p, talk_of(b)[:200])),
        ("cut", lambda p, b: said(p, talk_of(b)[:200], "length")),
        ("not_json", lambda p, b: said(p, "Client: hello. Therapist: hello.")),
        ("wrong_language", lambda p, b: said(p, GERMAN)),
        ("too_short", lambda p, b: said(p, SHORT)),
        ("wrong_shape", lambda p, b: said(p, OUT_OF_TURN)),
        ("wrong_shape", lambda p, b: said(p, '{"turns": "none"}')),
        ("broken_role", lambda p, b: said(p, broken_role(b))),
        ("garbage", lambda p, b: (200, {}, b"<html>")),
    ],
)
def test_an_answer_that_cannot_be_used_is_asked_for_again_and_then_told(
    reason: str, answer: Any, judges: Judges, tmp_path: Path
) -> None:
    with speaking(answer) as speaker:
        report = run(by_model(judges, speaker, tmp_path), tmp_path, 1)
    assert report["conversations"] == 0 and report["rejected"] == {reason: 2} and report["unusable_answers"] == {reason: 6}
    assert len(speaker.asked) == 6 and [r["reason"] for r in report["rejections"]] == [reason] * 2


def test_one_bad_answer_costs_one_more_question(judges: Judges, tmp_path: Path) -> None:
    tried: Counter[str] = Counter()

    def script(path: str, body: dict[str, Any]) -> Answer:
        tried[body["messages"][-1]["content"]] += 1
        return said(path, talk_of(body) if sum(tried.values()) > 1 else "no")

    with speaking(script) as speaker:
        report = run(by_model(judges, speaker, tmp_path), tmp_path)
    assert report["conversations"] == 6 and len(speaker.asked) == 7 and report["rejected"] == {}


def test_what_an_earlier_run_went_past_is_not_asked_for_again(judges: Judges, tmp_path: Path) -> None:
    """Garbage is not kept: a provider that mends itself must not replace the later answer that was paid for."""
    bad = [True]

    def script(path: str, body: dict[str, Any]) -> Answer:
        with speaker.lock:
            garbage = bad[0] and len(speaker.asked) <= 6
        return (200, {}, b"<html>") if garbage else said(path, talk_of(body, str(len(speaker.asked))))

    with speaking(script) as speaker:
        report = run(by_model(judges, speaker, tmp_path), tmp_path)
        assert report["conversations"] == 6 and report["unusable_answers"] == {"garbage": 6} and len(speaker.asked) == 12
        before, bad[0] = (tmp_path / "conversations.jsonl").read_bytes(), False
        assert run(by_model(judges, speaker, tmp_path), tmp_path)["account"]["requests"] == 0 and len(speaker.asked) == 12
        assert (tmp_path / "conversations.jsonl").read_bytes() == before


def test_a_model_that_repeats_itself_is_refused(judges: Judges, tmp_path: Path) -> None:
    with speaking(lambda path, body: said(path, talk_of({"messages": [{"content": "always"}]}))) as speaker:
        report = run(by_model(judges, speaker, tmp_path), tmp_path)
    assert report["conversations"] == 2 and report["rejected"] == {"near_duplicate": 4}


def test_a_spent_budget_keeps_what_was_paid(judges: Judges, tmp_path: Path) -> None:
    price = {"completion_usd_per_million": 1e6, "max_tokens": 100}  # $100 at most a request, $20 used
    with speaking(lambda path, body: said(path, talk_of(body))) as speaker:
        with pytest.raises(BudgetError):
            run(by_model(judges, speaker, tmp_path, budget=150.0, concurrency=1, **price), tmp_path)
        paid = len(speaker.asked)
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert paid == 3 == report["conversations"] and report["not_done"] == 3 and report["account"]["total_usd"] == 60
        report = run(by_model(judges, speaker, tmp_path, budget=1000.0, concurrency=1, **price), tmp_path)
        assert len(speaker.asked) == 6 and report["conversations"] == 6


def test_a_wrong_key_and_a_provider_that_is_down_end_the_run(judges: Judges, tmp_path: Path) -> None:
    with speaking(lambda *_: (401, {}, b"{}")) as speaker:
        with pytest.raises(ServiceError, match="refused the key"):
            run(by_model(judges, speaker, tmp_path / "a"), tmp_path / "a")
        assert len(speaker.asked) <= 2 and not (tmp_path / "a" / "conversations.jsonl").exists()
    with speaking(lambda *_: (503, {}, b"{}")) as speaker:
        with pytest.raises(TemporaryError, match="503"):
            run(by_model(judges, speaker, tmp_path / "b"), tmp_path / "b", 20)
        assert len(speaker.asked) <= 6


def test_ctrl_c_waits_for_what_is_paid_and_goes_on_later(judges: Judges, tmp_path: Path) -> None:
    import os
    import signal

    pressed: list[int] = []

    def script(path: str, body: dict[str, Any]) -> Answer:
        with speaker.lock:  # once: a second Ctrl-C would not wait
            if len(speaker.asked) >= 3 and not pressed:
                pressed.append(1)
                os.kill(os.getpid(), signal.SIGINT)
        return said(path, talk_of(body))

    with speaking(script) as speaker:
        with pytest.raises(KeyboardInterrupt):
            run(by_model(judges, speaker, tmp_path, concurrency=2), tmp_path)
        asked = len(speaker.asked)
        kept = len(list((tmp_path / ANSWERS).rglob("*.json")))
        assert 3 <= asked < 6 and kept == asked == len(list(read_jsonl(tmp_path / "conversations.jsonl")))
        assert run(by_model(judges, speaker, tmp_path), tmp_path)["conversations"] == 6 and len(speaker.asked) == 6


def test_the_command_asks_a_local_server(tmp_path: Path) -> None:
    with speaking(lambda path, body: said(path, talk_of(body))) as speaker:
        done = RUN.invoke(
            app,
            ["generate", "edge-cases", "--provider", f"{speaker.address}/v1", "--model", "qwen3:8b", "--concurrency", "3",
             "--scenarios", "2", "--max-conversations", "4", "--category", "therapy_resistance", "--category", "manic_episode",
             "--category", "couples_betrayal", "--out", str(tmp_path)],
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "conversations: 4 of 6" in done.stdout and len(speaker.asked) == 4 and speaker.asked[0][2]["model"] == "qwen3:8b"
