"""`attune accounts`: who may sign in, in which roles, with which clients; and the API keys of programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings

if TYPE_CHECKING:
    from attunement.security.acting import Act
    from attunement.security.entry import Access

app = typer.Typer(no_args_is_help=True, help="Who may sign in, in which roles, with which clients; API keys of programs.")
key = typer.Typer(no_args_is_help=True, help="API keys of programs: shown once, scoped, expiring.")
app.add_typer(key, name="key")

Name = Annotated[str, typer.Argument(help="The account's name.")]
Roles = Annotated[
    list[str],
    typer.Option(
        "--role", help="administrator, ml_engineer, clinician, reviewer, compliance_officer or client; may be repeated."
    ),
]
Client = Annotated[str, typer.Option("--client", help="With the role client: the id of whose record it is.")]
Service = Annotated[str, typer.Argument(help="The service's name.")]
Days = Annotated[float | None, typer.Option("--days", help="How long the key holds (default: access.key_days).")]


@contextmanager
def _acting(action: str, recipe: Any, overrides: Any, client: str | None = None) -> Iterator[tuple[Access, Act]]:
    """The store, and the local operator's act, once the table of permissions let it be."""
    from attunement.security.entry import opened, operator_act

    with opened(load_settings(recipe, overrides or ()).settings) as access:
        yield access, operator_act(access.audit, action, client)


def _roles(names: list[str]) -> list[Any]:
    from attunement.errors import DataError
    from attunement.security.permissions import PERSONS

    unknown = [name for name in names if name not in PERSONS]
    if unknown:
        raise DataError(f"there is no role '{unknown[0]}': give one or more of {', '.join(PERSONS)}")
    return [next(role for role in PERSONS if role == name) for name in names]


