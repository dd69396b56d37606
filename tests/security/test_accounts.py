"""Accounts, sessions, keys and second factors, over SQLite and PostgreSQL."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.errors import AccessError, DataError, StoreDownError
from attunement.security import throttle
from attunement.security.accounts import Accounts
from attunement.security.acting import Act, one_line
from attunement.security.api_keys import FORM, START, ApiKeys
from attunement.security.entry import Access, local_operator, operator_act
from attunement.security.passwords import Passwords
from attunement.security.permissions import Role
from attunement.security.sessions import forgery_token, is_forged
from attunement.storage.sql import Store
from signing import ACT, PASSWORD, SetClock, access_to, code_for, person


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def access(store: Store, tmp_path: Path, clock: SetClock) -> Iterator[Access]:
    with access_to(store, tmp_path, clock=clock) as made:
        yield made


def refused(access: Access, name: str, password: str, address: str = "203.0.113.5") -> AccessError:
    with pytest.raises(AccessError) as error:
        access.sign_in(name, password, Act("anonymous", "r1", address))
    return error.value


def recorded(access: Access) -> list[tuple[str, str, str]]:
    return [(r.actor, r.action, r.outcome) for r in access.audit.records()]


# --- accounts -----------------------------------------------------------------------------------------------


def test_a_first_password_must_be_replaced_and_holds_for_some_days(access: Access, clock: SetClock) -> None:
    account, first = access.accounts.create("Ada@Clinic.example", [Role.CLINICIAN], ACT)
    assert account.name == "ada@clinic.example" and account.must_change
    principal, session = access.by_cookie(access.sign_in("ADA@clinic.example ", first, ACT)) or pytest.fail("no session")
    assert principal.pending == "password"
    with pytest.raises(DataError, match="common words"):
        access.accounts.change_password(account, first, "ada-clinic-example-2026", ACT)
    cookie = access.change_password(session, first, PASSWORD, ACT, "")
    assert (access.by_cookie(cookie) or pytest.fail("no session"))[0].pending == ""
    assert refused(access, "ada@clinic.example", first).reason == "credentials"
    _, first = access.accounts.create("late", [Role.REVIEWER], ACT)
    clock.forward(hours=73)
    assert refused(access, "late", first).reason == "credentials"
    assert access.sign_in("late", access.accounts.reset("late", ACT), ACT)


def test_nothing_in_the_store_is_a_password(access: Access, tmp_path: Path) -> None:
    person(access, "ada", Role.CLINICIAN)
    cookie = access.sign_in("ada", PASSWORD, ACT)
    key = access.keys.create("form", ["inference:create"], ACT)
    with access.audit.begin() as connection:
        held = "".join(str(connection.execute(sa.select(t)).all()) for t in access.audit.store.tables.sorted_tables)
    assert "$argon2id$v=19$" in held and "form" in held
    for secret in (PASSWORD, cookie, key, key.rpartition("_")[2]):
        assert secret not in held


def test_changes_of_roles_end_sessions_and_are_on_record(access: Access) -> None:
    account = person(access, "ada", Role.CLINICIAN)
    access.accounts.assign("ada", "c1", ACT)
    cookie = access.sign_in("ada", PASSWORD, ACT)
    assert (access.by_cookie(cookie) or pytest.fail(""))[0].clients == {"c1"}
    access.accounts.assign("ada", "c1", ACT, take_away=True)
    assert (access.by_cookie(cookie) or pytest.fail(""))[0].clients == frozenset()
    access.accounts.set_roles("ada", [Role.REVIEWER], ACT)
    assert access.by_cookie(cookie) is None
    cookie = access.sign_in("ada", PASSWORD, ACT)
    access.accounts.set_status("ada", "disabled", ACT)
    assert access.by_cookie(cookie) is None and refused(access, "ada", PASSWORD).reason == "credentials"
    told = recorded(access)
    done_to = {(r.action, r.target) for r in access.audit.records()}
    for action in ("create", "give_clinician", "take_clinician", "give_reviewer", "disable"):
        assert ("os:test", f"accounts:{action}", "done") in told and (f"accounts:{action}", account) in done_to
    assert (account, "session:create", "refused") in told
    assert [r.client for r in access.audit.records() if "assign" in r.action] == ["c1", "c1"]
    assert access.audit.verify().whole


def test_roles_that_do_not_go_together(access: Access) -> None:
    for roles, client in (
        ([Role.COMPLIANCE_OFFICER, Role.ADMINISTRATOR], ""),
        ([Role.CLIENT, Role.CLINICIAN], "c1"),
        ([Role.CLIENT], ""),
        ([Role.CLINICIAN], "c1"),
        ([Role.SERVICE], ""),
        ([Role.OPERATOR], ""),
        ([], ""),
    ):
        with pytest.raises(DataError):
            access.accounts.create("someone", roles, ACT, client)
    person(access, "root1", Role.ADMINISTRATOR)
    for change in (
        lambda: access.accounts.set_status("root1", "disabled", ACT),
        lambda: access.accounts.set_roles("root1", [Role.REVIEWER], ACT),
    ):
        with pytest.raises(DataError, match="last administrator"):
            change()
    with pytest.raises(DataError, match="already"):
        access.accounts.create("ROOT1", [Role.REVIEWER], ACT)
    for name in ("", "a", "a b", "x' OR '1'='1", "a\nb", "-x-", "x" * 65):
        with pytest.raises(DataError, match="a name has"):
            access.accounts.create(name, [Role.REVIEWER], ACT)


def test_hashes_are_made_anew_when_the_settings_ask_for_more(access: Access) -> None:
    account = person(access, "ada", Role.REVIEWER)
    stronger = Accounts(access.audit, access.settings.model_copy(update={"argon2_passes": 2}), access.accounts._clock)

    def stored() -> str:
        with access.audit.store.snapshot() as connection:
            return str(connection.execute(sa.text("select password from accounts where id = :a"), {"a": account}).scalar_one())

    assert "m=8,t=1,p=1" in stored()
    stronger.verify("ada", PASSWORD, ACT)
    assert "m=8,t=2,p=1" in stored()
    assert access.sign_in("ada", PASSWORD, ACT)


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("short but ok", "shorter than 15"),
        ("passwordpassword", "common words"),
        ("P@ssw0rdP@ssw0rd1", "common words"),
        ("123456789012345678", "common words"),
        ("qwertyuiopasdfghjkl", "common words"),
        ("abcabcabcabcabcabc", "common words"),
        ("xqxqxqxqxqxqxqxqxq", "common words"),
        ("Attunement-Ada-2026", "common words"),
        ("therapytherapy2026!", "common words"),
        ("z" * 257, "longer than 256"),
        ("gravel umbrella kestrel", ""),
        ("трава колодец вторник", ""),
        ("xejK9wu-hd57N5-PmEpKs-FT4yk4", ""),
    ],
)
def test_password_rules(access: Access, password: str, told: str) -> None:
    passwords = access.accounts.passwords
    if told:
        with pytest.raises(DataError, match=told):
            passwords.check(password, ["ada@clinic.example"])
    else:
        passwords.check(password, ["ada@clinic.example"])


def test_passwords_are_compared_in_one_form_and_whole(access: Access) -> None:
    passwords: Passwords = access.accounts.passwords
    assert passwords.matches(passwords.hash("ﬁne Ångström weather here"), "fine Ångström weather here")
    assert not passwords.matches(passwords.hash("a" * 72 + "b"), "a" * 72 + "c")
    assert not passwords.matches("not a hash", "x") and not passwords.matches(None, "x")


# --- waiting after failures -----------------------------------------------------------------------------------


def test_failures_make_the_next_one_wait_and_waiting_is_not_drawn_out(access: Access, clock: SetClock) -> None:
    person(access, "ada", Role.REVIEWER)
    assert [refused(access, "ada", "x").reason for _ in range(6)] == ["credentials"] * 5 + ["wait"]
    first = refused(access, "ada", PASSWORD)
    assert first.reason == "wait" and 0 < (first.after_seconds or 0) <= 1
    for _ in range(20):  # knocking while it lasts costs nothing more
        refused(access, "ada", "x")
    clock.forward(seconds=1.1)
    assert access.sign_in("ada", PASSWORD, ACT)
    assert [refused(access, "ada", "x").reason for _ in range(5)] == ["credentials"] * 5, "a right one clears the failures"


def test_nobody_can_lock_somebody_out_where_they_always_sign_in(access: Access, clock: SetClock) -> None:
    person(access, "ada", Role.REVIEWER)
    access.sign_in("ada", PASSWORD, Act("anonymous", "r1", "198.51.100.7"))
    for number in range(100):  # from many addresses
        clock.forward(seconds=1)
        with pytest.raises(AccessError):
            access.accounts.verify("ada", "wrong", Act("anonymous", "r1", f"203.0.113.{number}"))
    elsewhere = refused(access, "ada", PASSWORD, "192.0.2.1")
    assert elsewhere.reason == "wait" and (elsewhere.after_seconds or 0) <= throttle.ACCOUNT.most
    assert access.sign_in("ada", PASSWORD, Act("anonymous", "r1", "198.51.100.7"))
    access.accounts.unlock("ada", ACT)
    assert access.sign_in("ada", PASSWORD, Act("anonymous", "r1", "192.0.2.1"))


def test_one_address_trying_many_names_waits(access: Access) -> None:
    reasons = [refused(access, f"nobody{n}", "x").reason for n in range(40)]
    assert reasons[:30] == ["credentials"] * 30 and set(reasons[30:]) == {"wait"}
    assert throttle.network("2001:db8:1:2:3:4:5:6") == throttle.network("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert throttle.network("::ffff:203.0.113.5") == "203.0.113.5" and throttle.network("testclient") == "testclient"


def test_many_at_once_are_counted_each(access: Access) -> None:
    person(access, "ada", Role.REVIEWER)
    reasons: list[str] = []
    threads = [threading.Thread(target=lambda: reasons.append(refused(access, "ada", "x").reason)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons.count("credentials") == 5 and reasons.count("wait") == 7


@pytest.mark.parametrize("name", ["ada\x00", "", "\ud800", "' OR 1=1 --", "a" * 10_000])
def test_names_that_nobody_has_are_wrong_and_no_fault(access: Access, name: str) -> None:
    assert refused(access, name, "x").reason == "credentials"
    assert not access.sessions.end("a1", name, ACT)
    with pytest.raises(DataError, match="there is no account"):
        access.accounts.unlock(name, ACT)


# --- sessions ---------------------------------------------------------------------------------------------------


def test_sessions_end_by_themselves_and_by_their_owner_alone(access: Access, clock: SetClock) -> None:
    person(access, "ada", Role.REVIEWER)
    person(access, "bob", Role.REVIEWER)
    cookie = access.sign_in("ada", PASSWORD, ACT)
    clock.forward(minutes=29)
    assert access.by_cookie(cookie)
    clock.forward(minutes=29)
    assert access.by_cookie(cookie), "a request keeps it alive"
    clock.forward(minutes=31)
    assert access.by_cookie(cookie) is None
    cookie, other = access.sign_in("ada", PASSWORD, ACT), access.sign_in("bob", PASSWORD, ACT)
    for _ in range(30):
        clock.forward(minutes=25)
        access.by_cookie(cookie)
    assert access.by_cookie(cookie) is None, "12 hours are the most"
    other = access.sign_in("bob", PASSWORD, ACT)
    bobs = (access.by_cookie(other) or pytest.fail(""))[1]
    assert not access.sessions.end("not-bob", bobs.id, ACT) and access.by_cookie(other)
    assert access.sessions.end(bobs.account, bobs.id, ACT) and access.by_cookie(other) is None


def test_the_id_changes_at_sign_in_and_the_one_before_is_worth_nothing(access: Access) -> None:
    person(access, "ada", Role.REVIEWER)
    first = access.sign_in("ada", PASSWORD, ACT)
    second = access.sign_in("ada", PASSWORD, ACT, before=first)
    assert second != first and access.by_cookie(first) is None and len(second) == 43
    assert access.by_cookie("chosen-by-an-attacker") is None
    assert not is_forged(second, forgery_token(second)) and is_forged(second, forgery_token(first)) and is_forged(second, "é")


def test_what_a_browser_calls_itself_stays_one_short_line() -> None:
    text = one_line("a\nb\x1b[31m\u202ec" + "x" * 500, 20)
    assert len(text) == 20 and text.isprintable() and text.startswith("a b [31m")


# --- API keys ---------------------------------------------------------------------------------------------------


def test_requests_that_come_at_once_do_not_wait_to_note_the_use_of_their_key(access: Access) -> None:
    shown = access.keys.create("form", ["inference:create"], ACT)
    with access.audit.store.begin():  # somebody writes
        first = threading.Thread(target=access.by_key, args=(shown, ACT))
        first.start()
        while not access.keys._touched:
            time.sleep(0.001)
        assert access.by_key(shown, ACT)  # on SQLite a second writer would wait for ten seconds, and fail
    first.join()
    assert access.keys.all()[0].last_used


def test_a_key_is_shown_once_expires_overlaps_and_ends(access: Access, clock: SetClock) -> None:
    shown = access.keys.create("form", ["inference:create"], ACT, days=10)
    assert FORM.fullmatch(shown)
    principal = access.by_key(shown, ACT) or pytest.fail("no principal")
    assert principal.roles == {Role.SERVICE} and principal.scopes == {"inference:create"}
    wrong = shown[:-1] + ("A" if shown[-1] != "A" else "B")
    for other in (wrong, shown[len(START) :], "", "attn_", shown + "x", f"{START}{'a' * 12}_{shown[-43:]}"):
        assert access.by_key(other, ACT) is None
    clock.forward(days=9)
    new = access.keys.rotate("form", ACT, overlap_hours=2)
    assert access.by_key(shown, ACT) and access.by_key(new, ACT)
    clock.forward(hours=3)
    assert access.by_key(shown, ACT) is None and access.by_key(new, ACT)
    assert [k.status for k in access.keys.all()] == ["live", "expired"] and access.keys.all()[0].last_used
    assert access.keys.revoke(new.split("_")[1], ACT) == 1 and access.by_key(new, ACT) is None
    with pytest.raises(DataError, match="no key or service"):
        access.keys.revoke("nothing", ACT)
    told = [(a.split(":")[1], o) for _, a, o in recorded(access)]
    assert [a for a, o in told if o == "done"] == ["create", "rotate", "revoke"]
    assert told.count(("use", "refused")) == 3, "a wrong secret, an expired and a revoked key"


def test_while_the_store_is_away_only_a_key_that_was_let_in_lately_is(
    access: Access, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, unused, ended = (access.keys.create(name, ["inference:create"], ACT, days=1) for name in ("form", "site", "bot"))
    elsewhere = ApiKeys(access.audit, access.settings, clock)
    assert access.by_key(shown, ACT) and access.by_key(ended, ACT)
    elsewhere.revoke("bot", ACT)
    assert access.by_key(ended, ACT) is None

    @contextmanager
    def away(*_: object, **__: object) -> Iterator[None]:
        raise StoreDownError("gone")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(access.audit.store, "snapshot", away)
        patch.setattr(access.audit.store, "begin", away)
        principal = access.by_key(shown, ACT) or pytest.fail("no principal")
        assert principal.scopes == {"inference:create"}
        for other in (unused, ended, shown[:-1] + ("A" if shown[-1] != "A" else "B")):
            with pytest.raises(StoreDownError):
                access.by_key(other, ACT)
        clock.forward(days=2)  # it would be over by now
        with pytest.raises(StoreDownError):
            access.by_key(shown, ACT)
    clock.forward(days=-2)
    access.keys.revoke("form", ACT)
    with monkeypatch.context() as patch:
        patch.setattr(access.audit.store, "snapshot", away)
        with pytest.raises(StoreDownError):
            access.by_key(shown, ACT)


def test_scopes_are_of_the_table(access: Access) -> None:
    for scopes in ([], ["accounts:manage"], ["*"], ["inference:create", "keys:rotate"]):
        with pytest.raises(DataError, match="scopes"):
            access.keys.create("form", scopes, ACT)
    with pytest.raises(DataError, match="366 days"):
        access.keys.create("form", ["inference:create"], ACT, days=1000)
    access.keys.create("form", ["inference:create"], ACT)
    with pytest.raises(DataError, match="already"):
        access.keys.create("form", ["inference:create"], ACT)


# --- second factor ------------------------------------------------------------------------------------------------


def test_an_administrator_gets_nowhere_without_a_second_factor(access: Access, clock: SetClock) -> None:
    account = access.accounts.get(person(access, "root1", Role.ADMINISTRATOR))
    cookie = access.sign_in("root1", PASSWORD, ACT)
    principal, session = access.by_cookie(cookie) or pytest.fail("")
    assert principal.pending == "second_factor"
    enrolment = access.factors.enrol(account, ACT)
    assert re.fullmatch(r"otpauth://totp/Attunement:root1\?secret=[A-Z2-7]{32}&issuer=Attunement", enrolment.address)
    code = code_for(enrolment.secret, clock)
    confirmed, codes = access.confirm(session, code, ACT, cookie)
    assert (access.by_cookie(confirmed) or pytest.fail(""))[0].pending == "" and access.by_cookie(cookie) is None
    assert len(set(codes)) == 10

    again = access.sign_in("root1", PASSWORD, ACT)
    _, session = access.by_cookie(again) or pytest.fail("")
    for used in (code, "000000", codes[0][:-1]):
        with pytest.raises(AccessError, match="wrong or was used"):
            access.confirm(session, used, ACT, again)
    with pytest.raises(AccessError, match="already"):  # a stolen password must not put another telephone in its place
        access.factors.enrol(account, ACT)
    clock.forward(seconds=30)
    assert access.confirm(session, code_for(enrolment.secret, clock), ACT, again)[1] == []
    with access.audit.store.snapshot() as connection:
        assert enrolment.secret.encode() not in connection.execute(sa.text("select secret from second_factors")).scalar_one()


def test_a_recovery_code_is_good_once(access: Access, clock: SetClock) -> None:
    account = access.accounts.get(person(access, "ada", Role.REVIEWER))
    assert not access.must_confirm(account)
    enrolment = access.factors.enrol(account, ACT)
    assert not access.must_confirm(account), "an unconfirmed secret asks for nothing"
    codes = access.factors.confirm(account.id, code_for(enrolment.secret, clock), ACT)
    assert access.must_confirm(account)
    assert access.factors.confirm(account.id, codes[3].lower().replace("-", " "), ACT) == []
    with pytest.raises(AccessError):
        access.factors.confirm(account.id, codes[3], ACT)
    with pytest.raises(AccessError):  # ten new ones for a found one
        access.factors.renew_recovery(account.id, codes[5], ACT)
    clock.forward(seconds=30)
    new = access.factors.renew_recovery(account.id, code_for(enrolment.secret, clock), ACT)
    with pytest.raises(AccessError):
        access.factors.confirm(account.id, codes[4], ACT)
    access.factors.confirm(account.id, new[4], ACT)
    access.factors.remove(account.id, ACT)
    assert not access.must_confirm(account)
    with pytest.raises(AccessError):
        access.factors.confirm(account.id, new[5], ACT)


def test_a_code_is_used_once_by_whoever_comes_first_and_guessing_waits(access: Access, clock: SetClock) -> None:
    account = access.accounts.get(person(access, "ada", Role.REVIEWER))
    secret = access.factors.enrol(account, ACT).secret
    access.factors.confirm(account.id, code_for(secret, clock), ACT)
    clock.forward(seconds=60)
    outcomes: list[str] = []

    def show() -> None:
        try:
            access.factors.confirm(account.id, code_for(secret, clock), ACT)
            outcomes.append("in")
        except AccessError as error:
            outcomes.append(error.reason)

    threads = [threading.Thread(target=show) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("in") == 1
    clock.forward(hours=1)
    reasons = []
    for guess in range(8):
        with pytest.raises(AccessError) as error:
            access.factors.confirm(account.id, f"{guess:06d}", ACT)
        reasons.append(error.value.reason)
    assert "wait" in reasons


# --- the local operator --------------------------------------------------------------------------------------------


def test_the_command_line_goes_through_the_table(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    assert operator_act(access.audit, "accounts:manage").actor == local_operator().id
    with pytest.raises(AccessError):
        operator_act(access.audit, "session:manage")
    assert recorded(access)[-1] == (local_operator().id, "session:manage", "refused")
    monkeypatch.setattr("getpass.getuser", lambda: "o'brien\nroot")
    assert local_operator().id == "os:o_brien_root"
    assert replace(ACT, actor=local_operator().id)


def test_a_crowd_that_signs_in_does_not_take_every_thread(access: Access) -> None:
    from attunement.security.passwords import MOST_WAITING

    passwords, account = access.accounts.passwords, person(access, "ada", Role.REVIEWER)
    with ExitStack() as taken:
        for _ in range(MOST_WAITING):
            taken.enter_context(passwords.turn())
        for _ in range(10):
            assert refused(access, "ada", PASSWORD).after_seconds == 1.0
    assert access.accounts.verify("ada", PASSWORD, ACT).id == account, "and it was not counted as a failure"
