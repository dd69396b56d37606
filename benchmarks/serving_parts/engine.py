"""Our engine beside `transformers serve`, with and without its continuous batching: the same model, prompts and greedy settings.

Each is a server in a process of its own; the load comes from this one: 16 users, each with one request at a time. A server that is not
asked is stopped (SIGSTOP), so that it takes nothing from the other. One thread computes in each: on a shared machine two that wait for
each other are many times slower. Ours has the experts over the base, theirs the same model exported (`attune export`, float32).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

USERS, TOKENS, EACH = 16, 64, 1
OPENINGS = ("I can't sleep lately", "My father died in spring", "I feel alone at work", "We fight every evening")
WORRIES = (
    "and I keep going over what I should have done.",
    "and nobody asks how I am.",
    "and I am tired of it.",
    "what can I do?",
)
PROMPTS = [f"{opening} {worry}" for opening in OPENINGS for worry in WORRIES]
GREEDY = json.dumps({"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0})
BATCHED = ("--continuous-batching", "--cb-block-size", "16", "--cb-num-blocks", "1024", "--cb-max-batch-tokens", "256")


@dataclass
class Server:
    """`seconds` are those of every request, `rates` the tokens a second of each round, `said` the last reply to each prompt."""

    process: subprocess.Popen[bytes]
    address: str
    ready_seconds: float
    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    said: dict[int, str] = field(default_factory=dict)

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


@contextmanager
def serving(command: list[str], port: int) -> Iterator[Server]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command[:4])} ended with {process.returncode}")
            try:
                httpx.get(f"{address}/health", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield Server(process, address, time.monotonic() - began)
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        process.terminate()
        process.wait()


def load(server: Server, model: str, users: int = USERS, *, keep: bool = True) -> None:
    """One round: every user asks `EACH` times, one after the other."""
    begin = threading.Barrier(users + 1)
    took: list[float] = []
    tokens: list[int] = []

    def user(number: int) -> None:
        with httpx.Client(trust_env=False, timeout=300) as client:
            begin.wait()
            for turn in range(EACH):
                which = (number + turn) % len(PROMPTS)
                messages = [{"role": "user", "content": PROMPTS[which]}]
                body = {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0, "generation_config": GREEDY}
                asked = time.monotonic()
                answer = client.post(f"{server.address}/v1/chat/completions", json=body).raise_for_status().json()
                took.append(time.monotonic() - asked)
                tokens.append(answer["usage"]["completion_tokens"])
                server.said[which] = answer["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=user, args=(n,)) for n in range(users)]
    for thread in threads:
        thread.start()
    begin.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    whole = time.monotonic() - began
    assert tokens == [TOKENS] * users * EACH, f"{server.address}: {tokens}"
    if keep:
        server.seconds += took
        server.rates.append(sum(tokens) / whole)


def measure(run: Path, rounds: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        export = ("export", "--run", str(run), "--format", "hf-moe", "--dtype", "float32", "--out", model)
        subprocess.run([sys.executable, "-m", "attunement", *export], check=True, stdout=subprocess.DEVNULL)
        found = []
        for number in range(repeats):
            found.append(repeat(run, model, rounds))
            print(f"repeat {number + 1}: {json.dumps(found[-1])}", file=sys.stderr, flush=True)
    return {
        "about": f"{USERS} users, {TOKENS} new tokens, greedy, one thread each; {rounds} rounds of {USERS * EACH} requests, by turns",
        "repeats": found,
        "median_of_ratios": {
            name: round(median(each["times_the_tokens_a_second_of"][name] for each in found), 2)
            for name in found[0]["times_the_tokens_a_second_of"]
        },
        "goals": "p99 under 2 s; 1.5 times the tokens a second of `transformers serve`; ready in under 10 s",
    }


def repeat(run: Path, model: str, rounds: int) -> dict[str, Any]:
    ports = [_free_port() for _ in range(3)]
    theirs = [str(Path(sys.executable).with_name("transformers")), "serve", model, "--device", "cpu", "--port"]
    commands = {
        "builtin": [sys.executable, str(Path(__file__).with_name("bare.py")), str(run), str(ports[0])],
        "transformers serve": [*theirs, str(ports[1])],
        "transformers serve --continuous-batching": [*theirs, str(ports[2]), *BATCHED],
    }
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for (name, command), port in zip(commands.items(), ports, strict=True):
            servers[name] = stack.enter_context(serving(command, port))
            load(servers[name], model, 2, keep=False)
            servers[name].signal(signal.SIGSTOP)
        for _ in range(rounds):
            for server in servers.values():
                server.signal(signal.SIGCONT)
                load(server, model)
                server.signal(signal.SIGSTOP)
    ours = servers["builtin"]
    return {
        "load_average": round(os.getloadavg()[0], 2),
        "servers": {name: _figures(server) for name, server in servers.items()},
        "times_the_tokens_a_second_of": {
            name: round(median(a / b for a, b in zip(ours.rates, server.rates, strict=True)), 2)
            for name, server in servers.items()
            if server is not ours
        },
        "same_text_as_ours": {name: _same(ours, server) for name, server in servers.items() if server is not ours},
    }


def _figures(server: Server) -> dict[str, float]:
    cuts = quantiles(server.seconds, n=100, method="inclusive")
    return {
        "p50_seconds": round(cuts[49], 3),
        "p99_seconds": round(cuts[98], 3),
        "tokens_a_second": round(median(server.rates), 1),
        "ready_seconds": round(server.ready_seconds, 1),
    }


def _same(ours: Server, theirs: Server) -> str:
    """Theirs gives the prompt back, and the special tokens as text."""
    same = sum(re.sub(r"<\|[^|]*\|>", "", theirs.said[n]).strip().endswith(text.strip()) for n, text in ours.said.items())
    return f"{same} of {len(ours.said)}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
