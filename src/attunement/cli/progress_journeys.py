"""`attune progress simulate` and `journeys`: invented journeys to try things out with, and training data of real ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunement.cli.journal import journal
from attunement.cli.options import Overrides, Recipe
from attunement.errors import DataError

if TYPE_CHECKING:
    from attunement.progress.journey import Journey


def simulate(
    clients: Annotated[int, typer.Option(min=1, max=10_000, help="How many invented clients.")] = 3,
    years: Annotated[float, typer.Option(min=0.1, max=30, help="How long they come.")] = 2.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same journeys.")] = 17,
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Log invented journeys (sessions, questionnaires, goals, events) under the ids sim-SEED-1, sim-SEED-2, ..., to try the journal out.

    Example: `attune progress simulate --clients 3 --years 2`
    """
    from dataclasses import replace

    from rich.progress import track

    from attunement.progress.importing import take_in
    from attunement.progress.simulator import simulate as made
    from attunement.security.clock import utc_now

    first_day = utc_now() - timedelta(days=366 + 365.25 * years)
    with journal("client:write", recipe, overrides, f"sim-{seed}-1") as system:
        found = made(clients, years, seed, first_day=first_day.replace(hour=0, minute=0, second=0, microsecond=0))
        for number, each in enumerate(track(found, "journeys", total=clients, transient=True), 1):
            client = f"sim-{seed}-{number}"
            sessions = [replace(s, log=replace(s.log, client_id=client)) for s in each.journey.sessions]
            count = take_in(system, replace(each.journey, client_id=client, sessions=sessions))
            typer.echo(f"{client}: {count} sessions, {len(each.journey.scores)} questionnaires")


def journeys(
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="New file of de-identified journeys.")],
    consented: Annotated[Path, typer.Option(metavar="FILE", help="Ids of the clients who consented, one a line.")],
    recipe: Recipe = None,
    overrides: Overrides = None,
) -> None:
    """Write de-identified journeys of clients who consented, for `full.journeys` of a build: times are relative, personal data is out.

    Example: `attune progress journeys --out journeys.jsonl --consented consented.txt`
    """
    from attunement.progress import milestones
    from attunement.progress.training_journeys import write_training_journeys
    from attunement.security.codes import valid_id

    try:
        named = [line.strip() for line in consented.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{consented} cannot be read: a text file with a client's id on each line is wanted") from error
    if out.exists():
        raise DataError(f"{out} exists already: journeys are not written over another file")
    clients = [valid_id("client", name) for name in dict.fromkeys(named)]
    with journal("data:build", recipe, overrides) as system:
        now = system.vault.audit.clock()

        def opened() -> Iterator[Journey]:
            for client in clients:
                system.journal.record_read(client, system.act, "client:export")
                yield system.journal.journey(client)

        counts = write_training_journeys(
            out,
            opened(),
            consented=set(clients),
            measures=system.measures,
            milestones=lambda each: milestones.found(each, system.measures, now),
        )
    out.chmod(0o600)
    typer.echo(f"{counts['written']} journeys in {out}; left out: {counts['too_short']} too short")
