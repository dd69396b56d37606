"""`attune serve`: the model behind its gate, over HTTP."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from attunement.cli.options import Overrides, Recipe
from attunement.config import Settings, load_settings
from attunement.errors import ConfigError

if TYPE_CHECKING:
    from attunement.security.entry import Access
    from attunement.serving.service import DeploymentService


def serve(
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a run (its best checkpoint) or of a checkpoint; of an export where serving.engine is vllm; "
            "where it is openai none is needed."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: serving.host, this machine only).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: serving.port); 0 takes a free one.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for HTTPS (PEM; default: serving.tls_certificate).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM; default: serving.tls_key).")] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Allow other machines without TLS, for instance behind a proxy that adds it.")
    ] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Serve a trained model: POST /api/v1/inference, GET /api/v1/health, interactive page at /docs.

    Example: `attune serve --model runs/first`
    """
    given = {"host": host, "port": port, "tls_certificate": tls_cert, "tls_key": tls_key}
    sets = [f"serving.{key}={value}" for key, value in given.items() if value is not None]
    settings = load_settings(recipe, [*(overrides or ()), *sets]).settings
    serving = settings.serving
    if model is None and serving.engine != "openai":
        raise ConfigError("which model? Give --model RUN")
    _check_tls(settings, insecure_http)
    from attunement.security.age_files import use_identity
    from attunement.security.recording import noted
    from attunement.serving.app import create_app
    from attunement.serving.assembly import assembled
    from attunement.serving.guard import Guard
    from attunement.serving.run import ending_in_order, listen, run, share_heaps
    from attunement.serving.service import DeploymentService

    use_identity(settings.security.age_identity)
    share_heaps()
    with (
        ending_in_order(),
        asked(settings) as access,
        listen(serving.host, serving.port) as socket,
        closing(DeploymentService(settings)) as service,
    ):
        deployed = service.load_model(model or Path())
        address = f"{'https' if serving.tls_key else 'http'}://{_bracketed(serving.host)}:{socket.getsockname()[1]}"
        console = Console(highlight=False)
        console.print(f"  model: {deployed.model_version} on {deployed.device}", soft_wrap=True)
        console.print(f"    API: {address}/api/v1/inference\n   page: {address}/docs", soft_wrap=True)
        console.print(f"sign-in: {'required' if access else 'none, and only this machine is answered'}", soft_wrap=True)
        for late in (*([_assessment_overdue(settings)] if access else []), *_places_overdue(service)):
            if late:
                console.print(f"   note: {late}", style="yellow", soft_wrap=True)
        console.print("   stop: Ctrl-C")
        # without TLS on this machine alone a browser would not keep a cookie that is for TLS alone
        secure = bool(serving.tls_key) or not is_loopback(serving.host) or settings.access.public_url.startswith("https://")
        recorded = noted(settings, "deployment:change", "deployment:load", "deployment:stop", deployed.model_version)
        with assembled(settings, service, access) as parts, recorded:
            buckets = parts.stores.buckets if parts.stores else None
            guard = Guard(settings, access, secure_cookies=secure, buckets=buckets)
            run(create_app(service, guard, parts.exchanges), socket, serving.tls_certificate, serving.tls_key)


def _assessment_overdue(settings: Settings) -> str:
    from attunement.compliance.assessment import overdue
    from attunement.security.clock import utc_now

    return overdue(settings, utc_now())


def _places_overdue(service: DeploymentService) -> list[str]:
    from attunement.security.clock import utc_now

    return service.gate.places.overdue(utc_now().date(), [service.settings.serving.region])


def _check_tls(settings: Settings, insecure_http: bool) -> None:
    serving = settings.serving
    if bool(serving.tls_certificate) != bool(serving.tls_key):
        raise ConfigError("--tls-cert and --tls-key go together: give both or none")
    for path in (serving.tls_certificate, serving.tls_key):
        if path is not None and not path.is_file():
            raise ConfigError(f"{path} does not exist")
    if not (is_loopback(serving.host) or serving.tls_certificate or insecure_http):
        raise ConfigError(
            f"{serving.host} can be reached from other machines and there is no TLS: "
            "give --tls-cert and --tls-key, or --insecure-http behind a proxy that adds it"
        )


@contextmanager
def asked(settings: Settings) -> Iterator[Access | None]:
    """Who may sign in, or None where nobody is asked (`serving.authentication`). Raises `ConfigError` where that must not be."""
    from attunement.security.entry import anybody, opened
    from attunement.security.vault import open_store
    from attunement.storage.sql import FILE

    mode, local = settings.serving.authentication, is_loopback(settings.serving.host)
    if mode == "none" and not local:
        raise ConfigError(
            f"{settings.serving.host} can be reached from other machines, and serving.authentication is none: "
            "set it to required, or serve on 127.0.0.1"
        )
    there = False
    if mode != "none" and (settings.security.store or (settings.home.expanduser() / FILE).exists()):
        with closing(open_store(settings)) as store:
            there = anybody(store)
    if not there and mode != "none" and not (mode == "auto" and local):
        raise ConfigError("nobody could sign in: make the first account with  attune accounts create NAME --role administrator")
    if not there:
        yield None
        return
    with opened(settings) as access:
        yield access


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
