"""Encrypted fields: they open in their own place alone, and after shredding nowhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attunement.errors import DataError, IntegrityError
from attunement.security.fields import FieldCipher
from attunement.security.keys import KeyRing, ShreddedError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def cipher(ring: KeyRing) -> FieldCipher:
    return FieldCipher(ring)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(value=JSON)
def test_json_comes_back(cipher: FieldCipher, value: Any) -> None:
    closed = cipher.encrypt(value, table="logs", column="notes", row="7", subject="c-1")
    assert (closed is None) == (value is None)
    assert cipher.decrypt(closed, table="logs", column="notes", row="7", subject="c-1") == value


@pytest.mark.parametrize(
    "moved", [{"table": "other"}, {"column": "summary"}, {"row": "8"}, {"subject": "c-2"}, {"table": "logsn", "column": "otes"}]
)
def test_a_moved_field_does_not_open(cipher: FieldCipher, moved: dict[str, str]) -> None:
    place = {"table": "logs", "column": "notes", "row": "7", "subject": "c-1"}
    closed = cipher.encrypt("she sleeps better", **place)
    cipher.ring.key_for("c-2")
    assert closed is not None and b"sleeps" not in closed
    with pytest.raises(IntegrityError, match="was changed, or moved there"):
        cipher.decrypt(closed, **{**place, **moved})


def test_any_changed_bit_is_found(cipher: FieldCipher) -> None:
    place = {"table": "logs", "column": "notes", "row": "7", "subject": "c-1"}
    cipher.ring.key_for("c-1"), cipher.ring.renew("c-1")
    closed = cipher.encrypt("yes", **place)
    assert closed is not None
    for at in range(len(closed)):
        changed = bytearray(closed)
        changed[at] ^= 1 if at != 4 else 3  # the version: the other one that there is, for its key to be tried
        with pytest.raises(DataError):  # an IntegrityError, or there is no key of such a version
            cipher.decrypt(bytes(changed), **place)
    for broken in (b"", closed[:20], b"\x03" + closed[1:]):
        with pytest.raises(IntegrityError, match="no encrypted field"):
            cipher.decrypt(broken, **place)
    with pytest.raises(ValueError):
        cipher.encrypt(math.nan, **place)


def test_many_rows_of_many_clients(cipher: FieldCipher) -> None:
    rows = [{"id": n, "client": f"c-{n % 7}", "when": "today"} for n in range(50)]
    closed = [
        {**r, **cipher.encrypt_row("logs", str(r["id"]), str(r["client"]), {"notes": f"note {r['id']}", "mood": None})}
        for r in rows
    ]
    fresh = FieldCipher(KeyRing(cipher.ring.store, cipher.ring.master))
    assert fresh.decrypt_rows("logs", closed, ("notes", "mood")) == [
        {**r, "notes": f"note {r['id']}", "mood": None} for r in rows
    ]
    cipher.ring.shred("c-3")
    with pytest.raises(ShreddedError):
        FieldCipher(KeyRing(cipher.ring.store, cipher.ring.master)).decrypt_rows("logs", closed, ("notes",))


def test_the_blind_index_finds_equals_and_tells_columns_apart(cipher: FieldCipher) -> None:
    mail = cipher.blind_index("ann@example.org", table="accounts", column="email")
    assert mail == cipher.blind_index("ann@example.org", table="accounts", column="email") and len(mail) == 16
    assert mail != cipher.blind_index("ann@example.org", table="accounts", column="name")
    assert mail != cipher.blind_index("bob@example.org", table="accounts", column="email")
