"""The table: what it grants, what it refuses, and that the guide shows it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunement.security.permissions import (
    ABOUT_A_CLIENT,
    ACTIONS,
    ANONYMOUS,
    BEFORE_CONFIRMED,
    GRANTS,
    Principal,
    Reach,
    Role,
    allowed,
    table,
)


def holder(*roles: Role, clients: tuple[str, ...] = (), **more: object) -> Principal:
    return Principal("a1", "x", frozenset(roles), frozenset(clients), **more)  # type: ignore[arg-type]


def test_what_the_table_does_not_name_is_refused() -> None:
    assert set(GRANTS) == set(Role)
    for role in Role:
        assert set(GRANTS[role]) <= set(ACTIONS)
        assert allowed(holder(role), "client:steal").reason == "unknown_action"
        for action in set(ACTIONS) - set(GRANTS[role]):
            assert allowed(holder(role), action, "c1").reason == "not_granted"
    assert not allowed(Principal("a1", "x", frozenset()), "health:read")


def test_own_is_ones_own_alone_and_the_client_must_be_named() -> None:
    clinician = holder(Role.CLINICIAN, clients=("c1",))
    for action in ABOUT_A_CLIENT & set(GRANTS[Role.CLINICIAN]):
        assert allowed(clinician, action, "c1")
        assert allowed(clinician, action, "c2").reason == "not_own_client"
        assert allowed(clinician, action).reason == "no_client"
    assert allowed(clinician, "client:list").reach == Reach.OWN
    assert not allowed(clinician, "inference:create", "c2") and allowed(clinician, "inference:create")


def test_duties_are_apart() -> None:
    """Who runs the house reads no record and no log; who reads the log changes nothing; nobody signed in grants themselves."""
    assert not {a for a in GRANTS[Role.ADMINISTRATOR] if a in ABOUT_A_CLIENT or a == "audit:read"}
    assert {a for a in GRANTS[Role.COMPLIANCE_OFFICER] if not a.startswith(("session:", "health:", "docs:", "console:"))} == {
        "audit:read", "audit:verify",
    }  # fmt: skip
    assert [r for r in Role if "accounts:manage" in GRANTS[r]] == [Role.ADMINISTRATOR, Role.OPERATOR]
    assert not {"accounts:manage", "keys:rotate", "client:delete"} & set(GRANTS[Role.SERVICE])
    assert not any(a in ABOUT_A_CLIENT for r in (Role.VISITOR, Role.ANONYMOUS) for a in GRANTS[r])


def test_a_key_does_what_its_scopes_name_and_its_role_may() -> None:
    key = holder(Role.SERVICE, scopes=frozenset({"inference:create", "accounts:manage"}))
    assert allowed(key, "inference:create")
    assert allowed(key, "client:read", "c1").reason == "not_in_scope"
    assert allowed(key, "accounts:manage").reason == "not_granted"


@pytest.mark.parametrize("pending", ["password", "second_factor"])
def test_before_signing_in_is_complete_next_to_nothing_is_allowed(pending: str) -> None:
    waiting = holder(Role.ADMINISTRATOR, pending=pending)
    assert {a for a in ACTIONS if allowed(waiting, a)} == BEFORE_CONFIRMED
    assert allowed(waiting, "accounts:manage").reason == pending
    assert {a for a in ACTIONS if allowed(ANONYMOUS, a)} == {"health:read", "docs:read", "console:read", "session:create"}


def test_the_guide_shows_the_table() -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "access.md"
    assert table() in guide.read_text(encoding="utf-8"), "docs/access.md is out of date: make docs"
