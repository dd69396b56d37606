"""From the settings and a folder to an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attunement.config import ServingSettings
from attunement.serving.engines import Engine


def open_engine(settings: ServingSettings, path: Path, in_force: Callable[[str], bool] = lambda host: False) -> Engine:
    """The engine that `settings.engine` names, not started: of the checkpoint or the exported model at `path`.

    `openai` asks for `settings.engine_model`, and has no use for `path`. `in_force` says whether a Business Associate Agreement with the
    provider at a host is. Raises `UserError`.
    """
    if settings.engine == "builtin":
        from attunement.serving.engines.builtin import BuiltinEngine

        return BuiltinEngine.load(path, settings)
    if settings.engine == "vllm":
        from attunement.serving.engines.vllm import VLLMEngine

        return VLLMEngine(path, settings)
    from attunement.serving.engines.openai import OpenAIEngine

    return OpenAIEngine.of(settings, in_force)
