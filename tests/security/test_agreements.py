"""Nothing personal goes to a provider outside of this machine without an agreement in force; real server, real store."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.config import load_settings
from attunement.errors import DataError, ServiceError, UserError
from attunement.providers import Message, Request
from attunement.providers.guarded import Guarded
from attunement.providers.opening import open_provider
from attunement.security.acting import Act
from attunement.security.agreements import Agreements, is_outside
from attunement.security.audit import AuditLog
from attunement.security.incidents import Incidents
from attunement.security.recording import agreements_of, incidents_of
from attunement.security.vault import Vault
from attunement.storage.sql import Store
from speaking import said, speaking

PERSONAL = Request([Message("user", "My name is Agnieszka Kowalczyk, call (212) 555-0147.")], "k")
ACT = Act("os:test")
RUNNER = CliRunner()


def test_an_agreement_is_in_force_from_its_day_to_its_last(store: Store) -> None:
    now = [datetime(2026, 11, 27, 9, 0, tzinfo=UTC)]
    kept = Agreements(AuditLog(store), lambda: now[0])
    made = kept.add("API.example.org", date(2026, 11, 1), date(2026, 12, 31), "privacy@\nexample.org", ACT)
    assert made.contact == "privacy@ example.org"
    assert kept.in_force("api.example.org") and not kept.in_force("example.org") and not kept.in_force("evil-api.example.org")
    now[0] = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert kept.in_force("api.example.org")
    now[0] = datetime(2027, 1, 1, 0, 0, tzinfo=UTC)
    assert not kept.in_force("api.example.org")
    now[0] = datetime(2026, 12, 1, tzinfo=UTC)
    kept.end(made.id, ACT)
    assert not kept.in_force("api.example.org") and [a.ended for a in kept.all()] == ["2026-12-01"]
    with pytest.raises(DataError, match="not ended"):
        kept.end(made.id, ACT)
    for provider, signed, expires in [
        ("https://api.example.org", date(2026, 1, 1), None), ("", date(2026, 1, 1), None), ("a..b", date(2026, 1, 1), None),
        ("api.example.org", date(2026, 12, 2), None), ("api.example.org", date(2026, 1, 2), date(2026, 1, 1)),
    ]:  # fmt: skip
        with pytest.raises(DataError):
            kept.add(provider, signed, expires, "x", ACT)
    done = [(r.action, r.target) for r in kept._audit.records()]
    assert done == [("agreements:add", made.id), ("agreements:end", made.id)]


def test_text_with_personal_data_stays_here_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is on this machine, so the guard is put where `open_provider` puts it for another."""
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    settings = load_settings(overrides=['providers.model="m"']).settings
    with speaking(lambda path, _: said(path, "hello")) as speaker:
        provider = open_provider(f"{speaker.address}/v1", settings.providers, tmp_path / "answers")
        assert not isinstance(provider.inner, Guarded)  # an address of this machine is not outside
        provider.inner = guarded = Guarded(provider.inner, "llm.example.org", agreements_of(settings))

        async def ask() -> None:
            with pytest.raises(ServiceError) as refused:
                await provider.complete(PERSONAL)
            assert "2 NAME" in str(refused.value) or "1 NAME" in str(refused.value)
            assert "Kowalczyk" not in str(refused.value) and "555" not in str(refused.value)
            assert not speaker.asked and provider.account.requests == 0
            assert (await provider.complete(Request([Message("user", "Write about a hard day at work.")], "k2"))).text == "hello"
            RUNNER.invoke(app, ["keys", "init"], catch_exceptions=False)
            with pytest.raises(ServiceError):
                await provider.complete(PERSONAL)
            add = ["agreements", "add", "llm.example.org", "--signed", "2026-01-01", "--contact", "privacy"]
            identifier = RUNNER.invoke(app, add, catch_exceptions=False).stdout.split(":")[0]
            assert (await provider.complete(PERSONAL)).text == "hello"
            listed = json.loads(RUNNER.invoke(app, ["agreements", "list", "--json"], catch_exceptions=False).stdout)
            assert [(each["id"], each["in_force"]) for each in listed] == [(identifier, True)]
            RUNNER.invoke(app, ["agreements", "end", identifier], catch_exceptions=False)
            with pytest.raises(ServiceError):
                await guarded.complete(PERSONAL)
            made_up = Request([*PERSONAL.messages], "k", made_up=True)
            assert (await guarded.complete(made_up)).text == "hello"
            await provider.close()

        asyncio.run(ask())
    assert isinstance(
        RUNNER.invoke(app, ["agreements", "add", "x.org", "--signed", "soon", "--contact", "x"]).exception, UserError
    )


