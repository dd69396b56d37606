"""`attune chat`: talk with a model in the terminal, through the same gate as the service."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from attunement.cli.options import AsJson, Model, Overrides, Recipe
from attunement.config import load_settings


def chat(
    model: Model,
    once: Annotated[str | None, typer.Option(help="Say this, print the reply and end.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Talk with a model; replies stream, their scores stand below. An empty line or Ctrl-D ends the talk.

    Example: `attune chat --model runs/first`
    """
    from attunement.security.age_files import use_identity
    from attunement.serving.service import DeploymentService

    settings = load_settings(recipe, overrides or ()).settings
    use_identity(settings.security.age_identity)
    # In a terminal a reply that streams may take longer than the service's answer may.
    longer = {"deadline_seconds": max(settings.serving.deadline_seconds, 20.0)}
    patient = settings.model_copy(update={"serving": settings.serving.model_copy(update=longer)})
    with closing(DeploymentService(patient)) as service:
        _talk(service, model, once, as_json)


def _talk(service: Any, model: Path, once: str | None, as_json: bool) -> None:
    deployed = service.load_model(model)
    console, talk = Console(highlight=False), list[dict[str, str]]()
    if once is None and not as_json:
        console.print(
            f"[dim]{deployed.model_version}. A computer program, not a therapist: in an emergency call a person.\n"
            "An empty line or Ctrl-D ends the talk.[/]",
            soft_wrap=True,
        )
    for said in [once] if once is not None else _lines(as_json):
        response = _say(service, talk, said, console, as_json)
        talk += [{"role": "user", "content": said}, {"role": "assistant", "content": response}]


def _lines(as_json: bool) -> Any:
    while True:
        try:
            line = input("" if as_json or not sys.stdin.isatty() else "\nyou: ").strip()
        except EOFError:
            return
        if not line:
            return
        yield line


def _say(service: Any, talk: list[dict[str, str]], said: str, console: Console, as_json: bool) -> str:
    from attunement.records import InferenceRequest

    request = InferenceRequest(talk, said)
    pieces = ""
    for part in service.stream(request):
        if isinstance(part, str):
            pieces += part
            if not as_json:
                console.print(part, end="", soft_wrap=True, markup=False)
    answer, gate = part.reply, part.action
    scores = {
        "bias_score": answer.bias_score,
        "confidence": answer.confidence,
        "coherence": round(service.coherence(request, answer.response), 4),
        "gate": gate,
    }
    if as_json:
        typer.echo(json.dumps({"response": answer.response, **scores}, ensure_ascii=False))
        return str(answer.response)
    if answer.response != pieces:  # words were held back after some were shown
        console.print(f"\n{answer.response}" if pieces else answer.response, end="", soft_wrap=True, markup=False)
    told = ", ".join(f"{name.replace('_score', '')} {value:.2f}" for name, value in scores.items() if name != "gate")
    console.print(f"\n[dim]{told}{'' if gate == 'passed' else f', gate: {gate}'}[/]")
    return str(answer.response)
