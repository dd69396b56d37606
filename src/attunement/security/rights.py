"""What a client may ask for: the whole record as a file, correction, deletion with a certificate.

A deletion takes the rows of every kind and destroys the client's key, which closes what backups hold; a certificate says what
was deleted, when, which keys are gone, and what remains and why. It is signed by the key of the audit checkpoints. Stopped
anywhere, the same deletion goes on where it was.
"""

from __future__ import annotations

import hashlib
import html
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from attunement import __version__
from attunement.errors import DataError
from attunement.security.acting import Act
from attunement.security.age_files import encrypted_write
from attunement.security.audit import Entry
from attunement.security.checkpoints import text_holds
from attunement.security.clients import Attachment, kind_of, kinds
from attunement.security.clock import stamp
from attunement.security.codes import valid_id
from attunement.security.holds import deletions, is_held, lock, refuse_held
from attunement.security.vault import Vault
from attunement.storage.files import atomic_write, canonical

EXPORT, CERTIFICATE = "attunement-client-export-1", "attunement-deletion-certificate-1"
ACCESS_LOG = "access_log"
REMAINS = (
    ("the audit log's records about this id, without content", "45 CFR 164.316(b)(2)(i): six years; the log only grows"),
    ("ciphertext in backups made before", "it opens with the destroyed key alone, which is in no backup; it goes when they do"),
    ("this certificate, and that the id was deleted", "so that a restored backup cannot bring the client back"),
    (
        "copies of the escrow that were made by hand before, until the master key is rotated and its former copies destroyed",
        "see docs/security-design.md",
    ),
    ("exports handed out, datasets and models made from the data", "outside of this store: withdraw them there"),
)
"""What a deletion leaves, and why: in every certificate."""


def export_client(vault: Vault, client: str, out: Path, act: Act, recipients: Sequence[str] = ()) -> dict[str, int]:
    """Writes a client's whole record into the new file `out` (zip, 0600; encrypted for `recipients`); rows by kind.

    `<kind>.json` has the rows, `<kind>/` the files that belong to them, `access_log.json` who did what with the record, `index.html` the same to read,
    `manifest.json` the hashes. It is recorded before the file appears. Raises `DataError` where nothing is held.
    """
    valid_id("client", client)
    if out.exists():
        raise DataError(f"{out} exists already: an export is not written over another file")
    with _new_file(out, recipients) as file, _Export(file) as export, vault.audit.begin() as connection:
        found = {kind: export.filed(kind, data.export(vault, connection, client)) for kind, data in kinds().items()}
        counts = {kind: len(rows) for kind, rows in found.items()}
        if not any(counts.values()):
            raise DataError(f"nothing is held about {client}")
        log = [asdict(record) for record in vault.audit.records(client=client)]
        export.finish(client, stamp(vault.audit.clock()), {**found, ACCESS_LOG: log})
        vault.audit.append(connection, Entry(act.actor, "client:export", client, request=act.request))
    return counts


def correct_client(vault: Vault, client: str, kind: str, row: str, changes: Mapping[str, Any], act: Act) -> None:
    """Corrects fields of one row of a client's record; what they were is kept. Raises `DataError`."""
    data = kind_of(kind)
    with vault.audit.begin() as connection:
        data.correct(vault, connection, valid_id("client", client), valid_id("a row", row), changes, act.actor)
        vault.audit.append(connection, Entry(act.actor, "client:correct", client, request=act.request, target=row))


def delete_client(vault: Vault, client: str, act: Act) -> dict[str, Any]:
    """Deletes all there is about a client and destroys the key; gives the certificate, also the next time it is asked for.

    Raises `DataError` under a legal hold, and where nothing was ever held.
    """
    valid_id("client", client)
    counts = _delete_rows(vault, client, act)
    if (made := certificate_of(vault, client)) is not None:
        return made
    clean = vault.shred(client, actor=act.actor, request=act.request)
    freed = [table for kind, data in kinds().items() for table in data.tables if counts[kind]]
    scrubbed = min((vault.store.scrub(table) for table in freed), default=True)  # each of them, whatever another one gave
    with vault.store.snapshot() as connection:
        row = connection.execute(sa.select(deletions).where(deletions.c.client == client)).one()
    certificate = _signed(vault, client, row, clean and scrubbed)
    with vault.audit.begin() as connection:
        connection.execute(deletions.update().where(deletions.c.client == client).values(certificate=certificate))
        vault.audit.append(connection, Entry(act.actor, "client:certify", client, request=act.request))
    return certificate


def certificate_of(vault: Vault, client: str) -> dict[str, Any] | None:
    """The certificate of a client's deletion, where one was finished."""
    with vault.store.snapshot() as connection:
        found = connection.execute(sa.select(deletions.c.certificate).where(deletions.c.client == client)).scalar()
    return None if found is None else dict(found)


def sweep_deleted(vault: Vault, client: str, act: Act) -> int:
    """Deletes the rows that a restored backup, or a process with the key still in memory, brought back of a deleted client."""
    with vault.audit.begin() as connection:
        lock(connection)
        if is_held(connection, client):
            return 0
        count = sum(data.delete(connection, client) for data in kinds().values())
        if count:
            vault.audit.append(connection, Entry(act.actor, "retention:sweep", client, request=act.request))
    return count


