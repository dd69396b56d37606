"""What the gate and HTTP add to the engine: the same short talks asked of the engine alone, over HTTP, and over HTTP with an API key.

The load comes from this process; two services run in processes of their own, one where nobody signs in and nothing is kept, one with
an API key, a SQLite store, transcripts and the audit log. The engine alone is asked in the first one's process. Each user has a talk of
six turns, one request a turn, new to every round: judges keep what they judged, and no round may live on the one before.
Added to a request: its latency as the user sees it, less the engine's time for it, from the prompt's coming to the last token, its wait
for a place included. `beyond_generate` is the latency less the service's step `generate`: it counts the judging of sentences while the
engine writes the next, which keeps nobody waiting.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from serving_parts.neutral import talks

LOADS = {1: 3, 4: 8, 16: 16}
"""Users at once, and talks of a round."""
TOKENS, TURNS = 32, 6
GOAL = "added at most 30 ms at the median, 80 ms at the 99th percentile"


class Service:
    """A `watched.py` at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        told = self._read()
        self.host = told["address"].removeprefix("http://")
        self.headers = {"Content-Type": "application/json"}
        if told["key"]:
            self.headers["Authorization"] = f"Bearer {told['key']}"

    def ask(self, **what: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the service ended with {self.process.wait()}")
        return json.loads(line)


@contextmanager
def served(run: Path, *sets: str) -> Iterator[Service]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    quick = f"serving.max_new_tokens={TOKENS}", "serving.temperature=0", "serving.deadline_seconds=60"
    with tempfile.TemporaryDirectory() as home:
        program = str(Path(__file__).with_name("watched.py"))
        process = subprocess.Popen(
            [sys.executable, program, str(run), home, *quick, "serving.requests_per_minute=1000000", *sets],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield Service(process)
        finally:
            process.terminate()
            process.wait()


def over_http(service: Service, said: list[list[str]], users: int) -> list[dict[str, float]]:
    """The steps of each request in seconds, with `latency`, the user's."""
    latency: dict[str, float] = {}

    def user(number: int) -> None:
        time.sleep(number / users)  # within the first second: nobody's clients all begin at once
        connection = http.client.HTTPConnection(service.host, timeout=120)
        for talk in said[number::users]:
            for end in range(1, len(talk) + 1, 2):
                body = json.dumps({"conversation_context": talk[: end - 1], "user_input": talk[end - 1]})
                began = time.perf_counter()
                connection.request("POST", "/api/v1/inference", body, service.headers)
                answer = connection.getresponse()
                told = json.loads(answer.read())
                took = time.perf_counter() - began
                assert answer.status == 200, told
                latency[told["request_id"]] = took
        connection.close()

    threads = [threading.Thread(target=user, args=(n,)) for n in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = service.ask(do="steps")
    return [{**steps[request], "latency": took} for request, took in latency.items()]


def measure(run: Path, rounds: int, repeats: int) -> dict[str, Any]:
    found = []
    for number in range(repeats):
        with ExitStack() as stack:
            services = {
                "http": stack.enter_context(served(run, "serving.authentication=none")),
                "http, key, store": stack.enter_context(served(run, "serving.authentication=required")),
            }
            found.append(repeat(services, rounds, str(number)))
    return {
        "about": f"talks of {TURNS} turns, {TOKENS} tokens, greedy; {rounds} rounds by turns; milliseconds; {repeats} repeats",
        "goals": GOAL,
        "median_of_repeats": {users: _medians([each["users"][users] for each in found]) for users in found[0]["users"]},
        "repeats": found,
    }


def repeat(services: dict[str, Service], rounds: int, seed: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, service in services.items():  # what is made at first use
        over_http(service, talks(4, TURNS, f"first {name}"), 4)
    for users, number in LOADS.items():
        bare: list[float] = []
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in services}
        for turn in range(rounds):
            said = talks(number, TURNS, f"{seed} {users} {turn}")
            bare += services["http"].ask(do="bare", talks=said, users=users)
            for name, service in services.items():
                seen[name] += over_http(service, said, users)
        engine = median(bare)
        figures = {name: _figures(rows, engine) for name, rows in seen.items()}
        out[str(users)] = {"engine_p50": round(1000 * engine, 1), "requests": len(bare), **figures}
        out[str(users)]["load_average"] = round(os.getloadavg()[0], 2)
        print(users, json.dumps(out[str(users)]), file=sys.stderr)
    return {"users": out}


def _figures(rows: list[dict[str, float]], engine: float) -> dict[str, float]:
    generated = [row for row in rows if "generate" in row]  # the gate answers some itself: it takes them for danger
    answered, rows = len(rows) - len(generated), generated
    cuts, beyond = (
        quantiles([1000 * (row["latency"] - row[step]) for row in rows], n=100, method="inclusive")
        for step in ("engine", "generate")
    )
    parts = {step: [1000 * row.get(step, 0.0) for row in rows] for step in ("gate", "check", "keep")}
    parts["http"] = [1000 * (row["latency"] - row["whole"]) for row in rows]
    return {
        "answered_by_the_gate": answered,
        "added_p50": round(cuts[49], 1),
        "added_p99": round(cuts[98], 1),
        "beyond_generate_p50": round(beyond[49], 1),
        "beyond_generate_p99": round(beyond[98], 1),
        "difference_of_medians": round(1000 * (median(row["latency"] for row in rows) - engine), 1),
        "latency_p50": round(1000 * median(row["latency"] for row in rows), 1),
        **{f"{name}_p50": round(median(took), 1) for name, took in parts.items()},
    }


def _medians(repeats: list[dict[str, Any]]) -> dict[str, Any]:
    """The middle one of each figure over the repeats."""
    first = repeats[0]
    return {
        name: _medians([each[name] for each in repeats]) if isinstance(first[name], dict) else
        round(median(each[name] for each in repeats), 1)
        for name in first
    }  # fmt: skip
