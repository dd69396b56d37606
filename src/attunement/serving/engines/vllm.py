"""vLLM as the engine: its own server, started here for an exported model, and asked as any other of its protocol.

A process of its own, because vLLM takes the whole GPU, and what breaks there must not take the gate with it. It listens on this machine
alone, behind a key made for this run; it is told to report no usage and to fetch nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from attunement.config import ServingSettings
from attunement.errors import ConfigError, MissingExtraError, ModelError
from attunement.model.checkpoint import DESCRIPTION
from attunement.records import DeployedModel, GenerationConfig
from attunement.serving.engines.openai import OpenAIEngine
from attunement.storage.files import content_hash, file_hash

SERVER = "vllm.entrypoints.openai.api_server"
FIRST_SECONDS = 120.0
START_SECONDS = 900.0
"""A large model is loaded and its kernels are compiled for minutes."""


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
        self._path, self._port, self._dtype = path, port, _dtype_of(path)
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Also starts the server, waits until it answers, and lets it say a word. Raises `ModelError` when it ends instead."""
        if self._server is None:
            environment = {**os.environ, **self._environment()}
            self._server = subprocess.Popen(self._command(), env=environment, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command
            self._await(self._server)
        super().start()
        greeting = [
            {"role": "user", "content": "Hello."}
        ]  # vLLM makes its kernels ready with the first reply, which takes longer than a deadline
        for _ in self.stream(greeting, GenerationConfig(max_new_tokens=2), time.monotonic() + FIRST_SECONDS):
            pass

    def close(self) -> None:
        super().close()
        server, self._server = self._server, None
        if server is None:
            return
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def _command(self) -> list[str]:
        return [
            *(str(self._settings.vllm_python or sys.executable), "-m", SERVER),
            *self._settings.vllm_arguments,  # where one is given twice the later one holds: nobody moves it off this machine by a setting
            *("--model", str(self._path), "--served-model-name", self._path.name, "--dtype", self._dtype),
            *("--host", "127.0.0.1", "--port", str(self._port), "--max-num-seqs", str(self._settings.max_batch)),
            *("--generation-config", "vllm"),  # how to draw is said with each request, not by the model's folder
            *("--uvicorn-log-level", "warning"),
        ]

    def _environment(self) -> dict[str, str]:
        quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        return {"VLLM_API_KEY": self._key, **quiet}

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


def _dtype_of(path: Path) -> str:
    """In which numbers the model was exported. Left to itself vLLM makes half-precision of single: other replies than those that were evaluated."""
    try:
        told = json.loads((path / "config.json").read_text(encoding="utf-8")).get("dtype")
    except (ValueError, AttributeError):
        told = None
    return told if told in ("float32", "float16", "bfloat16") else "auto"