def verify_certificate(certificate: Mapping[str, Any], public_key: str) -> bool:
    """Whether a certificate is as it was signed, by the public key in hex (`attune audit checkpoint` prints it)."""
    body = {name: value for name, value in certificate.items() if name != "signature"}
    if body.get("format") != CERTIFICATE or not isinstance(certificate.get("signature"), str):
        raise DataError("this is no deletion certificate")
    return text_holds(public_key, _text(body), certificate["signature"])


def _delete_rows(vault: Vault, client: str, act: Act) -> dict[str, int]:
    """Takes the rows of every kind in one transaction with the record of it; what a run before took is counted in."""
    with vault.audit.begin() as connection:
        lock(connection)
        refuse_held(connection, client)
        before = connection.execute(sa.select(deletions).where(deletions.c.client == client)).one_or_none()
        counts = {kind: data.delete(connection, client) for kind, data in kinds().items()}
        if before is None and not any(counts.values()) and not vault.ring.versions(client):
            raise DataError(f"nothing was ever held about {client}")
        if before is None:
            values = {"client": client, "at": stamp(vault.audit.clock()), "requested_by": act.actor, "counts": counts}
            connection.execute(deletions.insert().values(**values))
        if before is None or any(counts.values()):
            vault.audit.append(connection, Entry(act.actor, "client:delete", client, request=act.request))
    return counts


def _signed(vault: Vault, client: str, row: sa.Row[Any], clean: bool) -> dict[str, Any]:
    points = vault.audit.checkpoints
    if points is None:
        raise DataError("a certificate needs the master key: set security.master_key")
    last = points.sign(*vault.audit.head(), vault.audit.clock())
    remains = [{"what": what, "why": why} for what, why in REMAINS]
    if not clean:
        told = "freed pages and the database's log may hold the wrapped key and names of accounts for a while"
        remains.append({"what": told, "why": "attune keys rotate closes the key for good; the database reuses its pages"})
    if vault.settings.stores.mongodb:
        told = "ciphertext of transcripts and documents in MongoDB, until a service or  attune store drain  next reaches it"
        remains.append({"what": told, "why": "it opens with the destroyed key alone"})
    body = {
        "format": CERTIFICATE,
        "client": client,
        "deleted_at": row.at,
        "requested_by": row.requested_by,
        "rows_deleted": row.counts,
        "keys_destroyed": [
            {"key": f"{client}/{n}", "made_at": made, "at": gone} for n, made, gone in vault.ring.versions(client)
        ],
        "remains": remains,
        "audit_head": {"record": last.number, "hash": last.hash},
        "made_by": f"attunement {__version__}",
        "public_key": points.public_key(),
    }
    return {**body, "signature": points.sign_text(_text(body))}


def _text(body: Mapping[str, Any]) -> bytes:
    return canonical([CERTIFICATE, dict(body)]).encode()


@contextmanager
def _new_file(out: Path, recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    whole = encrypted_write(out, recipients) if recipients else atomic_write(out, binary=True, private=True)
    with whole as file:
        yield file


class _Export:
    """The archive of an export in the making: files of rows go in as they come, so that one of them is in memory at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._archive, self._hashes = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED), dict[str, str]()

    def __enter__(self) -> _Export:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def filed(self, kind: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows; in place of what is a file of its own stands the name that it has in the archive."""
        return [{name: self._plain(kind, value) for name, value in row.items()} for row in rows]

    def finish(self, client: str, made_at: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        for kind, rows in found.items():
            self._write(f"{kind}.json", json.dumps(rows, ensure_ascii=False, indent=1).encode())
        self._write("index.html", _page(client, made_at, found).encode())
        told = {"format": EXPORT, "client": client, "made_at": made_at, "made_by": f"attunement {__version__}"}
        manifest = {**told, "rows": {kind: len(rows) for kind, rows in found.items()}, "sha256": self._hashes}
        self._archive.writestr("manifest.json", json.dumps(manifest, indent=1).encode())

    def _plain(self, kind: str, value: Any) -> Any:
        if not isinstance(value, Attachment):
            return value
        # Not compressed: 46 ms for 10 MiB in place of 300, and SQLite's other writers wait meanwhile
        self._write(f"{kind}/{value.name}", value.content, zipfile.ZIP_STORED)
        return f"{kind}/{value.name}"

    def _write(self, name: str, part: bytes, form: int = zipfile.ZIP_DEFLATED) -> None:
        self._archive.writestr(name, part, form)
        self._hashes[name] = hashlib.sha256(part).hexdigest()


def _page(client: str, made_at: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The record to read: no script, no address, every word escaped."""
    about = {kind: data.about for kind, data in kinds().items()} | {ACCESS_LOG: "who did what with the record, and when"}
    lines = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Record</title>',
        "<style>body{font:16px sans-serif;max-width:60em;margin:2em auto}dt{font-weight:bold}dd{white-space:pre-wrap}</style>",
        f"<h1>Record of {html.escape(client)}</h1><p>As of {html.escape(made_at)} (UTC). The files *.json hold the same.</p>",
    ]
    for kind, rows in found.items():
        lines.append(f"<h2>{html.escape(kind)}</h2><p>{html.escape(about[kind])}: {len(rows)}</p>")
        for row in rows:
            cells = (f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(_shown(value))}</dd>" for name, value in row.items())
            lines.append(f"<dl>{''.join(cells)}</dl><hr>")
    return "\n".join([*lines, "</html>", ""])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