def test_what_was_stopped_is_an_incident_where_there_is_a_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The address is of nobody (192.0.2.1, RFC 5737): a request that got out of the guard would fail otherwise."""
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    settings = load_settings(overrides=['providers.model="m"']).settings

    async def ask(times: int) -> list[str]:
        rules = {"in_force": agreements_of(settings), "blocked": incidents_of(settings)}
        provider = open_provider("http://192.0.2.1:9/v1", settings.providers, tmp_path / "answers", **rules)  # type: ignore[arg-type]
        told = []
        for _ in range(times):
            with pytest.raises(ServiceError, match=r"nothing was sent to 192\.0\.2\.1") as refused:
                await provider.complete(PERSONAL)
            told.append(str(refused.value))
        await provider.close()
        return told

    (told,) = asyncio.run(ask(1))
    assert "attune incidents" not in told and "attune keys init" in caplog.text and "1 requests" in caplog.text
    RUNNER.invoke(app, ["keys", "init"], catch_exceptions=False)
    told = asyncio.run(ask(3))
    with Vault.open(settings) as vault:
        (incident,) = Incidents(vault).all()
        assert incident.kind == "blocked" and all(f"attune incidents show {incident.id}" in text for text in told)
        texts = [step.data["text"] for step in incident.steps]
        assert [text.split(" ")[0] for text in texts] == ["1", "2"]  # the first at once, the others at the end
        assert "192.0.2.1" in texts[0] and "1 PHONE" in texts[0] and "2 PHONE" in texts[1]
        done = [(r.action, r.target) for r in vault.audit.records() if r.action.startswith("incident:")]
        assert done == [("incident:open", incident.id), ("incident:seen", incident.id)]
    for word in ("Agnieszka", "Kowalczyk", "555"):
        assert word not in "".join([*told, *texts, caplog.text])
    asyncio.run(ask(1))
    with Vault.open(settings) as vault:  # another run of the same day is counted with it
        assert [len(i.steps) for i in Incidents(vault).all()] == [3]

    def broken(_: str) -> str:
        raise UserError("no space left")

    guarded = Guarded(open_provider("http://127.0.0.1:9/v1", settings.providers, tmp_path), "x.org", lambda _: False, broken)
    with pytest.raises(ServiceError, match="nothing was sent"):  # it is refused all the same
        asyncio.run(guarded.complete(PERSONAL))
    assert "no space left" in caplog.text


def test_other_machines_are_outside(tmp_path: Path) -> None:
    settings = load_settings(overrides=['providers.model="m"']).settings.providers
    for address in (
        "https://llm.example.org/v1",
        "http://10.0.0.7:8000/v1",
        "http://localhost.example.org/v1",
        "http://[2001:db8::1]/v1",
    ):
        assert isinstance(open_provider(address, settings, tmp_path).inner, Guarded)
    for address in ("http://127.0.0.1:8000/v1", "http://localhost:8000/v1", "http://[::1]:8000/v1"):
        assert not isinstance(open_provider(address, settings, tmp_path).inner, Guarded)
    assert is_outside("127.0.0.1.example.org") and is_outside("0.0.0.0") and not is_outside("127.8.8.8")
