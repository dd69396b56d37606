"""The clinical review queue: what a build holds back until a clinician has decided.

The texts stay in the dataset's folder (`review/held.jsonl`, `review/edits/`, closed to others); the store knows hashes, codes and who
decided what, when and why. Nothing is overwritten: the present status is the last decision. Decisions hold for a text, whatever
dataset it comes in: the next build asks for them by its hash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.storage.files import canonical, content_hash, read_json, read_jsonl
from attunement.storage.sql import Store, metadata

PENDING, ACCEPTED, EDITED, REJECTED = "pending", "accepted", "edited", "rejected"
STATUSES = (PENDING, ACCEPTED, EDITED, REJECTED)
HELD, EDITS = Path("review") / "held.jsonl", Path("review") / "edits"
ID_LENGTH = 12

_entries = sa.Table(
    "review_entries",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("dataset", sa.String, nullable=False),
    sa.Column("pair_id", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("reasons", sa.JSON, nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("created", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False, index=True),
)
_decisions = sa.Table(
    "review_decisions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hash", sa.String(64), sa.ForeignKey("review_entries.hash"), nullable=False, index=True),
    sa.Column("decision", sa.String, nullable=False),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("why", sa.String, nullable=False),
    sa.Column("when", sa.String, nullable=False),
    sa.Column("replacement_sha256", sa.String(64), nullable=False),
)


@dataclass(frozen=True)
class Held:
    """A pair that is held back, with its text."""

    hash: str
    pair_id: str
    source: str
    context: Sequence[str]
    question: str
    answer: str
    reasons: Sequence[str]
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """What somebody decided; `answer` is the new one where it was edited."""

    decision: str
    who: str
    why: str
    when: str
    answer: str | None = None


@dataclass(frozen=True)
class Entry:
    """A place in the queue; `decisions` are oldest first."""

    id: str
    hash: str
    dataset: str
    pair_id: str
    source: str
    reasons: Sequence[str]
    scores: Mapping[str, Any]
    created: str
    status: str
    decisions: Sequence[Decision] = field(default_factory=tuple)


def content_key(context: Sequence[str], question: str, answer: str) -> str:
    """The hash under which a pair is decided on: of its words alone."""
    return content_hash([list(context), question, answer])


class HeldWriter:
    """Writes `review/held.jsonl` of a dataset; the old file stays until the block ends without an error."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / HELD
        self.count = 0

    def __enter__(self) -> HeldWriter:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        self._file = open(os.open(self._temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8")
        return self

    def add(self, held: Held) -> None:
        self._file.write(canonical(asdict(held)) + "\n")
        self.count += 1

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None and self.count:
            self._temporary.replace(self._path)
            return
        self._temporary.unlink()
        if kind is None:
            self._path.unlink(missing_ok=True)


def read_held(folder: Path) -> Iterator[Held]:
    """What a dataset holds back."""
    if (folder / HELD).is_file():
        yield from (Held(**row) for row in read_jsonl(folder / HELD))


def sweep_edits(folder: Path) -> None:
    """Removes the edits of pairs that a dataset no longer holds: what was withdrawn leaves no text behind."""
    kept = {held.hash[:ID_LENGTH] for held in read_held(folder)}
    for path in (folder / EDITS).glob("*.json"):
        if path.name.partition("-")[0] not in kept:
            path.unlink()


class ReviewQueue:
    """The queue in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, dataset: Path, held: Iterator[Held]) -> int:
        """Queues what a dataset holds back; returns how many are new. What was queued before keeps its decisions.

        Entries of this dataset that it no longer holds and nobody has decided on leave the queue.
        """
        rows = {h.hash: h for h in held}
        place = str(dataset.resolve())
        with self._store.begin() as connection:
            own = _entries.c.dataset == place
            waiting = connection.execute(sa.select(_entries.c.hash).where(own, _entries.c.status == PENDING)).scalars().all()
            known = set(connection.execute(sa.select(_entries.c.hash)).scalars())
            for gone in set(waiting) - set(rows):
                connection.execute(_entries.delete().where(_entries.c.hash == gone))
            for key, h in rows.items():
                values = {
                    "dataset": place,
                    "pair_id": h.pair_id,
                    "source": h.source,
                    "reasons": list(h.reasons),
                    "scores": dict(h.scores),
                }
                if key in known:
                    connection.execute(_entries.update().where(_entries.c.hash == key).values(**values))
                else:
                    connection.execute(_entries.insert().values(hash=key, created=_now(), status=PENDING, **values))
        return len(set(rows) - known)

    def list(self, status: str | None = None, reason: str | None = None) -> list[Entry]:
        """The entries, oldest first."""
        query = sa.select(_entries).order_by(_entries.c.created, _entries.c.hash)
        if status is not None:
            query = query.where(_entries.c.status == status)
        with self._store.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [_entry(row) for row in rows if reason is None or reason in row["reasons"]]

    def find(self, identifier: str) -> Entry:
        """The entry whose id, or hash, begins so. Raises `DataError` when there is none or more than one."""
        with self._store.begin() as connection:
            rows = connection.execute(sa.select(_entries).where(_entries.c.hash.startswith(identifier, autoescape=True)).limit(2))
            found = rows.mappings().all()
            if len(found) != 1 or not identifier:
                what = "more than one entry begins" if found else "there is no entry that begins"
                raise DataError(f"{what} with '{identifier}': list them with  attune review list")
            return _entry(found[0], _history(connection, found[0]["hash"], Path(found[0]["dataset"])))

    def decide(
        self, identifier: str, decision: str, *, who: str, why: str, answer: str | None = None, again: bool = False
    ) -> Entry:
        """Accepts, edits (with the new `answer`) or rejects. Raises `DataError` without a reason, or when it is decided already.

        `again` decides anew over an earlier decision, which stays in the history.
        """
        if not why.strip() or not who.strip():
            raise DataError("a decision needs who decides and why: give --why and --by")
        if (decision == EDITED) != bool(answer and answer.strip()):
            raise DataError("an edit needs the new answer, and only an edit has one: give --file")
        entry = self.find(identifier)
        sha = ""
        if answer is not None:
            sha = content_hash(answer)
            _write_edit(Path(entry.dataset), entry.hash, sha, answer)
        with self._store.begin() as connection:
            present = connection.execute(sa.select(_entries.c.status).where(_entries.c.hash == entry.hash)).scalar_one()
            if present != PENDING and not again:
                last = _history(connection, entry.hash, Path(entry.dataset))[-1]
                raise DataError(f"{entry.id} was {last.decision} by {last.who} on {last.when[:10]}: decide anew with --again")
            connection.execute(
                _decisions.insert().values(
                    hash=entry.hash, decision=decision, who=who, why=why, when=_now(), replacement_sha256=sha
                )
            )
            connection.execute(_entries.update().where(_entries.c.hash == entry.hash).values(status=decision))
        return self.find(entry.hash)

    def decisions(self) -> dict[str, Decision]:
        """The last decision on every text that was decided on, by the text's hash; an edit whose text is gone is none."""
        with self._store.begin() as connection:
            rows = connection.execute(sa.select(_entries).where(_entries.c.status != PENDING)).mappings().all()
            last = {row["hash"]: _history(connection, row["hash"], Path(row["dataset"]))[-1] for row in rows}
        return {key: d for key, d in last.items() if d.decision != EDITED or d.answer is not None}

    def text(self, entry: Entry) -> Held | None:
        """The text of an entry, as long as its dataset is there."""
        return next((h for h in read_held(Path(entry.dataset)) if h.hash == entry.hash), None)


def _entry(row: sa.RowMapping, decisions: Sequence[Decision] = ()) -> Entry:
    return Entry(id=row["hash"][:ID_LENGTH], **{str(name): value for name, value in row.items()}, decisions=decisions)


def _history(connection: sa.Connection, key: str, dataset: Path) -> list[Decision]:
    rows = connection.execute(sa.select(_decisions).where(_decisions.c.hash == key).order_by(_decisions.c.number)).mappings()
    return [
        Decision(r["decision"], r["who"], r["why"], r["when"], _edit(dataset, key, r["replacement_sha256"])) for r in rows.all()
    ]


def _write_edit(dataset: Path, key: str, sha: str, answer: str) -> None:
    folder = dataset / EDITS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{key[:ID_LENGTH]}-{sha[:ID_LENGTH]}.json"
    with open(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(canonical({"answer": answer}) + "\n")


def _edit(dataset: Path, key: str, sha: str) -> str | None:
    path = dataset / EDITS / f"{key[:ID_LENGTH]}-{sha[:ID_LENGTH]}.json"
    if not sha or not path.exists():
        return None
    answer = str(read_json(path)["answer"])
    if content_hash(answer) != sha:
        raise DataError(
            f"{path} was changed after it was decided on: decide anew with  attune review edit {key[:ID_LENGTH]} --again"
        )
    return answer


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
