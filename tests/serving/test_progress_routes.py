"""The journal over HTTP, by real sockets: who may, what is kept once, what is refused; alarms in the queue, history in prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from attunement.security.entry import Access, opened
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import Role
from attunement.serving.app import create_app
from attunement.serving.assembly import assembled
from attunement.serving.exchange import Exchanges
from attunement.serving.guard import Guard
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService
from signing import ACT, browser, person, settings_for, sign_in

C1 = "/api/v1/clients/c-1"
WHEN = "2026-03-02T10:00:00+01:00"
SESSION: dict[str, Any] = {
    "session_id": "s-1", "timestamp": WHEN, "conversation_summary": "She slept badly and fears the exam.", "next_session_focus": "sleep",
    "emotional_state": {"emotions": {"fear": 0.6}, "valence": -0.4}, "measures": {"phq9": [1, 1, 2, 1, 0, 1, 1, 0, 0]},
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Access, Exchanges]]:
    home = tmp_path_factory.mktemp("progress")
    settings = settings_for(home, "serving.requests_per_minute=60000", "serving.region=US-CA")
    FileMasterKey.create(home / "master.key")
    service = DeploymentService(settings)
    with opened(settings) as access, assembled(settings, service, access) as parts, listen("127.0.0.1", 0) as socket:
        app = create_app(service, Guard(settings, access, secure_cookies=False), parts.exchanges)
        with running(app, socket):
            yield f"http://127.0.0.1:{socket.getsockname()[1]}", access, parts.exchanges


@contextmanager
def signed(served: tuple[str, Access, Exchanges], name: str, role: Role, *clients: str) -> Iterator[httpx.Client]:
    address, access, _ = served
    person(access, name, role, client=clients[0] if role is Role.CLIENT else "")
    for client in clients if role is Role.CLINICIAN else ():
        access.accounts.assign(name, client, ACT)
    with browser(address) as found:
        sign_in(found, name)
        yield found


@pytest.fixture(scope="module")
def ann(served: tuple[str, Access, Exchanges]) -> Iterator[httpx.Client]:
    with signed(served, "ann", Role.CLINICIAN, "c-1", "c-3") as found:
        yield found


def test_a_session_is_logged_once_edited_and_signed(ann: httpx.Client) -> None:
    first = ann.post(f"{C1}/sessions", json=SESSION)
    assert first.status_code == 201, first.text
    assert first.json()["log"]["timestamp"] == WHEN
    assert ann.post(f"{C1}/sessions", json=SESSION).json() == first.json()
    other = ann.post(f"{C1}/sessions", json={**SESSION, "conversation_summary": "Something else."})
    assert (other.status_code, "logged already" in other.json()["detail"]) == (409, True)
    edited = ann.patch(f"{C1}/sessions/s-1", json={"version": 1, "progress_notes": "Sleep diary begun."})
    assert edited.json()["version"] == 2
    assert ann.patch(f"{C1}/sessions/s-1", json={"version": 1, "progress_notes": "x"}).status_code == 409
    assert ann.post(f"{C1}/sessions/s-1/signature", json={"version": 2}).json()["signed_by"]
    assert [each["version"] for each in ann.get(f"{C1}/sessions/s-1/history").json()] == [1, 2]
    assert ann.get(f"{C1}/sessions/s-1").json()["log"]["progress_notes"] == "Sleep diary begun."
    assert ann.get(f"{C1}/sessions/none").status_code == 422
    assert [each["log"]["session_id"] for each in ann.get(f"{C1}/sessions", params={"timeframe": "2026-03"}).json()] == ["s-1"]
    assert ann.get(f"{C1}/sessions", params={"timeframe": "2025"}).json() == []


def test_who_may(served: tuple[str, Access, Exchanges], ann: httpx.Client) -> None:
    assert ann.post("/api/v1/clients/c-2/sessions", json=SESSION).status_code == 403
    with signed(served, "bob", Role.CLINICIAN, "c-2") as bob, signed(served, "cleo", Role.CLIENT, "c-1") as cleo:
        assert bob.get(f"{C1}/progress").status_code == 403
        assert bob.post(f"{C1}/context", json={"said": "sleep"}).status_code == 403
        assert cleo.get(f"{C1}/progress").status_code == 200
        assert cleo.post(f"{C1}/sessions", json=SESSION).status_code == 403
        assert cleo.post(f"{C1}/sessions/s-1/signature", json={"version": 2}).status_code == 403
    assert browser(served[0]).get(f"{C1}/progress").status_code == 401


def test_item_nine_stands_among_the_alerts(served: tuple[str, Access, Exchanges], ann: httpx.Client) -> None:
    kept = ann.post("/api/v1/clients/c-3/measures", json={"measure": "phq9", "answers": [0] * 8 + [1], "at": _now()})
    assert kept.status_code == 201, kept.text
    (alert,) = [each for each in ann.get("/api/v1/alerts").json() if each["client"] == "c-3"]
    assert (alert["priority"], alert["action"]) == ("elevated", "journal")
    assert "phq9_item_9" in alert["reasons"]
    with signed(served, "rita", Role.REVIEWER) as rita:
        (row,) = [each for each in rita.get("/api/v1/reviews").json() if each["id"] == alert["id"]]
    assert "item 9" in row["talk"][0]["content"]
    assert json.dumps(alert).find("better off dead") < 0


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("measures", {"measure": "phq8", "answers": 3, "at": WHEN}, "there is no measure 'phq8'"),
        ("measures", {"measure": "phq9", "answers": [1, 2], "at": WHEN}, "2 answers for 9 items"),
        ("measures", {"measure": "phq9", "answers": 3, "at": "2026-03-02T10:00:00"}, "at needs its time zone"),
        ("goals/none/ratings", {"at": WHEN, "attainment": 1}, "no such goal"),
        ("events", {"kind": "party", "title": "x", "at": WHEN}, "kind"),
        ("sessions", {**SESSION, "session_id": "s-9", "from_service": True}, "kept no transcript"),
    ],
)
def test_bad_input_gets_one_clear_line(ann: httpx.Client, path: str, body: dict[str, Any], told: str) -> None:
    answer = ann.post(f"{C1}/{path}", json=body)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(("timeframe", "zone"), [("yesteryear", "UTC"), ("90d", "Europe/Atlantis"), ("90d", "../etc/passwd")])
def test_no_such_timeframe_or_zone(ann: httpx.Client, timeframe: str, zone: str) -> None:
    assert ann.get(f"{C1}/progress", params={"timeframe": timeframe, "zone": zone}).status_code == 422


def test_progress_goals_and_report(ann: httpx.Client) -> None:
    goal = ann.post(f"{C1}/goals", json={"title": "Sleep six hours <script>", "at": WHEN, "goal_id": "g-sleep"}).json()["id"]
    assert ann.post(f"{C1}/goals/{goal}/ratings", json={"at": WHEN, "attainment": 1}).status_code == 201
    ann.post(f"{C1}/events", json={"kind": "medication", "title": "Sertraline 50 mg", "at": WHEN})
    ann.post(f"{C1}/milestones", json={"title": "Sat the exam", "at": WHEN})
    report = ann.get(f"{C1}/progress", params={"timeframe": "2026"}).json()
    assert set(report) == {
        "client_id", "timeframe", "sessions_count", "goal_progress", "emotional_trends", "key_milestones", "overall_trajectory", "recommendations",
    }  # fmt: skip
    assert (report["overall_trajectory"], list(report["goal_progress"])) == ("not_enough_data", ["g-sleep"])
    assert [each["measure"] for each in ann.get(f"{C1}/trends").json()["measures"]] == ["phq9"]
    assert "Sat the exam" in [each["title"] for each in ann.get(f"{C1}/milestones").json()]
    page = ann.get(f"{C1}/report", params={"timeframe": "2026"})
    assert page.headers["content-type"].startswith("text/html")
    assert "Sleep six hours &lt;script&gt;" in page.text
    assert "default-src" in page.headers["content-security-policy"]
    assert {"phq9", "gad7", "pcl5"} <= {each["code"] for each in ann.get("/api/v1/measures").json()}


def test_history_comes_into_prompts_and_is_on_record(served: tuple[str, Access, Exchanges], ann: httpx.Client) -> None:
    _, access, exchanges = served
    before = reads(access)
    given = ann.post(f"{C1}/context", json={"said": "I slept badly again", "lookback_days": 3000}).json()
    assert "exam" in given["text"]
    assert exchanges._history is not None
    (message,) = exchanges._history.context("c-1", "I slept badly again", ACT)
    assert message["role"] == "system" and "exam" in message["content"]
    assert exchanges._history.context("c-2", "I slept badly again", ACT) == []
    assert reads(access) == before + 2


def reads(access: Access) -> int:
    found = access.audit.records(client="c-1", action="context:read")
    return sum(record.outcome == "done" for record in found)


def _now() -> str:
    from attunement.security.clock import utc_now

    return utc_now().isoformat()


def test_without_sign_in_nothing_is_kept(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with listen("127.0.0.1", 0) as socket, running(create_app(DeploymentService(settings)), socket):
        answer = browser(f"http://127.0.0.1:{socket.getsockname()[1]}").get("/api/v1/measures")
    assert answer.status_code == 409
    assert "make an account" in answer.json()["detail"]


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "2026-03-02T10:00:00", "1700000000", 0, True]
)
def test_a_time_of_no_living_client_or_no_time_at_all_is_refused(ann: httpx.Client, at: object) -> None:
    """One entry in the year 1 made every route of the client's journal fail, and replies to the client with it."""
    for path in ("events", "milestones", "goals", "goals/g-1/closing"):
        assert ann.post(f"{C1}/{path}", json={"kind": "note", "title": "Moved house", "at": at}).status_code == 422
    event = ann.post(f"{C1}/events", json={"kind": "note", "title": "Moved house", "at": at})
    assert event.json()["detail"].startswith("at ") and "(no name)" not in event.text
    assert ann.post(f"{C1}/sessions", json={**SESSION, "session_id": "s-far", "timestamp": at}).status_code == 422
    assert ann.get(f"{C1}/trends").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [("measures", {"measure": "phq9", "answers": True, "at": WHEN}), ("measures", {"measure": "phq9", "answers": ["1"] * 9, "at": WHEN}),
     ("context", {"tokens": "5"}), ("context", {"lookback_days": True}), ("goals/g-1/ratings", {"at": WHEN, "percent": "50"})],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_and_not_taken_for_one(ann: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """`true` was kept as a total of 1."""
    answer = ann.post(f"{C1}/{path}", json=body)
    assert answer.status_code == 422 and str(answer.json()["detail"]).startswith(tuple(body))


def test_a_span_of_days_is_told_as_the_description_says(ann: httpx.Client) -> None:
    assert ann.post(f"{C1}/context", json={"lookback_days": 916}).json()["lookback"] == "P916D"


def test_bodies_that_are_not_read_are_described_for_every_route_that_has_one(ann: httpx.Client) -> None:
    paths = ann.get("/openapi.json").json()["paths"]
    with_body = [told for route in paths.values() for method, told in route.items() if method not in ("get", "head")]
    assert len(with_body) > 20 and all({"408", "411", "413"} <= set(told["responses"]) for told in with_body)
    assert not {"408", "411", "413"} & set(paths["/api/v1/health"]["get"]["responses"])
