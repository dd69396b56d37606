"""Backups of the SQL store: consistent, encrypted, checksummed, sealed; and their restoration on another machine.

    line 1      JSON: format, what made it, how it opens
    the rest    an age stream of: a line of facts, the store, a line with the SHA-256 of all before it and the master key's seal

The store is SQLite's own file (its online backup) or, of PostgreSQL, the rows of each of our tables as COPY writes them, read
in one REPEATABLE READ transaction; the tables themselves are made by the code that knows them. No data key is in it
(`keys.py`, `escrow.py`): what it restores of a client whose key was shredded since stays closed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyrage
import sqlalchemy as sa

from attunement import __version__
from attunement.errors import ConfigError, DataError, IntegrityError
from attunement.security.age_files import decrypting, encrypting, identities_in, recipients_of
from attunement.security.clock import Clock, stamp, utc_now
from attunement.security.escrow import apply_ledger
from attunement.security.keys import KeyRing
from attunement.security.private_files import wipe
from attunement.storage import revisions
from attunement.storage.files import atomic_write, canonical
from attunement.storage.sql import FILE, SCHEMA_VERSION, Store

FORMAT = "attunement-backup-1"
ABOUT_IDENTITY, ABOUT_SEAL = b"attunement backup identity", b"attunement backup seal"
PIECE = 1 << 20
LONGEST_LINE = 1 << 28
SCHEMA = "schema"


@dataclass(frozen=True)
class Opener:
    """How a backup opens: by the identity of `recipients`, by a passphrase, or (neither given) by the master key."""

    recipients: Sequence[str] = ()
    passphrase: str = ""
    identity: Path | None = None


@dataclass(frozen=True)
class Facts:
    """What a backup says of itself. `left_out`: tables that are not ours; `sealed`: by a master key that is here."""

    kind: str
    made_at: str
    schema: int
    tables: dict[str, int]
    left_out: Sequence[str]
    ledger: Sequence[str]
    sha256: str = ""
    sealed: bool = False


class _Hashing:
    """Counts in all that is written or read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sha = file, hashlib.sha256()

    def write(self, part: bytes) -> None:
        self.sha.update(part)
        self._file.write(part)

    def read(self, size: int) -> bytes:
        part = self._file.read(size)
        self.sha.update(part)
        return part

    def line(self, *, counted: bool = True) -> bytes:
        found = self._file.readline(LONGEST_LINE)
        if not found.endswith(b"\n"):
            raise IntegrityError("the backup ends too early, or is none")
        if counted:
            self.sha.update(found)
        return found


def create_backup(store: Store, ring: KeyRing, path: Path, opener: Opener, *, clock: Clock = utc_now) -> Facts:
    """Writes a backup of `store` to the new file `path` (0600). Others go on writing meanwhile."""
    if path.exists():
        raise DataError(f"{path} exists already: a backup is not written over another")
    made_at = stamp(clock())
    head: dict[str, Any] = {"format": FORMAT, "made_at": made_at, "attunement": __version__}
    recipients = _recipients(ring, opener, head)
    with store.snapshot(patient=True) as connection, atomic_write(path, binary=True, private=True) as file:
        first = canonical(head).encode() + b"\n"
        file.write(first)
        with encrypting(file, recipients) as plain:
            out = _Hashing(plain)
            out.sha.update(first)
            facts = _facts(store, connection, made_at, [subject for subject, _ in ring.ledger()])
            out.write(canonical({**facts.__dict__, "sha256": "", "sealed": False}).encode() + b"\n")
            (_write_sqlite if store.is_sqlite else _write_postgres)(connection, facts, out, path)
            digest = out.sha.digest()
            seal = base64.b64encode(ring.master.wrap(digest, ABOUT_SEAL)).decode()
            tail = {"sha256": digest.hex(), "master_id": ring.master.key_id, "seal": seal}
            plain.write(canonical(tail).encode() + b"\n")
    return Facts(**{**facts.__dict__, "sha256": digest.hex(), "sealed": True})


def verify_backup(path: Path, ring: KeyRing, opener: Opener) -> Facts:
    """Reads a backup to its end and checks every byte. Raises `IntegrityError` when it is not what was written."""
    with _reading(path, ring, opener) as (facts, source):
        for _ in _pieces(facts, source):
            pass
        return _checked_tail(facts, source, ring, path)


def restore_sqlite(path: Path, ring: KeyRing, opener: Opener, home: Path, *, trust_unsealed: bool = False) -> Facts:
    """Puts a backup of SQLite into `home`, where no store may be yet; nothing is there when anything is wrong."""
    target = home.expanduser() / FILE
    if target.exists():
        raise DataError(f"there is a store at {target} already: move it away, or restore into another --set home=DIR")
    with _reading(path, ring, opener) as (facts, source):
        _wanted(facts, "sqlite", path)
        with atomic_write(target, binary=True, private=True) as file:
            for part in _pieces(facts, source):
                file.write(part)
            found = _trusted(_checked_tail(facts, source, ring, path), path, trust_unsealed)
    apply_ledger(ring, found.ledger)
    return found


