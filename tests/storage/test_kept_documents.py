"""Documents over every store: the suite of transcripts for files; then sizes, kills, backups, and what is not taken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from test_kept_transcripts import ACT, days_ago, drained, vault_at
from test_kept_transcripts import made as said

from attunement.errors import DataError, DocumentError, IntegrityError, StoreDownError
from attunement.security.acting import Act
from attunement.security.backup import Opener, create_backup, restore_postgres, restore_sqlite
from attunement.security.clients import kind_of
from attunement.security.holds import Holds
from attunement.security.keys import ShreddedError
from attunement.security.retention import Retention
from attunement.security.rights import delete_client, export_client
from attunement.security.vault import Vault
from attunement.storage.sql import Store
from attunement.storage.transcripts.bodies import NoBodies
from attunement.storage.transcripts.documents import Document, id_of, seal_document
from attunement.storage.transcripts.filing import Documents
from attunement.storage.transcripts.mongo import MongoBodies
from attunement.storage.transcripts.store import TranscriptStore
from attunement.storage.transcripts.tables import transcripts
from databases import Daemon, PostgresDaemon
from stores import Server

LETTER = b"Dear colleague, my brother-zq left in March."
PDF = b"%PDF-1.7\nscan of the intake form: brother-zq"


@pytest.fixture(params=["sqlite", "postgres", "mongodb", "mongodb+postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TranscriptStore]:
    url = request.getfixturevalue("server").new("documents") if "postgres" in request.param else ""
    mongodb = request.getfixturevalue("mongo_server").url if "mongodb" in request.param else ""
    with vault_at(tmp_path / "home", url, mongodb) as vault:
        found = TranscriptStore(vault, MongoBodies(vault.settings) if mongodb else NoBodies())
        yield found
        found.close()


def letter(store: TranscriptStore, client: str = "c-1", content: bytes = LETTER, created: str = "") -> Document:
    """Adds one; with `created` as if it had been added then."""
    documents = Documents(store)
    if not created:
        return documents.add(client, "Referral", "text/plain", content, ACT)
    cipher = store.vault.cipher
    row = id_of(cipher, client, "Referral", "text/plain", content)
    made = Document(row, "Referral", "text/plain", len(content), created, ACT.actor)
    store.keep(seal_document(cipher, client, made, content, "r-9"), ACT)
    return made


def held(store: TranscriptStore) -> bytes:
    with store.vault.store.snapshot() as connection:
        return b"".join(bytes(v) for row in connection.execute(sa.select(transcripts)) for v in row if isinstance(v, bytes))


def test_each_is_kept_once_sealed_listed_and_on_record(store: TranscriptStore) -> None:
    documents = Documents(store)
    first = letter(store)
    form = documents.add("c-1", "Intake form", "application/pdf", PDF, Act("a-2", "r-2"))
    store.add(said("r-1"), ACT)
    assert letter(store) == first  # the same again, before it moved on
    assert LETTER not in held(store) and b"Referral" not in held(store)
    drained(store)
    assert letter(store) == first  # and after
    drained(store)
    other = letter(store, "c-2")
    assert other.id != first.id
    assert documents.of("c-1", ACT) == [first, form] and documents.of("c-2", ACT) == [other] and documents.of("c-3", ACT) == []
    assert (first.title, first.bytes, first.added_by, form.added_by) == ("Referral", len(LETTER), "a-1", "a-2")
    assert documents.get("c-1", form.id, ACT) == (form, PDF)
    assert documents.get("c-2", other.id, ACT) == (other, LETTER)
    with pytest.raises(DocumentError, match="no such document"):
        documents.get("c-2", first.id, ACT)
    assert [t.request_id for t in store.read(ACT, client="c-1")] == ["r-1"]  # a document is no transcript
    assert documents.get("c-1", first.id, ACT)[1] == LETTER
    found = [(r.action, r.target) for r in store.vault.audit.records(client="c-1") if r.action.startswith("client:")]
    assert found == [
        ("client:write", first.id), ("client:write", form.id), ("client:read", "documents"), ("client:read", form.id), ("client:read", first.id),
    ]  # fmt: skip
    assert store.vault.audit.verify().whole
    if not isinstance(store.bodies, NoBodies):
        assert store.waiting()["outbox"] == 1 and len(store.bodies.get([first.id, form.id])) == 2  # of c-2 it waits


def test_what_is_moved_to_another_client_or_row_does_not_open(store: TranscriptStore) -> None:
    mine, other = letter(store), letter(store, content=b"another letter")
    letter(store, "c-2", b"so that c-2 has a key")
    with store.vault.store.begin() as connection:
        here = transcripts.c.id == mine.id
        theirs = connection.execute(sa.select(transcripts.c.content).where(transcripts.c.id == other.id)).scalar()
        was = connection.execute(sa.select(transcripts.c.content).where(here)).scalar()
        connection.execute(transcripts.update().where(here).values(content=theirs))
    with pytest.raises(IntegrityError):
        Documents(store).get("c-1", mine.id, ACT)
    with store.vault.store.begin() as connection:
        connection.execute(transcripts.update().where(here).values(content=was, client="c-2"))
    with pytest.raises(IntegrityError):
        Documents(store).get("c-2", mine.id, ACT)
    with store.vault.store.begin() as connection:
        connection.execute(transcripts.update().where(here).values(client="c-1"))
    assert Documents(store).get("c-1", mine.id, ACT) == (mine, LETTER)


def test_a_client_is_exported_deleted_and_closed_everywhere(store: TranscriptStore, tmp_path: Path) -> None:
    kept = letter(store)
    drained(store)
    form = Documents(store).add("c-1", "Intake form", "application/pdf", PDF, ACT)
    letter(store, "c-2")
    assert export_client(store.vault, "c-1", tmp_path / "c-1.zip", ACT)["documents"] == 2
    with zipfile.ZipFile(tmp_path / "c-1.zip") as archive:
        rows, manifest = json.loads(archive.read("documents.json")), json.loads(archive.read("manifest.json"))
        assert [row["content"] for row in rows] == [f"documents/{kept.id}.txt", f"documents/{form.id}.pdf"]
        assert rows[1]["title"] == "Intake form" and archive.read(rows[1]["content"]) == PDF
        assert {name: hashlib.sha256(archive.read(name)).hexdigest() for name in manifest["sha256"]} == manifest["sha256"]
        assert set(archive.namelist()) == {"manifest.json", *manifest["sha256"]}
    with store.vault.store.snapshot() as connection:
        rows_before = [dict(row) for row in connection.execute(sa.select(transcripts)).mappings()]
    words = store.bodies.get([kept.id]) if not isinstance(store.bodies, NoBodies) else {}
    made = delete_client(store.vault, "c-1", ACT)
    assert made["rows_deleted"]["documents"] == 2
    drained(store)
    if words:
        assert store.bodies.get([kept.id, form.id]) == {}
    assert Documents(store).of("c-1", ACT) == [] and len(Documents(store).of("c-2", ACT)) == 1
    row = next(row for row in rows_before if row["id"] == kept.id)
    with store.vault.store.begin() as connection:  # as a restored backup would bring it back
        connection.execute(transcripts.insert().values(**{**row, **words.get(kept.id, {}), "place": "sql"}))
    with pytest.raises(ShreddedError):
        Documents(store).get("c-1", kept.id, ACT)
    with pytest.raises(ShreddedError):
        letter(store)


def test_time_takes_each_kind_by_its_own_policy_but_for_holds(store: TranscriptStore) -> None:
    settings = store.vault.settings
    policies = settings.security.model_copy(update={"retention": {"documents": 30, "transcripts": 100, "audit": 2192}})
    vault = replace(store.vault, settings=settings.model_copy(update={"security": policies}))
    for client in ("c-1", "c-2"):
        letter(store, client, b"an old letter", days_ago(40))
        letter(store, client)
        store.add(said("r-old", client=client, created=days_ago(50)), ACT)
    drained(store)
    Holds(vault.audit).set("c-2", "case-7", ACT)
    assert Retention(vault).overdue_days()["documents"] == pytest.approx(10, abs=0.1)
    done = {each.kind: each for each in Retention(vault).run(ACT)}
    assert (done["documents"].rows, done["documents"].held, done["transcripts"].rows) == (1, 1, 0)
    drained(store)
    documents = Documents(store)
    assert [each.bytes for each in documents.of("c-1", ACT)] == [len(LETTER)]
    assert documents.get("c-1", documents.of("c-1", ACT)[0].id, ACT)[1] == LETTER
    assert len(documents.of("c-2", ACT)) == 2
    assert len(store.read(ACT, client="c-1")) == 1  # its words are still where they were
    again = letter(store, "c-1", b"an old letter")  # added anew: the same id as what was just deleted
    drained(store)
    drained(store)
    assert documents.get("c-1", again.id, ACT)[1] == b"an old letter"
    with pytest.raises(DataError, match="legal hold"):
        delete_client(vault, "c-2", ACT)


def test_what_is_added_anew_while_mongodb_is_away_outlives_the_deletion_before(tmp_path: Path, mongo_server: Daemon) -> None:
    with vault_at(tmp_path / "home", mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        old = letter(store, created=days_ago(40))
        drained(store)
        mongo_server.kill()
        with vault.store.begin() as connection:
            assert kind_of("documents").delete(connection, "c-1", days_ago(30)) == 1
        new = letter(store)
        assert new.id == old.id and new.added_at > old.added_at
        with pytest.raises(StoreDownError):
            store.drain()
        mongo_server.start()
        _drained_at_last(store)
        assert Documents(store).get("c-1", new.id, ACT) == (new, LETTER)
        store.close()


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from test_kept_transcripts import ACT, vault_at
from attunement.storage.opening import opened_stores
with vault_at(Path(sys.argv[2]), mongodb=sys.argv[3]) as vault, opened_stores(vault) as stores:
    for number in range(10_000):
        stores.documents.add("c-1", f"letter {number}", "text/plain", f"{number} ".encode() * 20_000, ACT)
        print(number, flush=True)
"""


