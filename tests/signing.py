"""What the tests of the doors share: a clock to set, cheap password hashes, a service behind its guard, signed-in browsers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyotp

from attunement.config import Settings, load_settings
from attunement.security.acting import Act
from attunement.security.audit import AuditLog
from attunement.security.entry import Access
from attunement.security.fields import FieldCipher
from attunement.security.keys import FILE, KeyRing, key_tables
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import Role
from attunement.serving.app import create_app
from attunement.serving.guard import FORGERY_HEADER, Guard
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService
from attunement.storage.sql import Store

CHEAP = ["access.argon2_memory_kib=8", "access.argon2_passes=1", "access.argon2_lanes=1"]
PASSWORD = "gravel umbrella tuesday kestrel"
ACT = Act("os:test", "r1", "203.0.113.5")
AUTH = "/api/v1/auth"


@dataclass
class SetClock:
    """A clock that stands until it is moved."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 27, 12, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def settings_for(home: Path, *more: str) -> Settings:
    return load_settings(None, [f"home={home}", *CHEAP, *more]).settings


@contextmanager
def access_to(store: Store, home: Path, *more: str, clock: Any = None) -> Iterator[Access]:
    """The whole of signing in over `store`."""
    clock = clock or SetClock()
    path = home / "master.key"
    master = FileMasterKey(path) if path.exists() else FileMasterKey.create(path)
    keys = Store.at_home(home, FILE, key_tables)
    yield Access(AuditLog(store, clock=clock), FieldCipher(KeyRing(keys, master)), settings_for(home, *more), clock)
    keys.close()


def person(access: Access, name: str, *roles: Role, client: str = "") -> str:
    """An account with a password of its own; its id."""
    account, first = access.accounts.create(name, roles, ACT, client)
    access.accounts.change_password(account, first, PASSWORD, ACT)
    return account.id


def code_for(secret: str, clock: SetClock) -> str:
    return pyotp.TOTP(secret).at(clock.now)


@contextmanager
def guarded(access: Access, settings: Settings, service: DeploymentService | None = None) -> Iterator[str]:
    """The address of a real service that asks everybody who they are."""
    guard = Guard(settings, access, secure_cookies=False)
    with listen("127.0.0.1", 0) as socket, running(create_app(service or DeploymentService(settings), guard), socket):
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"


def browser(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=30, trust_env=False)


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD) -> dict[str, Any]:
    """Signs a browser in; from then on it sends the token against forged requests, as a page of ours would."""
    answer = client.post(f"{AUTH}/sign-in", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    client.headers[FORGERY_HEADER] = answer.json()["forgery_token"]
    return dict(answer.json())


def confirm(client: httpx.Client, access: Access, clock: SetClock) -> list[str]:
    """Enrols and shows a second factor; the recovery codes."""
    secret = client.post(f"{AUTH}/totp/enrol").json()["secret"]
    answer = client.post(f"{AUTH}/totp", json={"code": code_for(secret, clock)})
    assert answer.status_code == 200, answer.text
    client.headers[FORGERY_HEADER] = answer.json()["forgery_token"]
    return list(answer.json()["recovery_codes"])