def restore_postgres(path: Path, ring: KeyRing, opener: Opener, store: Store, *, trust_unsealed: bool = False) -> Facts:
    """Puts a backup of PostgreSQL into an empty database (`store`) in one transaction."""
    with _reading(path, ring, opener) as (facts, source):
        _wanted(facts, "postgresql", path)
        with store.begin(patient=True) as connection:
            _refuse_full(connection, store, facts)
            _fill(connection, store, facts, source)
            found = _trusted(_checked_tail(facts, source, ring, path), path, trust_unsealed)
    apply_ledger(ring, found.ledger)
    return found


def _recipients(ring: KeyRing, opener: Opener, head: dict[str, Any]) -> list[Any]:
    """Who can open it. Without recipients that is an identity of the backup's own, which lies in its head, closed."""
    if opener.recipients:
        head["opens_by"] = "recipient"
        return recipients_of(opener.recipients)
    identity = pyrage.x25519.Identity.generate()
    secret = str(identity).encode()
    if opener.passphrase:
        head |= {
            "opens_by": "passphrase",
            "identity": base64.b64encode(pyrage.passphrase.encrypt(secret, opener.passphrase)).decode(),
        }
    else:
        closed = base64.b64encode(ring.master.wrap(secret, ABOUT_IDENTITY)).decode()
        head |= {"opens_by": "master", "identity": closed, "master_id": ring.master.key_id}
    return [identity.to_public()]


def _identities(ring: KeyRing, opener: Opener, head: dict[str, Any], path: Path) -> list[Any]:
    if head["opens_by"] == "recipient":
        if opener.identity is None:
            raise ConfigError(f"{path} opens by an age identity: give its file with  --set security.age_identity=FILE")
        return identities_in(opener.identity.expanduser())
    closed = base64.b64decode(head["identity"])
    if head["opens_by"] == "master":
        secret = ring.master.unwrap(closed, ABOUT_IDENTITY, head["master_id"])
    elif not opener.passphrase:
        raise ConfigError(
            f"{path} opens by a passphrase: name the environment variable that holds it with  --passphrase-variable"
        )
    else:
        try:
            secret = pyrage.passphrase.decrypt(closed, opener.passphrase)
        except pyrage.DecryptError as error:
            raise DataError(f"the passphrase does not open {path}") from error
    return [pyrage.x25519.Identity.from_str(secret.decode())]


def _facts(store: Store, connection: sa.Connection, made_at: str, ledger: list[str]) -> Facts:
    there = set(sa.inspect(connection).get_table_names())
    ours = [t for t in store.tables.sorted_tables if t.name in there]
    counts = {t.name: connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in ours}
    left_out = [] if store.is_sqlite else sorted(there - counts.keys() - {revisions.TABLE})
    return Facts(connection.dialect.name, made_at, SCHEMA_VERSION, counts, left_out, ledger)


def _write_sqlite(connection: sa.Connection, _: Facts, out: _Hashing, path: Path) -> None:
    """By way of a copy beside the backup, as closed as the store itself, which is checked, and wiped afterwards."""
    copy = path.with_name(f".{path.name}.{os.getpid()}.copy")
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        target = sqlite3.connect(copy)
        try:
            connection.connection.driver_connection.backup(target)  # type: ignore[union-attr]
            target.execute("PRAGMA journal_mode=DELETE")
            if (found := target.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise IntegrityError(f"the store is damaged ({found}): restore it from an earlier backup")
        finally:
            target.close()
        out.write(b"%d\n" % copy.stat().st_size)
        with open(copy, "rb") as file:
            while part := file.read(PIECE):
                out.write(part)
    finally:
        wipe(copy)


def _write_postgres(connection: sa.Connection, facts: Facts, out: _Hashing, _: Path) -> None:
    raw: Any = connection.connection.driver_connection
    for name in facts.tables:
        if name == SCHEMA:
            continue
        columns = [c["name"] for c in sa.inspect(connection).get_columns(name)]
        out.write(canonical({"table": name, "columns": columns}).encode() + b"\n")
        with raw.cursor() as cursor, cursor.copy(_copy(connection, name, columns, "TO STDOUT")) as rows:
            for row in rows:
                out.write(bytes(row))
        out.write(b"\\.\n")  # no row is this: COPY writes a backslash as two


def _copy(connection: sa.Connection, table: str, columns: Sequence[str], way: str) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"COPY {quote(table)} ({', '.join(quote(c) for c in columns)}) {way}"


@contextmanager
def _reading(path: Path, ring: KeyRing, opener: Opener) -> Iterator[tuple[Facts, _Hashing]]:
    """The facts of a backup, and its bytes from there on. Raises `DataError` for a file that is no backup of ours."""
    file = open(path, "rb")  # noqa: SIM115 - closed with what decrypts it
    try:
        first = file.readline(1 << 16)
        head = json.loads(first)
        if head["format"] != FORMAT:
            raise DataError(f"{path} was written in another form ({head['format']}): a newer attunement may read it")
        identities = _identities(ring, opener, head, path)
    except (ValueError, KeyError, TypeError, pyrage.IdentityError) as error:
        file.close()
        raise DataError(f"{path} is no backup of attunement") from error
    except BaseException:
        file.close()
        raise
    with decrypting(file, identities, str(path)) as plain:
        source = _Hashing(plain)
        source.sha.update(first)
        try:
            facts = Facts(**json.loads(source.line()))
            ours = isinstance(facts.tables, dict) and isinstance(facts.schema, int)
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} is no backup of attunement") from error
        if not ours:
            raise DataError(f"{path} is no backup of attunement")
        if facts.schema > SCHEMA_VERSION:
            raise DataError(f"{path} was written by a newer attunement: upgrade this one")
        yield facts, source


