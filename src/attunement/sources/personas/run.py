"""One run of `attune generate personas`: files, provider, dialogues, output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attunement.config import Settings
from attunement.embedding import Embedder
from attunement.providers import Provider
from attunement.quality.panel import Judges
from attunement.sources.personas import output as persona_output
from attunement.sources.personas import scenarios as persona_scenarios
from attunement.sources.personas.grammar import PROVIDER
from attunement.sources.personas.trainer import DEFAULT_COUNT, DualPersonaTrainer, chosen


def run(
    settings: Settings,
    out: Path,
    *,
    provider: Provider | None = None,
    names: Sequence[str] = (),
    own: Path | None = None,
    count: int = DEFAULT_COUNT,
    seed: int = 17,
    told: Callable[[], object] = lambda: None,
    judges: Judges | None = None,
) -> dict[str, Any]:
    """Makes the dialogues and writes them to `out`; returns the report. Without `provider` they come from the written scenarios.

    Raises `DataError` for files that cannot be used or an unknown persona, `ServiceError` where the provider gives nothing.
    """
    judges = judges or Judges(Embedder(settings.embedding), settings.home.expanduser())
    trainer = DualPersonaTrainer(judges, provider, own=own, count=count, seed=seed, told=told)
    trainer.made_up = own is None
    material = persona_scenarios.scenarios(own, trainer.clients)
    trainer.generate_persona_dialogues(chosen(trainer.personas, names), list(material.values()))
    by, limit = provider.name if provider else PROVIDER, settings.data.near_duplicate_threshold
    return persona_output.write(trainer.made, judges, out, provider=by, seed=seed, near_duplicate=limit)
