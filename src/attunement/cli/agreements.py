"""`attune agreements`: Business Associate Agreements with providers outside of this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.errors import DataError

app = typer.Typer(no_args_is_help=True, help="Business Associate Agreements: who may be given personal data.")


@app.command()
def add(
    provider: Annotated[str, typer.Argument(help="openai, anthropic, or the host of another, as llm.example.org.")],
    signed: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Day on which it was signed.")],
    contact: Annotated[str, typer.Option(help="Whom to call at the provider.")],
    expires: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Its last day; without it, until it is ended.")] = "",
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Put an agreement on record: while it is in force, text with personal data may go to the provider.

    Example: `attune agreements add openai --signed 2026-11-01 --expires 2027-10-31 --contact privacy@openai.com`
    """
    from urllib.parse import urlsplit

    from attunement.providers.opening import ADDRESSES
    from attunement.security.agreements import Agreements

    host = urlsplit(ADDRESSES[provider]).hostname or "" if provider in ADDRESSES else provider
    with acting("agreements:manage", recipe, overrides) as (vault, act):
        made = Agreements(vault.audit).add(host, _day(signed), _day(expires) if expires else None, contact, act)
    typer.echo(
        f"{made.id}: {made.provider}, signed {made.signed}, {f'expires {made.expires}' if made.expires else 'until ended'}"
    )


@app.command("list")
def list_agreements(recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the agreements, ended ones too.

    Example: `attune agreements list`
    """
    from attunement.security.agreements import Agreements

    with acting("agreements:manage", recipe, overrides) as (vault, _):
        found = Agreements(vault.audit).all()
    today = datetime.now(UTC).date()
    if as_json:
        typer.echo(json.dumps([{**asdict(each), "in_force": each.in_force(today)} for each in found]))
        return
    for each in found:
        state = "in force" if each.in_force(today) else f"ended {each.ended}" if each.ended else f"expired {each.expires}"
        typer.echo(f"{each.id}: {each.provider}, signed {each.signed}, {state}; {each.contact}")
    if not found:
        typer.echo("no agreement is on record: no text with personal data goes to a provider outside of this machine")


@app.command()
def end(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The agreement's id.")],
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """End an agreement, from today on.

    Example: `attune agreements end b0123456789abcde`
    """
    from attunement.security.agreements import Agreements

    with acting("agreements:manage", recipe, overrides) as (vault, act):
        Agreements(vault.audit).end(identifier, act)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"'{text}' is no day: give it as 2026-11-27") from error