def _pieces(facts: Facts, source: _Hashing) -> Iterator[bytes]:
    """The store's bytes up to the last line."""
    if facts.kind == "sqlite":
        size = source.line().strip()
        if not size.isdigit() or len(size) > 18:
            raise IntegrityError("the backup does not say how large its store is")
        left = int(size)
        while left:
            part = source.read(min(PIECE, left))
            if not part:
                raise IntegrityError("the backup ends too early")
            left -= len(part)
            yield part
        return
    for _ in range(len(facts.tables) - (SCHEMA in facts.tables)):
        yield source.line()
        while (line := source.line()) != b"\\.\n":
            yield line


def _checked_tail(facts: Facts, source: _Hashing, ring: KeyRing, path: Path) -> Facts:
    """Holds what was read against the last line; whether a master key that is here sealed it is told."""
    digest = source.sha.digest()
    try:
        tail = json.loads(source.line(counted=False))
        told, seal, master_id = str(tail["sha256"]), base64.b64decode(tail["seal"]), str(tail["master_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} has no last line of ours") from error
    if source.read(1):
        raise IntegrityError(f"{path} goes on after its end")
    if told != digest.hex():
        raise IntegrityError(f"{path} is damaged: its checksum differs")
    try:
        sealed = ring.master.unwrap(seal, ABOUT_SEAL, master_id) == digest
    except ConfigError:  # by a master key of before
        return Facts(**{**facts.__dict__, "sha256": digest.hex()})
    if not sealed:
        raise IntegrityError(f"{path} bears the seal of another backup")
    return Facts(**{**facts.__dict__, "sha256": digest.hex(), "sealed": True})


def _trusted(facts: Facts, path: Path, trust_unsealed: bool) -> Facts:
    if not facts.sealed and not trust_unsealed:
        raise DataError(
            f"{path} was sealed by a master key that is not here: if you know where it comes from, give --trust-unsealed"
        )
    return facts


def _wanted(facts: Facts, kind: str, path: Path) -> None:
    if facts.kind != kind:
        raise DataError(f"{path} is a backup of {facts.kind}, and the store that is set is {kind}: set security.store to match")


def _refuse_full(connection: sa.Connection, store: Store, facts: Facts) -> None:
    unknown = sorted(set(facts.tables) - set(store.tables.tables))
    if unknown:
        raise DataError(f"the backup holds tables that this attunement does not know ({', '.join(unknown)}): upgrade it")
    for name in set(facts.tables) - {SCHEMA}:
        if connection.execute(sa.select(sa.literal(1)).select_from(store.tables.tables[name]).limit(1)).first():
            raise DataError(f"the store {store} holds rows in {name}: restore into an empty database")


def _fill(connection: sa.Connection, store: Store, facts: Facts, source: _Hashing) -> None:
    raw: Any = connection.connection.driver_connection
    for _ in range(len(facts.tables) - (SCHEMA in facts.tables)):
        told = json.loads(source.line())
        table, columns = store.tables.tables[told["table"]], list(told["columns"])
        if strange := set(columns) - set(table.c.keys()):
            raise DataError(f"the backup's table {table.name} has columns that are not known here ({', '.join(sorted(strange))})")
        with raw.cursor() as cursor, cursor.copy(_copy(connection, table.name, columns, "FROM STDIN")) as rows:
            while (line := source.line()) != b"\\.\n":
                rows.write(line)
        for column in columns:  # numbers that the database gives go on after the last
            query = "SELECT setval(s, (SELECT max({0}) FROM {1})) FROM pg_get_serial_sequence(:t, :c) s WHERE s IS NOT NULL"
            quote = connection.dialect.identifier_preparer.quote
            filled = query.format(quote(column), quote(table.name))
            if table.c[column].primary_key and isinstance(table.c[column].type, sa.Integer):
                connection.execute(sa.text(filled), {"t": table.name, "c": column})