def _day(seconds: float | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(*(rows[0] if rows else ["nothing"]), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(", ".join(v) if isinstance(v, list) else str(v) for v in row.values()))
    wide = None if sys.stdout.isatty() else 200
    Console(highlight=False, markup=False, width=wide).print(table)


def _secret(told: str, secret: str) -> None:
    typer.echo(told, err=True)
    typer.echo(secret)


@app.command()
def create(name: Name, role: Roles, client: Client = "", recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Make an account; its one-time password goes to standard output, this once.

    Example: `attune accounts create ada@clinic.example --role administrator`
    """
    with _acting("accounts:manage", recipe, overrides) as (access, act):
        account, password = access.accounts.create(name, _roles(role), act, client)
        hours = access.settings.one_time_password_hours
    _secret(f"{account.name} ({account.id}) signs in with this one-time password within {hours:g} hours:", password)
    typer.echo("A service that runs and asks nobody to sign in must be started again.", err=True)


@app.command(name="list")
def list_accounts(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the accounts.

    Example: `attune accounts list`
    """
    with _acting("accounts:read", recipe, overrides) as (access, _):
        rows = [
            {
                "name": a.name, "id": a.id, "status": a.status, "roles": sorted(a.roles), "client": a.client,
                "second factor": access.factors.has(a.id), "last sign-in": _day(a.last_sign_in),
            }
            for a in access.accounts.all()
        ]  # fmt: skip
    _show(rows, as_json)


@app.command()
def roles(name: Name, role: Roles, client: Client = "", recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Give an account other roles, in place of those that it has; its sessions end.

    Example: `attune accounts roles ada@clinic.example --role clinician --role reviewer`
    """
    with _acting("accounts:manage", recipe, overrides) as (access, act):
        access.accounts.set_roles(name, _roles(role), act, client)


@app.command()
def disable(name: Name, recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Keep an account from signing in; its sessions end at once.

    Example: `attune accounts disable ada@clinic.example`
    """
    with _acting("accounts:manage", recipe, overrides) as (access, act):
        access.accounts.set_status(name, "disabled", act)


@app.command()
def enable(name: Name, recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Let a disabled account sign in again.

    Example: `attune accounts enable ada@clinic.example`
    """
    with _acting("accounts:manage", recipe, overrides) as (access, act):
        access.accounts.set_status(name, "active", act)


@app.command()
def reset(
    name: Name,
    second_factor: Annotated[bool, typer.Option("--second-factor", help="Take the second factor away, too.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Give an account a new one-time password, and forget its failures; its sessions end.

    Example: `attune accounts reset ada@clinic.example`
    """
    with _acting("accounts:manage", recipe, overrides) as (access, act):
        password = access.accounts.reset(name, act)
        if second_factor:
            access.factors.remove(access.accounts.named(name).id, act)
    _secret(f"{name} signs in with this one-time password:", password)


@app.command()
def unlock(name: Name, recipe: Recipe = None, overrides: Overrides = None) -> None:
    """Forget an account's failures to sign in.

    Example: `attune accounts unlock ada@clinic.example`
    """
    with _acting("accounts:manage", recipe, overrides) as (access, act):
        access.accounts.unlock(name, act)


@app.command()
def assign(
    name: Name,
    client: Annotated[str, typer.Argument(help="The client's id.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the client away.")] = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Give a clinician a client, or take the client away.

    Example: `attune accounts assign ada@clinic.example c-1042`
    """
    with _acting("client:assign", recipe, overrides, client) as (access, act):
        access.accounts.assign(name, client, act, take_away=remove)


@app.command()
def link(
    name: Name,
    subject: Annotated[str, typer.Argument(help="The claim `sub` of the person at the provider.")],
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Let a person sign in by the OpenID Connect provider of `access.oidc_issuer`.

    Example: `attune accounts link ada@clinic.example 248289761001`
    """
    from attunement.errors import ConfigError

    with _acting("accounts:manage", recipe, overrides) as (access, act):
        if not access.settings.oidc_issuer:
            raise ConfigError("set access.oidc_issuer first")
        access.accounts.link(name, access.settings.oidc_issuer, subject, act)


@key.command(name="create")
def create_key(
    service: Service,
    scope: Annotated[list[str], typer.Option("--scope", help="An action of docs/access.md; may be repeated.")],
    days: Days = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Make a service account with its first key, which goes to standard output, this once.

    Example: `attune accounts key create intake-form --scope inference:create`
    """
    with _acting("service_keys:manage", recipe, overrides) as (access, act):
        made = access.keys.create(service, scope, act, days)
    _secret("Send it as  Authorization: Bearer ...; it is not shown again:", made)


@key.command(name="rotate")
def rotate_key(
    service: Service,
    days: Days = None,
    overlap_hours: Annotated[float, typer.Option(help="How much longer the old keys hold.")] = 24.0,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Give a service a new key; the old ones hold some hours longer.

    Example: `attune accounts key rotate intake-form`
    """
    with _acting("service_keys:manage", recipe, overrides) as (access, act):
        made = access.keys.rotate(service, act, days, overlap_hours)
    _secret(f"The old keys hold {overlap_hours:g} hours longer; this one takes their place:", made)


@key.command(name="revoke")
def revoke_key(
    which: Annotated[str, typer.Argument(help="A service's name (all its keys) or a key's prefix.")],
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """End keys at once.

    Example: `attune accounts key revoke intake-form`
    """
    with _acting("service_keys:manage", recipe, overrides) as (access, act):
        typer.echo(f"keys ended: {access.keys.revoke(which, act)}")


@key.command(name="list")
def list_keys(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the keys, without their secrets.

    Example: `attune accounts key list`
    """
    with _acting("accounts:read", recipe, overrides) as (access, _):
        rows = [
            {
                "service": k.name, "prefix": k.prefix, "status": k.status, "scopes": sorted(k.scopes),
                "expires": _day(k.expires), "last used": _day(k.last_used),
            }
            for k in access.keys.all()
        ]  # fmt: skip
    _show(rows, as_json)
