"""Incidents: the procedure's steps, the clocks of the Breach Notification Rule, and that nothing in them can be changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from attunement.config import load_settings
from attunement.errors import DataError
from attunement.security.acting import Act
from attunement.security.incidents import FACTORS, Incident, Incidents, ViolationError, raise_incident
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault

ACT = Act("a-officer")
NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
TOLD = "the letter of Ms Zquv went to the wrong Zquv"


@pytest.fixture(params=["sqlite", "postgres"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    sets = [f"home={tmp_path / 'home'}"]
    if request.param == "postgres":
        sets.append(f"security.store={request.getfixturevalue('server').new('incidents')}")
    FileMasterKey.create(tmp_path / "home" / "master.key")
    with Vault.open(load_settings(None, sets).settings) as opened:
        yield opened


@pytest.fixture
def book(vault: Vault) -> Incidents:
    return Incidents(vault, lambda: NOW)


def due(incident: Incident) -> dict[str, tuple[str, str, str]]:
    return {c.name: (c.paragraph, str(c.due), c.state) for c in incident.clocks()}


def test_a_breach_from_discovery_to_its_end(vault: Vault, book: Incidents, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="future"):
        book.open("disclosure", TOLD, ACT, discovered=date(2026, 11, 28))
    found = book.open("disclosure", TOLD, ACT, discovered=date(2026, 11, 20), client="c-7")
    assert due(found) == {  # nobody is counted yet: taken for many
        "notify_individuals": ("164.404(b)", "2027-01-19", "runs"),
        "notify_secretary": ("164.408(b)", "2027-01-19", "runs"),
        "notify_media": ("164.406(b)", "2027-01-19", "runs"),
    }
    with pytest.raises(DataError, match="contain, decide, review"):
        book.close(found.id, "", ACT)
    found = book.step(found.id, "count", "", ACT, persons=1)
    assert due(found)["notify_secretary"] == ("164.408(c)", "2027-03-01", "runs")
    assert due(found)["notify_media"][2] == "not_applicable"
    with pytest.raises(DataError, match="missing: information, recipient"):
        book.step(found.id, "decide", "unlikely", ACT, decision="low_probability")
    for step, given in (("contain", {}), ("decide", {"decision": "breach"}), ("review", {}), ("notify_individuals", {})):
        found = book.step(found.id, step, "done as written", ACT, **given)
    assert found.missing() == ["notify_secretary"]
    book.step(found.id, "notify_secretary", "", ACT)
    assert not book.close(found.id, "all told", ACT).is_open
    with pytest.raises(DataError, match="is closed"):
        book.step(found.id, "note", "late", ACT)
    actions = [(r.action, r.target, r.client) for r in vault.audit.records() if r.action.startswith("incident:")]
    assert actions[0] == ("incident:open", found.id, "c-7") and actions[-1][0] == "incident:close" and len(actions) == 8
    assert vault.audit.verify().whole
    vault.store.close()
    assert not any(b"Zquv" in path.read_bytes() for path in (tmp_path / "home").iterdir() if path.is_file())


def test_four_factors_stop_the_clocks_and_a_court_moves_them(book: Incidents) -> None:
    found = book.open("loss", "a notebook", ACT, discovered=date(2026, 11, 1), persons=800)
    assert due(found)["notify_media"] == ("164.406(b)", "2026-12-31", "runs")
    assert (
        due(book.step(found.id, "count", "", ACT, persons=800, residents=500))["notify_media"][2] == "not_applicable"
    )  # more than 500
    assert (
        due(book.step(found.id, "delay", "letter of the police", ACT, until=date(2027, 2, 1)))["notify_individuals"][1]
        == "2027-02-01"
    )
    for factor in FACTORS:
        with pytest.raises(DataError, match="which factor"):
            book.step(found.id, "factor", " ", ACT, factor=factor)
        book.step(found.id, "factor", "looked at", ACT, factor=factor)
    found = book.step(found.id, "decide", "by all four", ACT, decision="low_probability")
    assert {state for _, _, state in due(found).values()} == {"stopped"}
    ours = book.open("associate", "theirs", ACT, as_associate=True)
    assert due(ours) == {"notify_entity": ("164.410(b)", "2027-01-26", "runs")}


def test_nothing_in_it_can_be_changed(vault: Vault, book: Incidents) -> None:
    first, other = book.open("access", TOLD, ACT), book.open("access", "another", ACT)
    for statement in ("update incident_steps set actor = 'nobody'", "delete from incident_steps"):
        with pytest.raises(DatabaseError, match="append-only"), vault.store.begin() as connection:
            connection.execute(sa.text(statement))
    with vault.store.begin() as connection:  # as who owns the database: the words of one in the place of the other
        for name in ("incident_no_update",) if vault.store.is_sqlite else ():
            connection.exec_driver_sql(f"drop trigger {name}")
        if not vault.store.is_sqlite:
            connection.exec_driver_sql("alter table incident_steps disable trigger user")
        moved = "update incident_steps set data = (select data from incident_steps where incident = :b) where incident = :a"
        connection.execute(sa.text(moved), {"a": first.id, "b": other.id})
    with pytest.raises(DataError, match="moved there from elsewhere"):
        book.get(first.id)


def test_what_the_software_stops_is_recorded_told_and_blocked(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    now = [NOW]
    how = {"actor": "a-engineer", "client": "c-7", "clock": lambda: now[0], "alert": lambda incident: told.append(incident.id)}
    with caplog.at_level(logging.ERROR), pytest.raises(ViolationError, match="attune incidents show") as stopped:
        raise_incident(vault, "blocked", "2 NAME to provider openai", **how)  # type: ignore[arg-type]
    assert told == [stopped.value.incident] and stopped.value.incident in caplog.text and "NAME" not in caplog.text
    with pytest.raises(ViolationError):  # again on the same day: another step, no flood of incidents
        raise_incident(vault, "blocked", "1 NAME to provider openai", **how)  # type: ignore[arg-type]
    now[0] = datetime(2026, 11, 29, 9, 0, tzinfo=UTC)
    later = raise_incident(vault, "blocked", "1 NAME to provider openai", block=False, **how)  # type: ignore[arg-type]
    assert [len(i.steps) for i in Incidents(vault).all()] == [1, 2] and later.id != stopped.value.incident
