"""OpenID Connect against a real small provider: what holds signs in, every forged or borrowed token is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from provider import CLIENT, SECRET, Provider, provider

from attunement.errors import AccessError, ConfigError, ServiceError
from attunement.security.clock import utc_now
from attunement.security.entry import Access
from attunement.security.oidc import OpenIdConnect
from attunement.security.permissions import Role
from attunement.storage.sql import Store
from signing import ACT, AUTH, access_to, browser, guarded, person, settings_for


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oidc")


@pytest.fixture(scope="module")
def theirs() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture(scope="module")
def access(home: Path, theirs: Provider) -> Iterator[Access]:
    store = Store.at_home(home)
    more = [f"access.oidc_issuer={theirs.issuer}", f"access.oidc_client_id={CLIENT}"]
    with access_to(store, home, *more, clock=utc_now) as made:
        person(made, "ada", Role.ADMINISTRATOR)
        made.accounts.link("ada", theirs.issuer, "subject-1", ACT)
        yield made
    store.close()


@pytest.fixture(autouse=True)
def _well_behaved(theirs: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs.claims, theirs.describe, theirs.sign = {}, {}, theirs.by_rsa
    monkeypatch.setenv("OIDC_CLIENT_SECRET", SECRET)


def come_back(access: Access, theirs: Provider, subject: str = "subject-1") -> str:
    assert access.oidc is not None
    address, state = access.oidc.start()
    shown, code = theirs.sign_in(address, subject)
    assert shown == state
    return access.sign_in_elsewhere(state, code, ACT)


def test_who_is_linked_signs_in_and_a_second_factor_there_counts_if_it_is_told(access: Access, theirs: Provider) -> None:
    principal, _ = access.by_cookie(come_back(access, theirs)) or pytest.fail("no session")
    assert principal.name == "ada" and principal.pending == "second_factor"
    assert theirs.asked[-1]["authorization"].startswith("Basic ") and "client_secret" not in theirs.asked[-1]
    theirs.claims, theirs.sign = {"amr": ["pwd", "mfa"]}, theirs.by_ec
    principal, _ = access.by_cookie(come_back(access, theirs)) or pytest.fail("no session")
    assert principal.pending == ""


@pytest.mark.parametrize(
    "how",
    ["by_a_stranger", "by_nobody", "by_the_public_key", "by_the_client_secret", "with_its_own_key_inside"],
)
def test_signatures_that_do_not_hold(access: Access, theirs: Provider, how: str) -> None:
    theirs.sign = getattr(theirs, how)
    with pytest.raises(AccessError, match="did not hold"):
        come_back(access, theirs)


NOW = int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": [CLIENT, "another-client"]},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"aud": None},
        {"exp": NOW - 3600},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": NOW + 3600},
        {"nonce": "of-another-sign-in"},
        {"nonce": None},
        {"sub": None},
        {"sub": 5},
        {"sub": ""},
    ],
)
def test_claims_that_do_not_hold(access: Access, theirs: Provider, claims: dict[str, Any]) -> None:
    theirs.claims = claims
    with pytest.raises(AccessError, match="did not hold"):
        come_back(access, theirs)


def test_nobody_gets_an_account_by_a_token(access: Access, theirs: Provider) -> None:
    with pytest.raises(AccessError, match="no account is linked"):
        come_back(access, theirs, "subject-2")
    access.accounts.set_status("ada", "active", ACT)
    other = person(access, "bob", Role.REVIEWER)
    access.accounts.link("bob", theirs.issuer, "subject-3", ACT)
    assert (access.by_cookie(come_back(access, theirs, "subject-3")) or pytest.fail(""))[0].id == other
    access.accounts.set_status("bob", "disabled", ACT)
    with pytest.raises(AccessError, match="no account is linked"):
        come_back(access, theirs, "subject-3")


def test_a_state_is_good_once_and_a_code_for_whoever_began(access: Access, theirs: Provider) -> None:
    assert access.oidc is not None
    address, state = access.oidc.start()
    _, code = theirs.sign_in(address, "subject-1")
    access.oidc.finish(state, code)
    for shown, with_code in ((state, code), ("made-up", code), ("", "")):
        with pytest.raises(AccessError):
            access.oidc.finish(shown, with_code)
    stolen = theirs.sign_in(access.oidc.start()[0], "subject-1")[1]  # another's code with one's own state: PKCE
    with pytest.raises(AccessError):
        access.oidc.finish(access.oidc.start()[1], stolen)


def test_new_keys_of_the_provider_are_taken(access: Access, theirs: Provider) -> None:
    before = list(theirs.keys)
    come_back(access, theirs)
    from joserfc.jwk import RSAKey

    theirs.rsa = RSAKey.generate_key(2048, {"kid": "r1"})
    theirs.keys = [theirs.rsa.as_dict(private=False)]
    assert access.oidc is not None and access.oidc._keys is not None
    access.oidc._keys = (access.oidc._keys[0] - 61, access.oidc._keys[1])  # a minute ago
    assert come_back(access, theirs)
    theirs.keys = [*before[1:], *theirs.keys]


def test_a_provider_that_is_not_what_it_says(home: Path, theirs: Provider, access: Access) -> None:
    fresh = lambda: OpenIdConnect(access.audit.store, access.settings, "http://127.0.0.1/back")  # noqa: E731
    for described in (
        {"issuer": "https://elsewhere.example"},
        {"authorization_endpoint": None},
    ):
        theirs.describe = described
        with pytest.raises(ServiceError):
            fresh().start()
    theirs.describe = {"token_endpoint": "http://internal.example/token"}
    oidc = fresh()
    address, state = oidc.start()
    with pytest.raises(ConfigError, match="https://"):
        oidc.finish(state, theirs.sign_in(address, "subject-1")[1])
    for issuer in ("http://elsewhere.example", "file:///etc/passwd"):
        with pytest.raises(ConfigError, match="https://"):
            OpenIdConnect(access.audit.store, access.settings.model_copy(update={"oidc_issuer": issuer}), "x")


def test_the_browser_that_began_must_come_back(access: Access, home: Path, theirs: Provider) -> None:
    with guarded(access, settings_for(home)) as address, browser(address) as mine, browser(address) as victim:
        sent = mine.get(f"{AUTH}/oidc")
        assert sent.status_code == 303 and sent.headers["location"].startswith(f"{theirs.issuer}/authorization_endpoint?")
        state, code = theirs.sign_in(sent.headers["location"], "subject-1")
        back = {"state": state, "code": code}
        assert victim.get(f"{AUTH}/oidc/callback", params=back).status_code == 403  # another's sign-in put upon them
        done = mine.get(f"{AUTH}/oidc/callback", params=back)
        assert done.status_code == 303 and done.headers["location"] == "/"
        assert mine.get(f"{AUTH}/session").json()["name"] == "ada"
        assert isinstance(mine, httpx.Client)
