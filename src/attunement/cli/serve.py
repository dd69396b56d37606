"""`attune serve`: the model behind its gate, over HTTP."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attunement.cli.options import Model, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import ConfigError


def serve(
    model: Model,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: serving.host, this machine only).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: serving.port); 0 takes a free one.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for HTTPS (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Allow other machines without TLS, for instance behind a proxy that adds it.")
    ] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Serve a trained model: POST /api/v1/inference, GET /api/v1/health, interactive page at /docs.

    Example: `attune serve --model runs/first`
    """
    given = {"host": host, "port": port}
    sets = [f"serving.{key}={value}" for key, value in given.items() if value is not None]
    settings = load_settings(recipe, [*(overrides or ()), *sets]).settings
    if bool(tls_cert) != bool(tls_key):
        raise ConfigError("--tls-cert and --tls-key go together: give both or none")
    for path in (tls_cert, tls_key):
        if path is not None and not path.is_file():
            raise ConfigError(f"{path} does not exist")
    if not (is_loopback(settings.serving.host) or tls_cert or insecure_http):
        raise ConfigError(
            f"{settings.serving.host} can be reached from other machines and there is no TLS: "
            "give --tls-cert and --tls-key, or --insecure-http behind a proxy that adds it"
        )
    from attunement.security.age_files import use_identity
    from attunement.serving.app import create_app
    from attunement.serving.run import listen, run
    from attunement.serving.service import DeploymentService

    use_identity(settings.security.age_identity)
    service = DeploymentService(settings)
    with listen(settings.serving.host, settings.serving.port) as socket:
        deployed = service.load_model(model)
        address = f"{'https' if tls_cert else 'http'}://{_bracketed(settings.serving.host)}:{socket.getsockname()[1]}"
        console = Console(highlight=False)
        console.print(f"  model: {deployed.model_version} on {deployed.device}", soft_wrap=True)
        console.print(f"    API: {address}/api/v1/inference\n   page: {address}/docs\n   stop: Ctrl-C", soft_wrap=True)
        run(create_app(service), socket, tls_cert, tls_key)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