def test_what_was_kept_before_a_kill_is_kept_after_it_and_once(tmp_path: Path, mongo_server: Daemon) -> None:
    import pymongo

    home = tmp_path / "home"
    vault_at(home, mongodb=mongo_server.url).close()
    command = [sys.executable, "-c", _WRITER, str(Path(__file__).parent), str(home), mongo_server.url]
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 8:
                mongo_server.hold()  # in the middle of one, perhaps
            if int(line) == 20:
                break
        writer.send_signal(signal.SIGKILL)
        last = max([20, *(int(line) for line in writer.stdout.read().split())])
    mongo_server.resume()
    with vault_at(home, mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        _drained_at_last(store)
        documents = Documents(store)
        found = documents.of("c-1", ACT)
        assert [each.title for each in found][: last + 1] == [f"letter {n}" for n in range(last + 1)] and len(found) <= last + 2
        assert all(documents.get("c-1", each.id, ACT)[1] == f"{number} ".encode() * 20_000 for number, each in enumerate(found))
        with pymongo.MongoClient[dict[str, object]](mongo_server.url) as client:
            assert client.attunement.transcripts.count_documents({}) == len(found)
        assert store.waiting()["outbox"] == 0 and vault.audit.verify().whole
        store.close()


def test_one_that_was_put_but_not_marked_is_put_once(tmp_path: Path, mongo_server: Daemon) -> None:
    import pymongo

    with vault_at(tmp_path / "home", mongodb=mongo_server.url) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        kept = letter(store)
        with vault.store.snapshot() as connection:
            rows = [dict(row) for row in connection.execute(sa.select(transcripts)).mappings()]
        store.bodies.put(rows)  # here a process is killed: the SQL store does not know yet
        assert Documents(store).get("c-1", kept.id, ACT)[1] == LETTER
        drained(store)
        with pymongo.MongoClient[dict[str, object]](mongo_server.url) as client:
            (there,) = client.attunement.transcripts.find()
        assert there["kind"] == "document" and LETTER not in bytes(there["content"])  # type: ignore[call-overload]
        assert held(store).count(b"brother") == 0 and Documents(store).get("c-1", kept.id, ACT)[1] == LETTER
        store.close()


def test_the_largest_goes_through_mongodb(tmp_path: Path, mongo_server: Daemon) -> None:
    largest = 12 * 2**20
    with vault_at(tmp_path / "home", mongodb=mongo_server.url, document_bytes=largest, timeout_seconds=20.0) as vault:
        store = TranscriptStore(vault, MongoBodies(vault.settings))
        content = b"%PDF-" + os.urandom(largest - 5)
        kept = Documents(store).add("c-1", "Scan", "application/pdf", content, ACT)
        letter(store)
        assert store.drain() == 1  # by itself, for its size
        drained(store)
        assert store.waiting()["outbox"] == 0
        with vault.store.snapshot() as connection:
            assert connection.execute(sa.select(sa.func.count(transcripts.c.content))).scalar_one() == 0  # none stayed behind
        assert Documents(store).get("c-1", kept.id, ACT) == (kept, content)
        store.close()


def test_while_postgresql_is_away_the_spool_takes_it(tmp_path: Path, postgres_daemons: Callable[[], PostgresDaemon]) -> None:
    postgres = postgres_daemons().start()
    with vault_at(tmp_path / "home", postgres.url) as vault:
        store = TranscriptStore(vault)
        letter(store, content=b"so that the client has a key")
        postgres.stop(signal.SIGINT)
        kept = letter(store)
        store.add(said("r-1"), ACT)
        assert letter(store).id == kept.id and store.spool.count() == 2
        assert b"brother" not in (tmp_path / "home" / "transcripts-spool.db").read_bytes()
        postgres.start()
        _drained_at_last(store)
        assert store.spool.count() == 0 and len(Documents(store).of("c-1", ACT)) == 2
        assert Documents(store).get("c-1", kept.id, ACT)[1] == LETTER
        assert len(store.read(ACT, client="c-1")) == 1
        store.close()


def test_a_spool_of_before_there_were_documents_goes_on(tmp_path: Path) -> None:
    with vault_at(tmp_path / "home") as vault:
        store = TranscriptStore(vault)
        store.spool.put({**_sealed(vault), "actor": "a-1"})
        with store.spool._opened().begin() as connection:
            for column in ("kind", "about", "content"):
                connection.exec_driver_sql(f"ALTER TABLE spooled_transcripts DROP COLUMN {column}")
        store.close()
        store = TranscriptStore(vault)
        assert store.spool.count() == 1
        kept = letter(store)
        drained(store)
        assert [t.request_id for t in store.read(ACT, client="c-1")] == ["r-1"]
        assert Documents(store).get("c-1", kept.id, ACT)[1] == LETTER
        store.close()


def test_a_backup_of_sqlite_brings_it_back(tmp_path: Path) -> None:
    with vault_at(tmp_path / "home") as vault:
        kept = letter(TranscriptStore(vault), content=LETTER * 100_000)
        create_backup(vault.store, vault.ring, tmp_path / "a.backup", Opener())
        restore_sqlite(tmp_path / "a.backup", vault.ring, Opener(), tmp_path / "new")
    for name in ("master.key", "keys.db"):
        shutil.copy(tmp_path / "home" / name, tmp_path / "new" / name)
    with vault_at(tmp_path / "new") as vault:
        assert Documents(TranscriptStore(vault)).get("c-1", kept.id, ACT) == (kept, LETTER * 100_000)


def test_a_backup_of_postgresql_brings_it_back(tmp_path: Path, server: Server) -> None:
    with vault_at(tmp_path / "home", server.new("backed_up")) as vault:
        kept = letter(TranscriptStore(vault), content=LETTER * 100_000)
        create_backup(vault.store, vault.ring, tmp_path / "a.backup", Opener())
    url = server.new("restored")
    restored = Store(url)
    with vault_at(tmp_path / "home") as keys:
        restore_postgres(tmp_path / "a.backup", keys.ring, Opener(), restored)
    restored.close()
    with vault_at(tmp_path / "home", url) as vault:
        assert Documents(TranscriptStore(vault)).get("c-1", kept.id, ACT) == (kept, LETTER * 100_000)


@pytest.mark.parametrize(
    ("title", "media_type", "content", "reason", "told"),
    [
        ("Scan", "audio/wav", b"RIFF", "media_type", "text/plain, text/markdown"),
        ("Scan", "application/pdf", b"<html>", "content", "another than application/pdf"),
        ("Scan", "image/png", PDF, "content", "another than image/png"),
        ("Note", "text/plain", b"caf\xe9", "content", "is not text in UTF-8"),
        ("Note", "application/json", b"a\0b", "content", "is not text"),
        ("Note", "text/plain", b"", "content", "is empty"),
        ("Note", "text/plain", b"x" * 1001, "too_large", "longer than 1,000 bytes"),
        ("  ", "text/plain", b"x", "title", "in one line"),
        ("a\nb", "text/plain", b"x", "title", "in one line"),
        ("\x1b[2J", "text/plain", b"x", "title", "in one line"),
        ("x" * 201, "text/plain", b"x", "title", "1 to 200 characters"),
    ],
)
def test_what_is_not_taken_is_told_in_one_line(
    tmp_path: Path, title: str, media_type: str, content: bytes, reason: str, told: str
) -> None:
    with vault_at(tmp_path / "home", document_bytes=1000) as vault:
        store = TranscriptStore(vault)
        with pytest.raises(DocumentError, match=told) as error:
            Documents(store).add("c-1", title, media_type, content, ACT)
        assert error.value.reason == reason and "\n" not in str(error.value)
        with pytest.raises(DataError, match="must be an id"):
            Documents(store).add("Ann Smith", "Note", "text/plain", b"x", ACT)
        assert Documents(store).add("c-1", "Note", "text/plain", b"x" * 1000, ACT).bytes == 1000
        store.close()


def _sealed(vault: Vault) -> dict[str, object]:
    from attunement.storage.transcripts.records import seal

    return seal(vault.cipher, said("r-1"))


def _drained_at_last(store: TranscriptStore, seconds: float = 25.0) -> None:
    """Once what was stopped answers again."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    while True:
        try:
            drained(store)
            return
        except StoreDownError:
            assert datetime.now(UTC) < until, "it did not come back"
