"""vLLM as the engine: its own server, started here for an exported model, and asked as any other of its protocol.

A process of its own, because vLLM takes the whole GPU, and what breaks there must not take the gate with it. It listens on this machine
alone, behind a key made for this run; it is told to report no usage and to fetch nothing, and it ends with this process (`kept.py`).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from attunement.config import ServingSettings
from attunement.errors import ConfigError, MissingExtraError, ModelError
from attunement.model.chat import without_oldest_turns
from attunement.model.checkpoint import DESCRIPTION
from attunement.records import DeployedModel, GenerationConfig
from attunement.serving.engines import Messages
from attunement.serving.engines.kept import GRACE_SECONDS
from attunement.serving.engines.openai import OpenAIEngine
from attunement.storage.files import content_hash, file_hash

SERVER = "vllm.entrypoints.openai.api_server"
KEEPER = Path(__file__).with_name("kept.py")
FIRST_SECONDS = 120.0
START_SECONDS = 900.0
"""A large model is loaded and its kernels are compiled for minutes."""
TOP_K = 50
"""Transformers' own where a model's folder says none, as the built-in engine has it; vLLM's would be the whole vocabulary."""
GIB = 2**30
_ALERTS = logging.getLogger("attunement.alerts")


class VLLMEngine(OpenAIEngine):
    """Serves the folder that `attune export --format hf-moe` wrote, by vLLM of this environment or of `serving.vllm_python`.

    Raises `MissingExtraError` without the extra `vllm`, `ConfigError` where no Python is at the path that is set.
    """

    def __init__(self, path: Path, settings: ServingSettings) -> None:
        if settings.vllm_python is None and importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("the engine 'vllm'", "vllm")
        if settings.vllm_python is not None and not settings.vllm_python.is_file():
            raise ConfigError(
                f"there is no Python at {settings.vllm_python}: serving.vllm_python names that of an environment with vLLM"
            )
        if (path / DESCRIPTION).is_file() or not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            raise ModelError(f"vLLM serves an exported model, and {path} is none: make one with  attune export")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        key = secrets.token_urlsafe(32)
        super().__init__(f"http://127.0.0.1:{port}/v1", path.name, key, settings)
        state = content_hash([[each.name, file_hash(each)] for each in sorted(path.glob("*.safetensors"))])
        self.deployed = DeployedModel(f"{path.name}@{state[:8]}", path, 0, "vllm")
        self._path, self._port, self._config = path, port, _read(path / "config.json")
        self._dtype = _dtype_of(self._config)
        self._longest = min(self._config.get("max_position_embeddings") or settings.max_tokens, settings.max_tokens)
        """Tokens of a prompt and its reply, as the built-in engine has it."""
        self._top_k = int(_read(path / "generation_config.json").get("top_k") or TOP_K)
        self._tokenizer: Any = None
        self._server: subprocess.Popen[bytes] | None = None

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if self._tokenizer else 0

    def start(self) -> None:
        """Also starts the server, waits until it answers, and lets it say a word. Raises `ModelError` when it ends instead."""
        if self._server is None:
            self._tokenizer = _tokenizer_of(self._path)
            command = [sys.executable, "-P", str(KEEPER), *self._command()]
            environment = {**os.environ, **self._environment()}
            self._server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)  # noqa: S603 - our own command
            self._await(self._server)
            threading.Thread(target=self._watch, args=(self._server,), name="watches vLLM", daemon=True).start()
        super().start()
        # vLLM makes its kernels ready with the first reply, which takes longer than a deadline
        greeting = [{"role": "user", "content": "Hello."}]
        for _ in self.stream(greeting, GenerationConfig(max_new_tokens=2), time.monotonic() + FIRST_SECONDS):
            pass

    def close(self) -> None:
        super().close()
        server, self._server = self._server, None
        if server is None:
            return
        assert server.stdin is not None
        server.stdin.close()
        try:
            server.wait(GRACE_SECONDS + 10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def _request(self, messages: Messages, generation: GenerationConfig, seed: int | None) -> dict[str, Any]:
        """The talk without its oldest turns where it is too long, as a checkpoint is asked; vLLM would refuse it."""
        longest = max(16, self._longest - generation.max_new_tokens)
        kept = without_oldest_turns(self._tokenizer, messages, longest) if self._tokenizer else messages
        return {**super()._request(kept, generation, seed), "top_k": self._top_k, "truncate_prompt_tokens": longest}

    def _command(self) -> list[str]:
        return [
            *(str(self._settings.vllm_python or sys.executable), "-m", SERVER),
            *self._settings.vllm_arguments,  # where one is given twice the later one holds: nobody moves it off this machine by a setting
            *("--model", str(self._path), "--served-model-name", self._path.name, "--dtype", self._dtype),
            *("--host", "127.0.0.1", "--port", str(self._port), "--max-num-seqs", str(self._settings.max_batch)),
            *("--max-model-len", str(self._longest)),
            *("--generation-config", "vllm"),  # how to draw is said with each request, not by the model's folder
            *("--uvicorn-log-level", "warning"),
        ]

    def _environment(self) -> dict[str, str]:
        quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        # its processes find each other on this machine; on a CPU it would take 92 % of the memory for its cache
        space = os.environ.get("VLLM_CPU_KVCACHE_SPACE", str(self._cache()))
        own = {"VLLM_HOST_IP": "127.0.0.1", "VLLM_CPU_KVCACHE_SPACE": space, "PYTHONSAFEPATH": "1"}
        return {"VLLM_API_KEY": self._key, **quiet, **own}

    def _cache(self) -> int:
        """GiB that keep `serving.max_tokens` tokens."""
        of = self._config
        heads = of.get("num_attention_heads", 32)
        width = (of.get("head_dim") or of.get("hidden_size", 4096) // heads) * (of.get("num_key_value_heads") or heads)
        size = 2 * of.get("num_hidden_layers", 32) * width * (4 if self._dtype == "float32" else 2)
        return int(size * self._settings.max_tokens // GIB) + 1

    def _await(self, server: subprocess.Popen[bytes]) -> None:
        ask, until = build_opener(ProxyHandler({})), time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if server.poll() is not None:
                raise ModelError(
                    f"vLLM could not serve {self._path} (it ended with {server.returncode}): its own output says why"
                )
            try:
                with ask.open(f"http://127.0.0.1:{self._port}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise ModelError(f"vLLM did not begin to serve {self._path} within {START_SECONDS:.0f} s")

    def _watch(self, server: subprocess.Popen[bytes]) -> None:
        code = server.wait()
        if self._server is server:
            _ALERTS.error("vLLM ended with %d while it served %s: start the service again", code, self.version)


def _tokenizer_of(path: Path) -> Any:
    """None where the folder has none that can be read: the server says what is wrong with it."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError):
        return None


def _dtype_of(config: dict[str, Any]) -> str:
    """In which numbers the model was exported. Left to itself vLLM makes half-precision of single: other replies than those that were evaluated."""
    told = config.get("dtype")
    return told if told in ("float32", "float16", "bfloat16") else "auto"


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
