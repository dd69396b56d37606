"""The clinical review queue: what a build holds back until a clinician has decided.

The texts stay in the dataset's folder (`review/held.jsonl`, `review/edits/`, closed to others); the store knows hashes, codes
and who decided what, when and why. Nothing is overwritten: the present status is the last decision. Decisions hold for a text,
whatever dataset it comes in: the next build asks for them by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.age_files import read_bytes, read_jsonl
from attunement.storage.files import atomic_write, canonical, content_hash
from attunement.storage.sql import Store, metadata

PENDING, ACCEPTED, EDITED, REJECTED = "pending", "accepted", "edited", "rejected"
STATUSES = (PENDING, ACCEPTED, EDITED, REJECTED)
HELD, EDITS = Path("review") / "held.jsonl", Path("review") / "edits"
ID_LENGTH = 12

_entries = sa.Table(
    "review_entries",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("pair_id", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("reasons", sa.JSON, nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("created", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False, index=True),
)
_places = sa.Table(
    "review_places",
    metadata,
    sa.Column("hash", sa.String(64), sa.ForeignKey("review_entries.hash"), primary_key=True),
    sa.Column("dataset", sa.String, primary_key=True),
)
"""The datasets that hold a text: one decision serves all of them, and each has its own copy of an edit."""
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
    conversation_id: str = ""


@dataclass(frozen=True)
class Decision:
    """What somebody decided; `answer` is the new one where it was edited, None when its text is gone or was changed since."""

    decision: str
    who: str
    why: str
    when: str
    answer: str | None = None


@dataclass(frozen=True)
class Entry:
    """A place in the queue; `datasets` are the folders that hold its text, `decisions` are oldest first."""

    id: str
    hash: str
    datasets: Sequence[str]
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
        self._whole = atomic_write(self._path, private=True)
        self._file = self._whole.__enter__()
        return self

    def add(self, held: Held) -> None:
        self._file.write(canonical(asdict(held)) + "\n")
        self.count += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._whole.__exit__(kind, error, trace)
        if kind is None and not self.count:
            self._path.unlink()


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

    def __init__(self, store: Store, record: Callable[[sa.Connection, str], None] | None = None) -> None:
        """`record` is called with each decision's id within its transaction."""
        self._store, self._record = store, record

    def add(self, dataset: Path, held: Iterable[Held]) -> int:
        """Queues what a dataset holds back; returns how many are new. What was queued before keeps its decisions.

        Entries that no dataset holds any longer and nobody has decided on leave the queue. An edit comes into the dataset too;
        where its text is gone everywhere, the entry waits again.
        """
        rows, place = {h.hash: h for h in held}, str(dataset.resolve())
        with self._store.begin() as connection:
            known = {row.hash: row.status for row in connection.execute(sa.select(_entries.c.hash, _entries.c.status))}
            for key, h in rows.items():
                values = {"pair_id": h.pair_id, "source": h.source, "reasons": list(h.reasons), "scores": dict(h.scores)}
                if key not in known:
                    connection.execute(_entries.insert().values(hash=key, created=_now(), status=PENDING, **values))
                else:
                    if known[key] == EDITED and not _bring_edit(connection, key, place):
                        values["status"] = PENDING
                    connection.execute(_entries.update().where(_entries.c.hash == key).values(**values))
            connection.execute(_places.delete().where(_places.c.dataset == place))
            if rows:
                connection.execute(_places.insert(), [{"hash": key, "dataset": place} for key in rows])
            nowhere = _entries.c.hash.not_in(sa.select(_places.c.hash)) & _entries.c.hash.not_in(sa.select(_decisions.c.hash))
            connection.execute(_entries.delete().where(nowhere))
        return len(rows.keys() - known.keys())

    def list(self, status: str | None = None, reason: str | None = None) -> list[Entry]:
        """The entries, oldest first."""
        query = sa.select(_entries).order_by(_entries.c.created, _entries.c.hash)
        if status is not None:
            query = query.where(_entries.c.status == status)
        with self._store.begin() as connection:
            rows, places = connection.execute(query).mappings().all(), _places_of(connection)
        return [_entry(row, places.get(row["hash"], ())) for row in rows if reason is None or reason in row["reasons"]]

    def find(self, identifier: str) -> Entry:
        """The entry whose id, or hash, begins so. Raises `DataError` when there is none or more than one."""
        with self._store.begin() as connection:
            rows = connection.execute(sa.select(_entries).where(_entries.c.hash.startswith(identifier, autoescape=True)).limit(2))
            found = rows.mappings().all()
            if len(found) != 1 or not identifier:
                what = "more than one entry begins" if found else "there is no entry that begins"
                raise DataError(f"{what} with '{identifier}': list them with  attune review list")
            key = found[0]["hash"]
            places = _places_of(connection, key).get(key, ())
            return _entry(found[0], places, _history(connection, key, places))

    def decide(
        self, identifier: str, decision: str, *, who: str, why: str, answer: str | None = None, again: bool = False
    ) -> Entry:
        """Accepts, edits (with the new `answer`) or rejects. Raises `DataError` without a reason, or when it is decided already.

        `again` decides anew over an earlier decision, which stays in the history.
        """
        if not why.strip() or not who.strip():
            raise DataError("a decision needs who decides and why: give --why and --by")
        if not who.isprintable():
            raise DataError("the name of who decides holds characters that cannot be shown: give another with --by")
        if (decision == EDITED) != bool(answer and answer.strip()):
            raise DataError("an edit needs the new answer, and only an edit has one: give --file")
        key = self.find(identifier).hash
        sha = "" if answer is None else content_hash(answer)
        with self._store.begin() as connection:
            _refuse_decided(connection, key, again)
            if answer is not None:
                _write_edits(_places_of(connection, key).get(key, ()), key, sha, answer)
            connection.execute(
                _decisions.insert().values(hash=key, decision=decision, who=who, why=why, when=_now(), replacement_sha256=sha)
            )
            connection.execute(_entries.update().where(_entries.c.hash == key).values(status=decision))
            if self._record is not None:
                self._record(connection, key[:ID_LENGTH])
        return self.find(key)

    def decide_conversation(
        self, conversation_id: str, decision: str, *, who: str, why: str, again: bool = False
    ) -> Sequence[Entry]:
        """Accepts or rejects every pair of a conversation (`c-...`) that a dataset holds, each with a decision of its own.

        Pairs that are decided already stay as they are, unless `again`. Raises `DataError` when no dataset holds such a
        conversation, more than one begins so, or nothing of it is open.
        """
        held: dict[str, set[str]] = {}
        for dataset in self._datasets():
            for pair in read_held(Path(dataset)):
                if pair.conversation_id.startswith(conversation_id):
                    held.setdefault(pair.conversation_id, set()).add(pair.hash)
        if len(held) != 1:
            what = "more than one conversation begins" if held else "no dataset holds pairs of a conversation that begins"
            raise DataError(f"{what} with '{conversation_id}': attune review show ID  names that of an entry")
        ((name, hashes),) = held.items()
        open_ones = [e for e in self.list() if e.hash in hashes and (again or e.status == PENDING)]
        if not open_ones:
            raise DataError(f"all {len(hashes)} pairs of {name} were decided on before: decide anew with --again")
        return [self.decide(entry.hash, decision, who=who, why=why, again=again) for entry in open_ones]

    def _datasets(self) -> Sequence[str]:
        with self._store.begin() as connection:
            return list(connection.execute(sa.select(_places.c.dataset).distinct().order_by(_places.c.dataset)).scalars())

    def open_to_decide(self, identifier: str, again: bool = False) -> Entry:
        """The entry, as `find`. Raises `DataError` when `decide` would, for it is decided already."""
        entry = self.find(identifier)
        with self._store.begin() as connection:
            _refuse_decided(connection, entry.hash, again)
        return entry

    def decisions(self) -> dict[str, Decision]:
        """The last decision on every text that was decided on, by the text's hash; an edit whose text is gone is none.

        Raises `DataError` when the text of an edit was changed since.
        """
        last, found = sa.select(sa.func.max(_decisions.c.number)).group_by(_decisions.c.hash), dict[str, Decision]()
        decided = sa.select(_decisions).join(_entries).where(_entries.c.status != PENDING, _decisions.c.number.in_(last))
        with self._store.begin() as connection:
            rows, places = connection.execute(decided).mappings().all(), _places_of(connection)
        for row in rows:
            key, sha, datasets = row["hash"], row["replacement_sha256"], places.get(row["hash"], ())
            decision = _decision(row, datasets)
            if decision.decision != EDITED or decision.answer is not None:
                found[key] = decision
            elif changed := [path for d in datasets if (path := _edit_path(d, key, sha)).exists()]:
                raise DataError(
                    f"{changed[0]} was changed after it was decided on: decide anew with"
                    f"  attune review edit {key[:ID_LENGTH]} --again"
                )
        return found

    def text(self, entry: Entry) -> Held | None:
        """The text of an entry, as long as a dataset that holds it is there."""
        return next((h for dataset in entry.datasets for h in read_held(Path(dataset)) if h.hash == entry.hash), None)


