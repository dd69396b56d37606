"""vLLM as the engine: what is ours around it, with a program in its place. docs/decisions/018-engine.md has what vLLM itself did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from attunement.config import ServingSettings
from attunement.errors import ConfigError, MissingExtraError, ModelError
from attunement.model.base import load_tokenizer
from attunement.records import GenerationConfig
from attunement.serving.engines import EngineError
from attunement.serving.engines.opening import open_engine

TALK = [{"role": "user", "content": "I can't sleep."}]
HOW = GenerationConfig(16, temperature=0.5, top_p=0.8, repetition_penalty=1.2)

STAND_IN = """
import argparse, json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
parser = argparse.ArgumentParser()
for name in ("model", "served-model-name", "host", "generation-config", "dtype", "uvicorn-log-level"):
    parser.add_argument("--" + name)
for name in ("port", "max-num-seqs", "max-model-len"):
    parser.add_argument("--" + name, type=int)
given = parser.parse_args()
if not os.path.exists(os.path.join(given.model, "good")):
    sys.exit(3)
assert given.dtype == json.load(open(os.path.join(given.model, "config.json"))).get("dtype", "auto")
assert os.environ["VLLM_NO_USAGE_STATS"] == os.environ["DO_NOT_TRACK"] == os.environ["HF_HUB_OFFLINE"] == "1"
assert os.environ["VLLM_HOST_IP"] == "127.0.0.1" and int(os.environ["VLLM_CPU_KVCACHE_SPACE"]) == 1
# as vLLM's engine and workers, it would go on without its server
core = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
open(os.path.join(given.model, "processes"), "w").write(f"{os.getpid()} {core.pid}")
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.path == "/health" or self.headers["authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response(200 if ok else 401); self.end_headers(); self.wfile.write(b'{"object": "list", "data": []}')
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200); self.send_header("content-type", "text/event-stream"); self.end_headers()
        json.dump({**body, "longest": given.max_model_len}, open(os.path.join(given.model, "asked"), "w"))
        choice = {"index": 0, "delta": {"content": body["model"]}, "finish_reason": "stop"}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        self.wfile.write(("data: " + json.dumps(chunk) + "\\n\\n").encode())
    def log_message(self, *_): pass
HTTPServer((given.host, given.port), Handler).serve_forever()
"""


def test_vllm_names_its_extra_and_what_it_serves(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"attunement\[vllm\]"):
        open_engine(ServingSettings(engine="vllm"), tmp_path)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An exported model's folder, and a program that stands where vLLM's server does, takes its arguments and speaks its protocol."""
    place = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    place.mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        (folder / "__init__.py").touch()
    (place / "api_server.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    found = tmp_path / "exported"
    found.mkdir()
    (found / "good").touch()
    load_tokenizer("attunement-base").save_pretrained(found)
    config = {
        "dtype": "float32",
        "max_position_embeddings": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 64,
    }
    (found / "config.json").write_text(json.dumps(config))
    (found / "model.safetensors").write_text("{}")
    yield found
    sys.modules.pop("vllm", None)


def gone(model: Path) -> bool:
    """Whether the server and what it had started have ended."""
    left = [Path(f"/proc/{number}") for number in (model / "processes").read_text().split()]
    until = time.monotonic() + 10
    while any(each.exists() for each in left) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(each.exists() for each in left)


def test_vllm_is_started_asked_and_ended_with_all_that_it_started(model: Path) -> None:
    with closing(open_engine(ServingSettings(engine="vllm"), model)) as found:
        found.start()
        assert "".join(p.text for p in found.stream(TALK, HOW)) == "exported"
        assert found.count_tokens("I cannot sleep.") > 3
    assert gone(model) and found.version.startswith("exported@")


def test_vllm_that_cannot_serve_is_told(model: Path) -> None:
    (model / "good").unlink()
    with closing(open_engine(ServingSettings(engine="vllm"), model)) as found, pytest.raises(ModelError, match="ended with 3"):
        found.start()
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="make one with  attune export"):
        open_engine(ServingSettings(engine="vllm"), model)


def test_a_talk_that_is_too_long_for_vllm_loses_its_oldest_turns(model: Path) -> None:
    """vLLM refuses a prompt over its context; a checkpoint is asked without the oldest turns, and so is the export."""
    said = [
        {"role": role, "content": f"{number}: work was long again."} for number in range(30) for role in ("user", "assistant")
    ]
    talk = [{"role": "system", "content": "Be brief."}, *said, {"role": "user", "content": "I am tired."}]
    with closing(open_engine(ServingSettings(engine="vllm"), model)) as found:
        found.start()
        list(found.stream(talk, HOW))
    asked = json.loads((model / "asked").read_text())
    kept = asked["messages"]
    assert asked["longest"] == 256 and asked["truncate_prompt_tokens"] == 256 - HOW.max_new_tokens
    assert kept[0] == talk[0] and kept[-1] == talk[-1] and 3 < len(kept) < len(talk) and kept[1]["role"] == "user"
    assert kept == [talk[0], *talk[-len(kept) + 1 :]]
    assert (asked["top_k"], asked["repetition_penalty"]) == (50, 1.2), "drawn as the built-in engine draws"


def test_vllm_ends_with_a_service_that_is_killed(model: Path) -> None:
    program = f"""
import time
from pathlib import Path
from attunement.config import ServingSettings
from attunement.serving.engines.opening import open_engine
open_engine(ServingSettings(engine="vllm"), Path({str(model)!r})).start()
print("ready", flush=True)
time.sleep(600)
"""
    path = os.pathsep.join([os.environ["PYTHONPATH"], *sys.path])
    service = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert service.stdout is not None and service.stdout.readline() == "ready\n"
    assert all(Path(f"/proc/{number}").exists() for number in (model / "processes").read_text().split())
    service.kill()
    service.communicate()
    assert gone(model)


def test_operators_are_told_when_vllm_ends_by_itself(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(open_engine(ServingSettings(engine="vllm"), model)) as found:
        found.start()
        os.kill(int((model / "processes").read_text().split()[0]), signal.SIGKILL)
        assert gone(model)
        until = time.monotonic() + 5
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.05)
        assert "vLLM ended with" in caplog.text and "start the service again" in caplog.text
        with pytest.raises(EngineError, match="cannot be reached"):
            list(found.stream(TALK, HOW))


def test_vllm_of_another_environment_is_started_by_its_own_python(tmp_path: Path) -> None:
    """Its pins and ours exclude each other more often than not."""
    model = tmp_path / "exported"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    python = tmp_path / "python"
    with pytest.raises(ConfigError, match="there is no Python at"):
        open_engine(ServingSettings(engine="vllm", vllm_python=python), model)
    told = tmp_path / "told"
    python.write_text(f'#!/bin/sh\necho "$@" > {told}\nexit 7\n')
    python.chmod(0o700)
    settings = ServingSettings(engine="vllm", vllm_python=python, vllm_arguments=["--swap-space", "2", "--host", "0.0.0.0"])
    with closing(open_engine(settings, model)) as found:
        with pytest.raises(ModelError, match="ended with 7"):
            found.start()
    given = told.read_text()
    assert given.startswith("-m vllm.entrypoints.openai.api_server --swap-space 2") and "--dtype auto" in given
    assert given.rindex("--host 127.0.0.1") > given.index("--host 0.0.0.0"), "the last one holds: ours"
