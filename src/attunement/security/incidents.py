"""Incidents: what happened, the steps of the procedure, the clocks of the Breach Notification Rule (45 CFR 164.400-414).

An incident is the list of its steps. Steps are only ever added: the database refuses changes, each is in the audit log, and the
words in it are encrypted under the system's key (a client's may be shredded; the incident is kept six years, 164.530(j)).
A use or disclosure that is not permitted is presumed to be a breach until an assessment of four factors shows a low
probability of compromise (164.402(2)), so the clocks run from the day of discovery, whatever is known by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from attunement.errors import DataError, UserError
from attunement.security.accounts import new_id
from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.clock import Clock, stamp, utc_now
from attunement.security.codes import valid_id
from attunement.security.keys import SYSTEM
from attunement.security.vault import Vault
from attunement.storage.sql import metadata

log = logging.getLogger("attunement.incidents")

KINDS: Mapping[str, str] = {
    "disclosure": "information went to somebody, or somewhere, that it must not go to",
    "blocked": "the software stopped information from going where it must not go",
    "access": "somebody saw or changed what they may not",
    "loss": "a device, a file, a key or a copy is lost or stolen",
    "integrity": "a record, a log or a backup was changed or cannot be opened",
    "availability": "data or the service cannot be reached",
    "malware": "a program that we do not want ran",
    "associate": "a business associate or provider reports an incident of theirs",
    "other": "anything else",
}
FACTORS: Mapping[str, str] = {
    "information": "nature and extent of the information, identifiers and likelihood of re-identification (164.402(2)(i))",
    "recipient": "who used it or to whom it was disclosed (164.402(2)(ii))",
    "acquired": "whether it was actually acquired or viewed (164.402(2)(iii))",
    "mitigated": "the extent to which the risk has been mitigated (164.402(2)(iv))",
}
DECISIONS: Mapping[str, str] = {
    "breach": "a breach of unsecured protected health information: notice is due",
    "low_probability": "low probability of compromise, by all four factors (164.402(2))",
    "excluded": "one of the three exclusions of 164.402(1)",
    "secured": "the information was unreadable to whoever has it (encrypted, its key elsewhere): not unsecured (164.402)",
    "stopped": "nothing was used or disclosed: it was stopped before (164.402 presumes a breach of a use or disclosure alone)",
    "no_phi": "no protected health information was concerned",
}
STEPS: Mapping[str, str] = {
    "note": "something to remember",
    "contain": "what was done to stop it",
    "preserve": "what was kept as evidence",
    "count": "how many persons it concerns (and how many of one state)",
    "factor": "one of the four factors of the risk assessment",
    "decide": "whether it is a breach",
    "delay": "a law enforcement official asked in writing to wait until a day (164.412)",
    "notify_individuals": "each individual was told (164.404)",
    "notify_secretary": "the Secretary of HHS was told (164.408)",
    "notify_media": "media of the state were told (164.406)",
    "notify_entity": "the covered entity was told (164.410)",
    "recover": "what was restored",
    "review": "what is to change so that it does not happen again",
}
"""What can be added by hand; `open`, `seen` (it happened again) and `close` have their own ways."""
NOTICE_DAYS = 60
MEDIA_ABOVE = 500
"""More than 500 residents of one state: media (164.406(a)); 500 or more in all: the Secretary at once (164.408(b))."""
SAME_HOURS = 24

_steps = sa.Table(
    "incident_steps",
    metadata,
    sa.Column("incident", sa.String(16), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(27), nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("step", sa.String(32), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
_GUARDS = {
    "sqlite": (
        "CREATE TRIGGER incident_no_update BEFORE UPDATE ON incident_steps BEGIN SELECT RAISE(ABORT, 'incident steps are append-only'); END",
        "CREATE TRIGGER incident_no_delete BEFORE DELETE ON incident_steps BEGIN SELECT RAISE(ABORT, 'incident steps are append-only'); END",
        "CREATE TRIGGER incident_no_replace BEFORE INSERT ON incident_steps WHEN EXISTS (SELECT 1 FROM incident_steps WHERE incident ="
        " NEW.incident AND number = NEW.number) BEGIN SELECT RAISE(ABORT, 'incident steps are append-only'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION incident_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'incident steps are append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        "CREATE TRIGGER incident_no_change BEFORE UPDATE OR DELETE ON incident_steps FOR EACH ROW EXECUTE FUNCTION incident_append_only()",
        "CREATE TRIGGER incident_no_truncate BEFORE TRUNCATE ON incident_steps FOR EACH STATEMENT EXECUTE FUNCTION incident_append_only()",
    ),
}
for _dialect, _statements in _GUARDS.items():
    for _statement in _statements:
        sa.event.listen(_steps, "after_create", sa.DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]


class ViolationError(UserError):
    """Something was stopped because it would break the rules for protected health information; `incident` is its record."""

    def __init__(self, kind: str, incident: str) -> None:
        super().__init__(f"stopped: {KINDS[kind]}; see  attune incidents show {incident}")
        self.incident = incident


@dataclass(frozen=True)
class Step:
    """One step. `data` holds what was told: `text`, and the fields of its kind."""

    number: int
    at: str
    actor: str
    step: str
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class NoticeClock:
    """Who is to be told by when. `state`: runs, done, stopped (no breach), not_applicable."""

    name: str
    paragraph: str
    due: date
    state: str

    def days_left(self, today: date) -> int:
        return (self.due - today).days


@dataclass(frozen=True)
class Incident:
    """An incident as its steps make it."""

    id: str
    kind: str
    discovered: date
    steps: Sequence[Step]
    client: str = ""
    as_associate: bool = False
    persons: int | None = None
    residents: int | None = None
    decision: str = ""
    delayed_until: date | None = None
    factors: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        return "close" not in self.done

    def clocks(self) -> list[NoticeClock]:
        """The notices that are due, or would be. What is not counted yet is taken for many."""
        by_discovery = self.discovered + timedelta(days=NOTICE_DAYS)
        if self.as_associate:
            return [self._clock("notify_entity", "164.410(b)", by_discovery, applies=True)]
        many = self.persons is None or self.persons >= MEDIA_ABOVE
        yearly = date(self.discovered.year, 12, 31) + timedelta(days=NOTICE_DAYS)
        residents = self.residents if self.residents is not None else self.persons
        return [
            self._clock("notify_individuals", "164.404(b)", by_discovery, applies=True),
            self._clock(
                "notify_secretary", "164.408(b)" if many else "164.408(c)", by_discovery if many else yearly, applies=True
            ),
            self._clock("notify_media", "164.406(b)", by_discovery, applies=residents is None or residents > MEDIA_ABOVE),
        ]

    def _clock(self, name: str, paragraph: str, due: date, *, applies: bool) -> NoticeClock:
        stopped = self.decision not in ("", "breach")
        state = "done" if name in self.done else "stopped" if stopped else "runs" if applies else "not_applicable"
        return NoticeClock(name, paragraph, max(due, self.delayed_until or due), state)

    def missing(self) -> list[str]:
        """The steps of the procedure that are still to be done before it can be closed."""
        wanted = ["contain", "decide", "review"]
        missing = [step for step in wanted if step not in self.done]
        if self.decision == "breach" and self.persons is None:
            missing.append("count")
        return missing + [clock.name for clock in self.clocks() if self.decision == "breach" and clock.state == "runs"]


class Incidents:
    """The incidents in a store."""

    def __init__(self, vault: Vault, clock: Clock = utc_now) -> None:
        self._vault, self._clock = vault, clock

    def open(
        self, kind: str, text: str, act: Act, *, discovered: date | None = None, persons: int | None = None,
        client: str = "", as_associate: bool = False, automatic: bool = False,
    ) -> Incident:  # fmt: skip
        """A new incident. `discovered` is the first day on which it was known to anybody here, or should have been (164.404(a)(2)).

        Raises `DataError` for a day in the future or an unknown kind.
        """
        if kind not in KINDS:
            raise DataError(f"there is no kind of incident '{kind}': it is one of {', '.join(KINDS)}")
        today = self._clock().date()
        discovered = discovered or today
        if discovered > today:
            raise DataError("an incident cannot be discovered in the future: give the day as 2026-11-27")
        if client:
            valid_id("client", client)
        data = {
            "kind": kind, "text": text, "discovered": discovered.isoformat(), "persons": _checked_count(persons), "client": client,
            "as_associate": as_associate, "automatic": automatic,
        }  # fmt: skip
        return self._add(new_id("i"), 1, "open", data, act, client)

    def step(self, incident: str, step: str, text: str, act: Act, **given: Any) -> Incident:
        """Adds a step (`STEPS`) with its fields. Raises `DataError` for a closed incident, or where a field is missing."""
        found = self.get(incident)
        if not found.is_open:
            raise DataError(f"the incident {incident} is closed: open another one that names it")
        if step not in STEPS:
            raise DataError(f"there is no step '{step}': it is one of {', '.join(STEPS)}")
        data = {"text": text, **_checked(step, given, text, found)}
        return self._add(incident, len(found.steps) + 1, step, data, act, found.client)

    def close(self, incident: str, text: str, act: Act) -> Incident:
        """Closes it. Raises `DataError`, naming them, while steps of the procedure are missing."""
        found = self.get(incident)
        if not found.is_open:
            raise DataError(f"the incident {incident} is closed already")
        if missing := found.missing():
            raise DataError(f"the incident {incident} cannot be closed yet; missing: {', '.join(missing)}")
        return self._add(incident, len(found.steps) + 1, "close", {"text": text}, act, found.client)

    def again(self, incident: Incident, text: str, act: Act) -> Incident:
        """It happened once more."""
        return self._add(incident.id, len(incident.steps) + 1, "seen", {"text": text}, act, incident.client)

    def get(self, incident: str) -> Incident:
        """The incident with an id. Raises `DataError`."""
        found = self._read(_steps.c.incident == incident)
        if not found:
            raise DataError(
                f"there is no incident '{valid_id('an incident', incident)}': list them with  attune incidents list --all"
            )
        return found[0]

    def was_read(self, incident: Incident, act: Act) -> None:
        """Puts on record that somebody read the words of an incident."""
        with self._vault.audit.begin() as connection:
            entry = Entry(act.actor, "incident:read", incident.client, request=act.request, target=incident.id)
            self._vault.audit.append(connection, entry)

    def all(self) -> list[Incident]:
        """Every incident, the newest first."""
        return sorted(self._read(sa.true()), key=lambda i: i.steps[0].at, reverse=True)

    def _add(self, incident: str, number: int, step: str, data: dict[str, Any], act: Act, client: str) -> Incident:
        cipher, row = self._vault.cipher, f"{incident}:{number}"
        closed = cipher.encrypt(data, table=_steps.name, column="data", row=row, subject=SYSTEM)  # its key may have to be made
        values = {"incident": incident, "number": number, "at": stamp(self._clock()), "actor": act.actor, "step": step}
        try:
            with self._vault.audit.begin() as connection:
                connection.execute(_steps.insert().values(**values, data=closed))
                entry = Entry(act.actor, f"incident:{step}", client, request=act.request, target=incident)
                self._vault.audit.append(connection, entry)
        except IntegrityError as error:
            raise DataError(f"somebody added to the incident {incident} at the same moment: look, and do it again") from error
        return self.get(incident)

    def _read(self, where: sa.ColumnElement[bool]) -> list[Incident]:
        with self._vault.store.snapshot() as connection:
            rows = connection.execute(sa.select(_steps).where(where).order_by(_steps.c.incident, _steps.c.number)).all()
        steps: dict[str, list[Step]] = {}
        for row in rows:
            place = {"table": _steps.name, "column": "data", "row": f"{row.incident}:{row.number}", "subject": SYSTEM}
            data = self._vault.cipher.decrypt(row.data, **place)
            steps.setdefault(row.incident, []).append(Step(row.number, row.at, row.actor, row.step, data))
        return [_folded(incident, mine) for incident, mine in steps.items()]


def raise_incident(
    vault: Vault,
    kind: str,
    text: str,
    *,
    actor: str,
    client: str = "",
    request: str = "-",
    alert: Callable[[Incident], None] | None = None,
    block: bool = True,
    clock: Clock = utc_now,
) -> Incident:
    """What the software does when a rule for protected health information would be broken: record, alert, block.

    The incident is on disk, with its audit record, before anybody is told. One of the same kind, client and actor that the
    software opened within 24 hours gets another step in place of a new incident. `text` must say what was stopped by codes and
    counts, not repeat it. Raises `ViolationError`, unless `block` is false: then the caller stops it, and the incident is returned.
    """
    book, act, now = Incidents(vault, clock), Act(actor, request), clock()
    for tries_left in (2, 1, 0):
        same = next((i for i in book.all() if _is_same(i, kind, client, actor, now)), None)
        try:
            incident = book.again(same, text, act) if same else book.open(kind, text, act, client=client, automatic=True)
            break
        except DataError:  # another process added to it at the same moment: look again
            if not tries_left:
                raise
    log.error("incident %s (%s), step %d: attune incidents show %s", incident.id, kind, len(incident.steps), incident.id)
    if alert is not None:
        alert(incident)
    if block:
        raise ViolationError(kind, incident.id)
    return incident


def _is_same(incident: Incident, kind: str, client: str, actor: str, now: datetime) -> bool:
    first, same = incident.steps[0], (incident.kind, incident.client, incident.steps[0].actor) == (kind, client, actor)
    recent = first.at >= stamp(now - timedelta(hours=SAME_HOURS))
    return incident.is_open and same and recent and bool(first.data.get("automatic"))


def _checked_count(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise DataError("a number of persons is a whole number of at least 0")
    return value


def _checked(step: str, given: Mapping[str, Any], text: str, found: Incident) -> dict[str, Any]:
    """The fields that a step of this kind keeps. Raises `DataError` where one is missing or impossible."""
    if step == "count":
        if given.get("persons") is None:
            raise DataError("say how many persons: --persons N")
        return {name: _checked_count(given.get(name)) for name in ("persons", "residents")}
    if step == "factor":
        if given.get("factor") not in FACTORS or not text.strip():
            raise DataError(f"say which factor (--factor {'|'.join(FACTORS)}) and what was found (--told)")
        return {"factor": given["factor"]}
    if step == "decide":
        return {"decision": _checked_decision(given.get("decision"), text, found)}
    if step == "delay":
        if not isinstance(given.get("until"), date):
            raise DataError("say until when the official asked to wait: --until 2026-12-24")
        return {"until": given["until"].isoformat()}
    return {}


def _checked_decision(decision: Any, text: str, found: Incident) -> str:
    """The burden of proof is on who gives no notice (164.414(b))."""
    if decision not in DECISIONS:
        raise DataError(f"say what was decided: --decision {'|'.join(DECISIONS)}")
    if not text.strip():
        raise DataError("say why (--told): who gives no notice must be able to prove that none was due (45 CFR 164.414(b))")
    missing = [factor for factor in FACTORS if factor not in found.factors]
    if decision == "low_probability" and missing:
        raise DataError(f"a low probability is shown by all four factors; missing: {', '.join(missing)}")
    return str(decision)


def _folded(incident: str, steps: Sequence[Step]) -> Incident:
    first = steps[0].data
    if [step.number for step in steps] != list(range(1, len(steps) + 1)) or steps[0].step != "open":
        raise DataError(f"steps of the incident {incident} are missing: hold the store against a backup")
    last: dict[str, Any] = {}
    for step in steps:
        last |= {k: v for k, v in step.data.items() if v is not None}
    until = last.get("until")
    return Incident(
        incident, first["kind"], date.fromisoformat(first["discovered"]), tuple(steps), first["client"], first["as_associate"],
        last.get("persons"), last.get("residents"), last.get("decision", ""), date.fromisoformat(until) if until else None,
        frozenset(s.data["factor"] for s in steps if s.step == "factor"), frozenset(s.step for s in steps),
    )  # fmt: skip
