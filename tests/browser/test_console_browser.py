"""The console in a real browser: signing in, an alert taken on, a review decided, a session signed, and nobody there.

Needs Playwright (extra `dev`) and a Chromium of the machine (Debian: apt install chromium); without them it is skipped, and says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from attunement.security.entry import Access, opened
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import Role
from attunement.serving.app import create_app
from attunement.serving.assembly import assembled
from attunement.serving.guard import Guard
from attunement.serving.reviews import Flagged
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService
from signing import ACT, PASSWORD, person, settings_for

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="this machine has no Chromium (Debian: apt install chromium)")
MARKUP = "<img src=x onerror=document.title='taken'>I want to <b>die</b> tonight"
OPTIONS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Access, Any]]:
    home = tmp_path_factory.mktemp("browser")
    settings = settings_for(home, "serving.requests_per_minute=60000", "access.session_idle_minutes=0.25")
    FileMasterKey.create(home / "master.key")
    service = DeploymentService(settings)
    with opened(settings) as access, assembled(settings, service, access) as parts, listen("127.0.0.1", 0) as socket:
        with running(create_app(service, Guard(settings, access, secure_cookies=False), parts.exchanges), socket):
            person(access, "ann", Role.CLINICIAN)
            access.accounts.assign("ann", "c-1", ACT)
            person(access, "rev", Role.REVIEWER)
            yield f"http://127.0.0.1:{socket.getsockname()[1]}", access, parts.exchanges


@pytest.fixture
def page(served: tuple[str, Access, Any]) -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        found = browser.new_page()
        faults: list[str] = []
        found.on("pageerror", lambda error: faults.append(str(error)))
        found.on("console", lambda told: faults.append(told.text) if "Content Security Policy" in told.text else None)
        found.goto(f"{served[0]}/")
        yield found
        browser.close()
        assert faults == []


def enter(page: Any, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def flag(exchanges: Any, request: str) -> str:
    talk = [{"role": "user", "content": MARKUP}]
    flagged = Flagged("imminent", "crisis", ("method",), talk, "Are you safe right now?", request, "c-1", "s-1", "model")
    return str(exchanges.reviews.flag(flagged, ACT))


def test_an_alert_is_seen_and_taken_on(page: Any, served: tuple[str, Access, Any]) -> None:
    row = flag(served[2], "r-1")
    enter(page, "ann")
    card = page.locator(f"[data-alert={row}]")
    card.get_by_text("Imminent danger").wait_for()
    assert page.title() == "(1) Attunement"
    assert "tonight" not in page.content(), "an alert shows no words"
    card.get_by_role("button", name="I take it on").click()
    card.get_by_text("You took it on").wait_for()
    page.wait_for_function("document.title === 'Attunement'")
    assert served[2].reviews.alerts(ACT) == []


def test_a_reviewer_reads_markup_as_text_and_decides(page: Any, served: tuple[str, Access, Any]) -> None:
    row = flag(served[2], "r-2")
    enter(page, "rev")
    card = page.locator(f"[data-review={row}]")
    card.get_by_text(MARKUP).wait_for()
    assert page.locator("main img").count() == 0
    card.get_by_role("button", name="Decide").click()
    card.get_by_label("Somebody else must act").check()
    card.get_by_role("button", name="Decide").click()
    card.get_by_text("say in the note how, or who was told").wait_for()
    card.get_by_label("Note").fill("The crisis team was called.")
    card.get_by_role("button", name="Decide").click()
    card.get_by_text("Decided: escalate.").wait_for()
    decided = next(each for each in served[2].reviews.open(ACT, decided=True) if each["id"] == row)
    assert (decided["decision"], decided["note"]) == ("escalate", "The crisis team was called.")


def test_a_clinician_logs_edits_and_signs_a_session_and_keeps_a_questionnaire(page: Any, served: tuple[str, Access, Any]) -> None:
    enter(page, "ann")
    page.get_by_role("link", name="Clients").click()
    page.get_by_role("link", name="c-1").click()
    page.get_by_text("Log a session").click()
    page.get_by_label("Session's id").fill("s-7")
    page.get_by_label("Summary").first.fill("She slept twice.")
    page.get_by_role("button", name="Log it").click()
    card = page.locator("[data-session=s-7]")
    card.get_by_text("She slept twice.").first.wait_for()
    card.get_by_text("Edit").click()
    card.get_by_label("Progress notes").fill("Sleep diary begun.")
    card.get_by_role("button", name="Keep the changes").click()
    card.get_by_text("version 2").wait_for()
    card.get_by_role("button", name="Sign this version").click()
    card.get_by_text("signed by").wait_for()
    page.get_by_text("Fill in a questionnaire").click()
    page.get_by_label("Questionnaire").select_option("gad7")
    for number in range(7):
        page.locator(f"input[name=item-{number}]").nth(1).check()
    page.get_by_role("button", name="Keep it").click()
    page.locator("#told").get_by_text("Kept").wait_for()
    page.get_by_text("Add a document").click()
    page.get_by_label("What it is").fill("Referral <b>of 2 March</b>")
    page.get_by_label("File").set_input_files({"name": "letter.txt", "mimeType": "text/plain", "buffer": b"Dear colleague,"})
    page.get_by_role("button", name="Add it").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Referral <b>of 2 March</b>").click()
    assert saved.value.path().read_bytes() == b"Dear colleague,"
    scores = served[2].progress.analyze_trends("c-1").measures
    assert [(each.measure, each.scores[-1].total) for each in scores] == [("gad7", 7.0)]


def test_who_is_not_there_is_signed_out_and_the_page_is_emptied(page: Any, served: tuple[str, Access, Any]) -> None:
    enter(page, "rev")
    page.get_by_role("heading", name="Review queue").wait_for()
    page.get_by_text("signed out after").wait_for(timeout=60_000)
    assert page.get_by_role("heading", name="Review queue").count() == 0
    assert page.evaluate("fetch('/api/v1/reviews').then((answer) => answer.status)") == 401
