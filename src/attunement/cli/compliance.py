"""`attune compliance`: assess the installation against the HIPAA Security Rule; when it was last done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from attunement.cli.acting import acting
from attunement.cli.options import AsJson, Overrides, Recipe
from attunement.config import load_settings
from attunement.errors import EXIT_PARTIAL

app = typer.Typer(no_args_is_help=True, help="What the installation is like, held against the HIPAA Security Rule.")

Strict = Annotated[bool, typer.Option("--strict", help="Exit with 4 when something fails.")]


@app.command()
def assess(
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the report, besides the one in the home.")] = None,
    look: Annotated[
        list[Path] | None,
        typer.Option("--look", metavar="DIR", help="Folder with data sets or runs, for the inventory; may be repeated."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Let pip-audit send the names of the installed packages to its index.")
    ] = False,
    strict: Strict = False,
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Run every check and write a dated report (HTML and JSON). Nothing is sent anywhere without --online.

    Example: `attune compliance assess --look runs --look out`
    """
    from attunement.compliance.assessment import assess as run
    from attunement.compliance.assessment import folder_of, write_report

    settings = load_settings(recipe, overrides or ()).settings
    report = run(settings, folders=look or [], online=online)
    page = write_report(report, folder_of(settings))[1]
    if out is not None:
        page = write_report(report, out)[1]
    if as_json:
        typer.echo(json.dumps(report))
    else:
        for row in report["findings"]:
            typer.echo(f"{row['outcome']:14} {row['id']:26} {row['evidence']}")
        typer.echo(", ".join(f"{count} {outcome}" for outcome, count in report["counts"].items()) + f"; written to {page}")
    if strict and report["counts"]["fail"]:
        raise typer.Exit(EXIT_PARTIAL)


@app.command()
def status(strict: Strict = False, recipe: Recipe = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Tell when the last assessment was, and what it found; `--strict` fails when it is more than 90 days old.

    Example: `attune compliance status`
    """
    from attunement.compliance.assessment import last_report, overdue
    from attunement.security.clock import utc_now

    settings = load_settings(recipe, overrides or ()).settings
    last, late = last_report(settings), overdue(settings, utc_now())
    if as_json:
        typer.echo(json.dumps({"at": last and last["at"], "counts": last and last["counts"], "overdue": bool(late)}))
    elif last is not None:
        typer.echo(f"{last['at'][:10]}: " + ", ".join(f"{count} {outcome}" for outcome, count in last["counts"].items()))
    if late:
        typer.echo(late, err=True)
    if strict and late:
        raise typer.Exit(EXIT_PARTIAL)


@app.command()
def referrals(
    year: Annotated[int, typer.Argument(help="The calendar year.")],
    recipe: Recipe = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Count how often somebody was referred to a crisis service in a year, by place (California's SB 243 asks for it).

    Example: `attune compliance referrals 2027`
    """
    from attunement.serving.reviews import ClinicalReviews

    with acting("compliance:assess", recipe, overrides) as (vault, _):
        found = ClinicalReviews(vault.audit, vault.cipher).referred(year)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for place, count in sorted(found.items()):
        typer.echo(f"{count:,} in {place}")
    typer.echo(f"{sum(found.values()):,} referrals in {year}")
