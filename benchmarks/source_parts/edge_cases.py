"""`attune generate edge-cases`, 25 x 20 conversations: written by people, and through a local server that is at fault, with a kill on the way.

The second run replays the written conversations of the first (`replaying`), so it measures the machinery and no model: what is asked, tried
again, kept, rejected and paid. Everything runs as the command does, in a process of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import machine
import numpy as np

from attunement.providers.opening import ANSWERS
from attunement.quality.appropriateness import validate_many
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.storage.files import read_json, read_jsonl

sys.path.append(str(machine.ROOT / "tests"))
from source_parts.replaying import RATES, Replay
from speaking import speaking

SCENARIOS, CONCURRENCY, KILL_AFTER = 20, 8, 200
"""`KILL_AFTER` answers of the server the command is killed."""
PRICES = {"prompt": 2.0, "completion": 8.0}
"""Dollars for a million tokens: made up, so that there is something to account for."""
CATEGORY = (
    "conversations", "rejected", "clinical_review_required", "crisis_levels", "flags", "mean_turns", "distinct_1", "distinct_2",
    "different_texts", "dispersion", "nearest", "coverage",
)  # fmt: skip
WHOLE = (
    "wanted", "conversations", "turns", "mean_turns", "rejected", "unusable_answers", "clinical_review_required", "crisis_levels", "flags",
    "distinct_1", "distinct_2", "different_texts", "dispersion", "nearest_in_category", "grid_cells",
)  # fmt: skip


def measure(shared: Path, home: Path) -> dict[str, Any]:
    about = machine.describe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        offline = by_people(folder / "offline")
        return {"machine": about, "offline": offline, "local_server": by_server(folder / "server", folder / "offline")}


def command(out: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "attunement",
        "generate",
        "edge-cases",
        "--scenarios",
        str(SCENARIOS),
        "--out",
        str(out),
        "--json",
        *more,
    ]


def by_people(out: Path) -> dict[str, Any]:
    started = time.monotonic()
    subprocess.run(command(out, "--provider", "offline"), check=True, stdout=subprocess.DEVNULL)
    seconds, report = time.monotonic() - started, read_json(out / "report.json")
    quality = quality_of(out)
    return {
        **{name: report[name] for name in WHOLE},
        "seconds": round(seconds, 1),
        "categories": {
            name: {key: row[key] for key in CATEGORY} | {"quality": quality[name]} for name, row in report["categories"].items()
        },
    }


def quality_of(folder: Path) -> dict[str, dict[str, Any]]:
    """By category what the judges say of the therapist's turns: the mean score of appropriateness and of coherence, the techniques."""
    judges, found = Judges(), dict[str, list[Item]]()
    for row in read_jsonl(folder / "conversations.jsonl"):
        texts = [turn["text"] for turn in row["turns"]]
        found.setdefault(row["category"], []).extend(
            Item(texts[i], tuple(texts[max(0, i - 2) : i])) for i in range(1, len(texts), 2)
        )
    out = {}
    for category, items in found.items():
        fit = validate_many(judges, [item.text for item in items], [item.context for item in items])
        technique = Counter(verdict.label for verdict in judges.judge("technique", items))
        out[category] = {
            "therapist_turns": len(items),
            "appropriateness": round(float(np.mean([one.score for one in fit])), 4),
            "turns_with_a_reason": dict(Counter(reason for one in fit for reason in one.reasons)),
            "coherence": round(float(np.mean([verdict.score for verdict in judges.judge("coherence", items)])), 4),
            "techniques": {name: round(count / len(items), 3) for name, count in technique.most_common()},
            "end_with_a_question": round(sum(item.text.rstrip().endswith("?") for item in items) / len(items), 3),
        }
    return out


def by_server(out: Path, replayed: Path) -> dict[str, Any]:
    written: dict[str, list[list[dict[str, str]]]] = {}
    for row in read_jsonl(replayed / "conversations.jsonl"):
        written.setdefault(row["category"], []).append(row["turns"])
    replay = Replay(written)
    with speaking(replay) as speaker:
        run = command(
            out, "--provider", f"{speaker.address}/v1", "--model", "replay", "--concurrency", str(CONCURRENCY),
            *(f"--set=providers.{kind}_usd_per_million={usd}" for kind, usd in PRICES.items()),
        )  # fmt: skip
        killed = kill_on_the_way(run, replay)
        kept = len(list((out / ANSWERS).rglob("*.json")))
        before = {"answered_by_the_server": len(replay.answered), "kept_on_disk": kept, "conversations_written": killed}
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        report, requests = read_json(out / "report.json"), len(speaker.asked)
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)  # a third time: all is there
        asked_a_third_time = len(speaker.asked) - requests
    return {
        "rates": RATES,
        **{name: report[name] for name in WHOLE},
        "by_category": {name: [row["conversations"], row["rejected"]] for name, row in report["categories"].items()},
        "killed": before,
        "asked": asked(replay, requests, before, asked_a_third_time),
        "account": account(replay, report["account"], out),
    }


def kill_on_the_way(run: list[str], replay: Replay) -> bool:
    """Starts the command and kills it once the server has given enough answers. Returns whether conversations were written already."""
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL)
    while len(replay.answered) < KILL_AFTER and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the command came to its end before it was killed"
    time.sleep(0.5)  # the server's threads come to an end with what they were answering
    return (Path(run[run.index("--out") + 1]) / "conversations.jsonl").exists()


def asked(replay: Replay, requests: int, before: dict[str, Any], third: int) -> dict[str, Any]:
    """What the server was asked. An answer that was under way at the kill never reached the disk: that one, and no other, is asked again."""
    again = sum(replay.answered_again.values())
    lost = before["answered_by_the_server"] - before["kept_on_disk"]
    return {
        "requests": requests,
        "different_requests_answered": len(replay.answered),
        "under_way_at_the_kill": lost,
        "answered_again": again,
        "kept_answers_asked_for_again": again - lost,
        "asked_by_a_third_run": third,
        "garbage_asked_again": replay.garbage_again,
        "faults_met": dict(sorted(replay.faults.items())),
    }


def account(replay: Replay, told: dict[str, Any], out: Path) -> dict[str, Any]:
    """The folder's account beside the server's own count, in tokens and dollars."""
    answers = [read_json(path) for path in (out / ANSWERS).rglob("*.json")]
    ours = {kind: sum(answer[f"{kind}_tokens"] for answer in answers) for kind in PRICES}
    theirs = dict(zip(PRICES, map(sum, zip(*replay.answered.values(), strict=True)), strict=True))
    dollars = sum(theirs[kind] * usd / 1e6 for kind, usd in PRICES.items())
    sent = sum(replay.tokens[kind] * usd / 1e6 for kind, usd in PRICES.items())
    return {
        "of_the_run_after_the_kill": told,
        "tokens_on_disk": ours,
        "tokens_by_the_server": theirs,
        "usd_told": told["total_usd"],
        "usd_by_the_server": round(dollars, 6),
        "equal": ours == theirs and abs(told["total_usd"] - dollars) < 1e-6,
        "usd_of_all_that_was_sent": round(sent, 6),
    }
