"""Reviews, alerts, feedback, figures: the people around the model, over real sockets and stores."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from attunement.errors import ConfigError
from attunement.security.clients import kinds
from attunement.security.entry import Access
from attunement.security.permissions import Role
from attunement.security.retention import Retention
from attunement.security.vault import Vault
from attunement.serving.alerts import SIGNATURE, AlertSender
from attunement.serving.exchange import Told
from attunement.serving.reviews import ClinicalReviews, Flagged, reviews
from attunement.storage.sql import Store
from signing import ACT, SetClock, access_to, browser, guarded, person, settings_for, sign_in

RISK = "I am going to kill myself tonight, zq-words."


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="module")
def access(home: Path) -> Iterator[Access]:
    store = Store.at_home(home)
    with access_to(store, home) as made:
        yield made
    store.close()


@pytest.fixture(scope="module")
def address(access: Access, home: Path) -> Iterator[str]:
    with guarded(access, settings_for(home, "serving.requests_per_minute=6000", "serving.region=US-CA")) as found:
        yield found


@contextmanager
def signed(address: str, access: Access, name: str, role: Role, *clients: str) -> Iterator[httpx.Client]:
    person(access, name, role, client=clients[0] if role is Role.CLIENT else "")
    for client in clients if role is Role.CLINICIAN else ():
        access.accounts.assign(name, client, ACT)
    with browser(address) as found:
        sign_in(found, name)
        yield found


def test_danger_is_in_the_queue_and_an_alert_before_the_reply_is_given(access: Access, address: str, home: Path) -> None:
    with (
        signed(address, access, "ann", Role.CLINICIAN, "c-1") as ann,
        signed(address, access, "bob", Role.CLINICIAN, "c-2") as bob,
    ):
        body = {"user_input": RISK, "client_id": "c-1", "session_id": "s-1"}
        answer = ann.post("/api/v1/inference", json=body)
        assert answer.status_code == 200 and answer.json()["safety"]["action"] == "crisis"
        assert answer.json()["safety"]["crisis_level"] == "imminent" and "988" in answer.json()["response"]
        row = answer.json()["safety"]["review_id"]
        assert bob.post("/api/v1/inference", json=body).status_code == 403  # another clinician's client

        (alert,) = ann.get("/api/v1/alerts").json()
        assert (alert["id"], alert["priority"], alert["client"], alert["session"]) == (row, "imminent", "c-1", "s-1")
        assert alert["request"] == answer.json()["request_id"] and "zq-words" not in json.dumps(alert)
        assert bob.get("/api/v1/alerts").json() == []
        assert bob.post("/api/v1/alerts", json={"alert_id": row}).status_code == 422
        assert ann.post("/api/v1/alerts", json={"alert_id": row}).json()["taken_by"]
        assert "taken it on already" in ann.post("/api/v1/alerts", json={"alert_id": row}).json()["detail"]
        assert ann.get("/api/v1/alerts").json() == []

    with signed(address, access, "rita", Role.REVIEWER) as rita:
        (found,) = [r for r in rita.get("/api/v1/reviews").json() if r["id"] == row]
        assert found["talk"][-1]["content"] == RISK and found["reply"] == answer.json()["response"]
        done = rita.post("/api/v1/reviews", json={"review_id": row, "decision": "approve", "note": "called her"})
        assert done.json()["decision"] == "approve"
        again = rita.post("/api/v1/reviews", json={"review_id": row, "decision": "dismiss"})
        assert again.status_code == 422 and "decided already" in again.json()["detail"]
        assert row not in {r["id"] for r in rita.get("/api/v1/reviews").json()}
        (closed,) = [r for r in rita.get("/api/v1/reviews?state=decided").json() if r["id"] == row]
        assert closed["note"] == "called her"

    assert not [p for p in home.rglob("*") if p.is_file() and b"zq-words" in p.read_bytes()]  # nothing in the clear
    actions = [record.action for record in access.audit.records(client="c-1")]
    assert {"review:create", "alert:acknowledge", "review:read", "review:decide", "inference:create"} <= set(actions)
    assert ClinicalReviews(access.audit, access.cipher).referred(2026) == {
        "US-CA": 1
    }  # for the yearly report, without anybody in it


def test_ordinary_words_leave_nothing(access: Access, address: str) -> None:
    with signed(address, access, "cleo", Role.CLIENT, "c-9") as cleo:
        assert cleo.post("/api/v1/inference", json={"user_input": "Hello there."}).status_code == 503  # no model in this service
    assert "c-9" not in {row.client for row in access.audit.records(action="review:create")}


def test_feedback(access: Access, address: str) -> None:
    with signed(address, access, "dora", Role.CLIENT, "c-3") as dora, signed(address, access, "ruth", Role.REVIEWER) as ruth:
        good = dora.post("/api/v1/feedback", json={"request_id": "r-1", "rating": 5, "comment": "It listened."})
        assert good.status_code == 201 and good.json()["review_id"] == ""
        bad = dora.post("/api/v1/feedback", json={"request_id": "r-2", "rating": 1, "comment": "It blamed me."}).json()
        danger = dora.post("/api/v1/feedback", json={"request_id": "r-3", "rating": 3, "comment": "I want to die"}).json()
        queue = {row["id"]: row for row in ruth.get("/api/v1/reviews").json()}
        assert queue[bad["review_id"]]["priority"] == "feedback" and queue[danger["review_id"]]["priority"] == "elevated"
        assert queue[bad["review_id"]]["client"] == "c-3"  # without naming: a client speaks of the own record
        ratings = {row["request"]: row["rating"] for row in ruth.get("/api/v1/feedback").json()}
        assert ratings == {"r-1": 5, "r-2": 1, "r-3": 3}
        assert dora.post("/api/v1/feedback", json={"request_id": "r-2", "rating": 9}).status_code == 422
        assert dora.post("/api/v1/feedback", json={"request_id": "no id", "rating": 1}).status_code == 422


def test_figures_hold_no_words(access: Access, address: str) -> None:
    key = access.keys.create("prometheus", ["metrics:read"], ACT)
    shown = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    assert shown.status_code == 200 and 'attunement_replies_total{action="crisis"}' in shown.text and "c-1" not in shown.text
    assert httpx.get(f"{address}/metrics", trust_env=False).status_code == 401


def test_what_is_kept_is_part_of_the_clients_record(tmp_path: Path) -> None:
    clock = SetClock()
    settings = settings_for(tmp_path, "security.retention={reviews=30}")
    from attunement.security.master_key import FileMasterKey

    FileMasterKey.create(tmp_path / "master.key")
    with Vault.open(settings, clock=clock) as vault:
        queue = ClinicalReviews(vault.audit, vault.cipher)
        for client in ("c-1", "c-2", ""):
            queue.flag(
                Flagged("withheld", "withheld", ["bias"], [{"role": "user", "content": f"of {client}"}], "no", client=client), ACT
            )
        with vault.store.snapshot() as connection:
            (mine,) = kinds()["reviews"].export(vault, connection, "c-1")
        assert mine["content"]["talk"][0]["content"] == "of c-1"
        clock.forward(days=31)
        queue.flag(Flagged("withheld", "withheld", ["bias"], [], "no", client="c-2"), ACT)
        done = {each.kind: each.rows for each in Retention(vault).run(ACT)}
        assert done["reviews"] == 3
        with vault.store.snapshot() as connection:
            assert connection.execute(reviews.select()).all() and len(queue.open(ACT)) == 1


# --- the webhook -----------------------------------------------------------------------------------------


class Receiver(BaseHTTPRequestHandler):
    """Fails once, then takes what comes."""

    got: list[tuple[dict[str, Any], str]]
    arrived: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((json.loads(body), self.headers[SIGNATURE], body))  # type: ignore[attr-defined]
        self.send_response(500 if len(self.server.got) == 1 else 204)  # type: ignore[attr-defined]
        self.end_headers()
        if len(self.server.got) > 1:  # type: ignore[attr-defined]
            self.server.arrived.set()  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass


def test_an_alert_is_sent_until_it_is_taken(access: Access, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_SECRET", "shared secret")
    queue = ClinicalReviews(access.audit, access.cipher)
    for waiting in queue.unsent(100):
        queue.sent(waiting["id"])
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got, server.arrived = [], threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = settings_for(home, f"serving.alert_webhook=http://127.0.0.1:{server.server_port}/alerts").serving
        sender = AlertSender(queue, settings)
        with sender.running():
            row = queue.flag(
                Flagged("imminent", "crisis", ["suicide_intent"], [{"role": "user", "content": RISK}], "x", client="c-7"), ACT
            )
            sender.raised("imminent", row)
            assert server.arrived.wait(20)  # type: ignore[attr-defined]
            for _ in range(100):
                if not queue.unsent():
                    break
                threading.Event().wait(0.05)
        server.shutdown()
        told, signature, body = server.got[-1]  # type: ignore[attr-defined]
    assert told["id"] == row and told["client"] == "c-7" and "zq-words" not in body.decode()
    assert signature == "sha256=" + hmac.new(b"shared secret", body, hashlib.sha256).hexdigest()
    assert queue.unsent() == []


class Moody(BaseHTTPRequestHandler):
    """Fails while `server.fails`; keeps the ids that it took."""

    def do_POST(self) -> None:
        row = json.loads(self.rfile.read(int(self.headers["content-length"])))["id"]
        self.server.tried += 1  # type: ignore[attr-defined]
        fails = self.server.fails  # type: ignore[attr-defined]
        if not fails:
            self.server.took.append(row)  # type: ignore[attr-defined]
        self.send_response(500 if fails else 204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        server.fails, server.took, server.tried = False, [], 0  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def test_an_alert_goes_to_every_address_and_counts_as_sent_when_each_has_it(
    access: Access, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_SECRET", "shared secret")
    monkeypatch.setattr("attunement.serving.alerts.FIRST_WAIT", 0.05)
    queue = ClinicalReviews(access.audit, access.cipher)
    for waiting in queue.unsent(100):
        queue.sent(waiting["id"])
    with receiving() as one, receiving() as two:
        two.fails = True
        urls = ",".join(f"http://127.0.0.1:{server.server_port}/alerts" for server in (one, two))
        sender = AlertSender(queue, settings_for(home, f"serving.alert_webhook={urls}").serving)
        flagged = Flagged("imminent", "crisis", ["suicide_intent"], [{"role": "user", "content": RISK}], "x", client="c-7")
        with sender.running():
            rows = [queue.flag(flagged, ACT) for _ in range(25)]  # more than are read at once
            sender.raised("imminent", rows[-1])
            assert until(lambda: set(one.took) == set(rows) and two.tried >= 2)  # the other's failure holds nothing up
            assert {alert["id"] for alert in queue.unsent(100)} == set(rows) and two.took == []
            late = queue.flag(flagged, ACT)
            sender.raised("imminent", late)
            assert until(lambda: late in one.took)
            two.fails = False
            assert until(lambda: not queue.unsent())
        assert sorted(one.took) == sorted(two.took) == sorted([*rows, late])  # each once
    sends = [record.target for record in access.audit.records(action="alert:send")]
    assert len(sends) == len(set(sends)) and {*rows, late} <= set(sends)


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ("https://a.example.org/x", ("https://a.example.org/x",)),
        ("https://a.example.org/x, https://b.example.org,", ("https://a.example.org/x", "https://b.example.org")),
        ('["https://a.example.org/x,y", "https://b.example.org"]', ("https://a.example.org/x,y", "https://b.example.org")),
        ("https://a.example.org,https://a.example.org", ("https://a.example.org",)),
        ("", ()),
    ],
)
def test_addresses_for_alerts(home: Path, monkeypatch: pytest.MonkeyPatch, given: str, addresses: tuple[str, ...]) -> None:
    assert settings_for(home, f"serving.alert_webhook={given}").serving.alert_addresses == addresses
    monkeypatch.setenv("ATTUNE_SERVING__ALERT_WEBHOOK", given)
    assert settings_for(home).serving.alert_addresses == addresses


def test_one_wrong_address_of_several_is_told_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_SECRET", "shared secret")
    with pytest.raises(ConfigError) as error:
        AlertSender(None, settings_for(home, "serving.alert_webhook=https://a.example.org/x,http://b.example.org/word").serving)
    told = str(error.value)
    assert "https address" in told and "(address 2 of 2)" in told and "b.example.org" not in told
    for wrong in ("5", "[5]", "true"):
        with pytest.raises(ConfigError, match=r"'serving.alert_webhook'.*should be an address, several with commas"):
            settings_for(home, f"serving.alert_webhook={wrong}")


@pytest.mark.parametrize("url", ["http://alerts.example.org/x", "ftp://x", "https://name:word@x.example.org", "https://"])
def test_an_address_for_alerts_must_be_safe(home: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="https address"):
        AlertSender(None, settings_for(home, f"serving.alert_webhook={url}").serving)


def test_alerts_are_never_sent_unsigned(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALERT_SECRET", raising=False)
    with pytest.raises(ConfigError, match="ALERT_SECRET"):
        AlertSender(None, settings_for(home, "serving.alert_webhook=https://alerts.example.org/x").serving)


# --- that it is no human, over time ------------------------------------------------------------------------


def test_a_session_is_told_again_after_its_time() -> None:
    now = [1_000_000.0]
    told = Told(lambda: now[0])
    assert told.lately("", 7, 3) is None and told.lately("s", 7, 3) is None
    told.now("s")
    now[0] += 2 * 3600
    assert told.lately("s", 7, 3) is True
    now[0] += 2 * 3600
    assert told.lately("s", 7, 3) is False and told.lately("s", 7, None) is True
    now[0] += 8 * 86_400
    assert told.lately("s", 7, None) is False and told.lately("s", None, None) is True


def test_referrals_are_counted_for_a_year_without_anybody_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from attunement.cli.main import app
    from attunement.security.master_key import FileMasterKey

    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path))
    FileMasterKey.create(tmp_path / "master.key")
    with Vault.open(settings_for(tmp_path), clock=SetClock()) as vault:
        queue = ClinicalReviews(vault.audit, vault.cipher)
        for place in ("US-CA", "US-CA", ""):
            queue.flag(Flagged("elevated", "crisis", [], [], "x", client="c-1", place=place, referred=True), ACT)
    told = CliRunner().invoke(app, ["compliance", "referrals", "2026"])
    assert told.exit_code == 0 and told.output == "2 in US-CA\n1 in unknown\n3 referrals in 2026\n"
