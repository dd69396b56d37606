"""What the benchmark of the sources rests on: its command, and the server whose count is the proof that nothing is paid twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
from source_parts.replaying import GARBAGE, RATES, REFUSAL, Replay  # noqa: E402

PATH = "/v1/chat/completions"


def asked(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Situation: Grief (complicated grief)."}], "seed": number}


def text_of(answer: Any) -> str:
    return str(json.loads(answer[2])["choices"][0]["message"]["content"])


@pytest.fixture
def replay() -> Replay:
    return Replay({"complicated_grief": [[{"role": "client", "text": f"number {n}"}] for n in range(400)]})


def seeds_of(replay: Replay, fault: str) -> list[int]:
    from attunement.storage.files import content_hash

    return [n for n in range(300) if replay._fault(content_hash([asked(n)["messages"], n])) == fault]


def test_faults_come_about_as_often_as_stated(replay: Replay) -> None:
    for fault, rate in RATES.items():
        assert rate / 3 < len(seeds_of(replay, fault)) / 300 < 3 * rate


def test_a_request_gets_its_own_answer_each_time_and_is_counted(replay: Replay) -> None:
    first, second = seeds_of(replay, "none")[:2]
    told = text_of(replay(PATH, asked(first)))
    assert text_of(replay(PATH, asked(second))) != told == text_of(replay(PATH, asked(first)))
    assert len(replay.answered) == 2 and sum(replay.answered_again.values()) == 1
    sent = sum(tokens[1] for tokens in replay.answered.values()) + len(told.split())
    assert replay.tokens["completion"] == sent


def test_faults_are_what_they_are_called(replay: Replay) -> None:
    busy, broken, cut = (seeds_of(replay, name)[0] for name in ("busy_429", "broken_500", "cut_json"))
    assert [replay(PATH, asked(busy))[0], replay(PATH, asked(busy))[0]] == [429, 200]
    assert [replay(PATH, asked(broken))[0], replay(PATH, asked(broken))[0]] == [500, 200]
    assert replay(PATH, asked(seeds_of(replay, "garbage")[0])) == GARBAGE
    assert text_of(replay(PATH, asked(seeds_of(replay, "refusal")[0]))) == REFUSAL
    with pytest.raises(json.JSONDecodeError):
        json.loads(text_of(replay(PATH, asked(cut))))
    assert len(replay.answered) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nonsense"], 2, "there is no part 'nonsense': they are all, edge-cases, safety"),
        (["draw"], 2, "draw needs a number"),
        (["knowledge", "--shared", "nowhere"], 0, "knowledge: skipped, nowhere is not there"),
    ],
)
def test_the_command_says_what_it_takes(arguments: list[str], code: int, told: str) -> None:
    done = subprocess.run([sys.executable, BENCHMARKS / "sources.py", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code and told in done.stderr and "Traceback" not in done.stderr
