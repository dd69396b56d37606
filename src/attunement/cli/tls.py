"""`attune tls`: certificates for development."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Certificates for development.")


@app.callback()
def _group() -> None:
    """A group, though it has one command yet."""


@app.command()
def dev(
    out: Annotated[Path, typer.Option("--out", help="Folder for the certificate and its key.")] = Path("tls"),
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address that it is for, beside localhost; may be repeated.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=397, help="How long it holds.")] = 30,
) -> None:
    """Make a self-signed certificate for this machine, to try HTTPS with. No browser trusts it by itself: not for real clients.

    Example: `attune tls dev --out tls`
    """
    from attunement.serving.certificates import development_certificate

    certificate, key = development_certificate(out, host or (), days)
    typer.echo(f"written: {certificate} (for {days} days) and its key {key}")
    typer.echo(f"serve with  attune serve --model RUN --tls-cert {certificate} --tls-key {key}")
    typer.echo(f"ask with    curl --cacert {certificate} https://localhost:8000/api/v1/health")