def _entry(row: sa.RowMapping, datasets: Sequence[str], decisions: Sequence[Decision] = ()) -> Entry:
    values = {str(name): value for name, value in row.items()}
    return Entry(id=row["hash"][:ID_LENGTH], datasets=datasets, **values, decisions=decisions)


def _places_of(connection: sa.Connection, key: str | None = None) -> dict[str, list[str]]:
    """The datasets of one text, or of all, by the text's hash."""
    query, found = sa.select(_places.c.hash, _places.c.dataset).order_by(_places.c.dataset), dict[str, list[str]]()
    for row in connection.execute(query if key is None else query.where(_places.c.hash == key)):
        found.setdefault(row.hash, []).append(row.dataset)
    return found


def _history(connection: sa.Connection, key: str, datasets: Sequence[str]) -> list[Decision]:
    rows = connection.execute(sa.select(_decisions).where(_decisions.c.hash == key).order_by(_decisions.c.number)).mappings()
    return [_decision(row, datasets) for row in rows.all()]


def _decision(row: sa.RowMapping, datasets: Sequence[str]) -> Decision:
    answer = _edit(datasets, row["hash"], row["replacement_sha256"])
    return Decision(row["decision"], row["who"], row["why"], row["when"], answer)


def _refuse_decided(connection: sa.Connection, key: str, again: bool) -> None:
    """Raises `DataError` that says who decided. A text that left the queue meanwhile was never decided on."""
    present = connection.execute(sa.select(_entries.c.status).where(_entries.c.hash == key)).scalar()
    if present is None:
        raise DataError(f"{key[:ID_LENGTH]} just left the queue: no dataset holds its text any longer")
    if present != PENDING and not again:
        last = _history(connection, key, ())[-1]
        raise DataError(f"{key[:ID_LENGTH]} was {last.decision} by {last.who} on {last.when[:10]}: decide anew with --again")


# --- the texts of edits -------------------------------------------------------------------------------


def _edit_path(dataset: str, key: str, sha: str) -> Path:
    return Path(dataset) / EDITS / f"{key[:ID_LENGTH]}-{sha[:ID_LENGTH]}.json"


def _edit(datasets: Sequence[str], key: str, sha: str) -> str | None:
    """The new answer with the hash `sha` from the first dataset that has it unchanged."""
    for path in (_edit_path(dataset, key, sha) for dataset in datasets if sha):
        try:
            answer = str(json.loads(read_bytes(path))["answer"])
        except (DataError, FileNotFoundError, ValueError, KeyError, TypeError):  # is not there, or was broken by hand
            continue
        if content_hash(answer) == sha:
            return answer
    return None


def _write_edits(datasets: Sequence[str], key: str, sha: str, answer: str) -> None:
    """A copy for each dataset that is still there. Raises `DataError` when none is."""
    there = [dataset for dataset in datasets if Path(dataset).is_dir()]
    if not there:
        raise DataError(f"no dataset holds the text of {key[:ID_LENGTH]} any longer: build it again, then edit")
    for dataset in there:
        with atomic_write(_edit_path(dataset, key, sha), private=True) as file:
            file.write(canonical({"answer": answer}) + "\n")


def _bring_edit(connection: sa.Connection, key: str, dataset: str) -> bool:
    """Copies the present edit of a text into `dataset`; whether there is one, here or there."""
    query = sa.select(_decisions.c.replacement_sha256).where(_decisions.c.hash == key).order_by(_decisions.c.number.desc())
    sha = connection.execute(query.limit(1)).scalar_one()
    places = [*_places_of(connection, key).get(key, ()), dataset]  # a folder that was moved has its copies already
    answer = _edit(places, key, sha)
    if answer is not None and _edit([dataset], key, sha) is None:
        _write_edits([dataset], key, sha, answer)
    return answer is not None or any(_edit_path(place, key, sha).exists() for place in places)  # a changed one is told, not lost


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
