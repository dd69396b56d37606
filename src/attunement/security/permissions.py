"""Who may do what: one table, read by every route and command. What it does not grant is refused.

`GRANTS` is the table: role, action, reach. A reach of OWN holds for the clients in `Principal.clients` alone (a clinician's,
by assignment; a client's own record). Actions are codes; the audit log records them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What an account is for. A person may hold several, except those in `ALONE`."""

    ADMINISTRATOR = "administrator"
    ML_ENGINEER = "ml_engineer"
    CLINICIAN = "clinician"
    REVIEWER = "reviewer"
    COMPLIANCE_OFFICER = "compliance_officer"
    CLIENT = "client"
    SERVICE = "service"
    OPERATOR = "operator"
    VISITOR = "visitor"
    ANONYMOUS = "anonymous"


PERSONS = (
    Role.ADMINISTRATOR, Role.ML_ENGINEER, Role.CLINICIAN, Role.REVIEWER, Role.COMPLIANCE_OFFICER, Role.CLIENT,
)  # fmt: skip
"""Roles that an account can be given. SERVICE holds an API key; OPERATOR is the operating system's user at the command line;
VISITOR is whoever reaches a service that asks nobody to sign in; ANONYMOUS has not signed in where it must be done."""
ALONE = frozenset({Role.COMPLIANCE_OFFICER, Role.CLIENT})
"""Who reads the audit log must not do what it records, and a client is nobody else."""
MUST_CONFIRM = frozenset({Role.ADMINISTRATOR})
"""Roles that need a second factor; `access.second_factor` can ask it of everybody."""


class Reach(StrEnum):
    """Whose data a grant holds for."""

    OWN = "own"
    ALL = "all"


ACTIONS: Mapping[str, str] = {
    # the door itself
    "health:read": "ask whether the service is up",
    "docs:read": "read the description of the interface",
    "console:read": "open the console's pages, which hold nobody's data by themselves",
    "session:create": "sign in",
    "session:complete": "finish signing in: second factor, first password, sign out, see who one is",
    "session:manage": "see and end one's own sessions, change one's own password and second factor",
    "session:renew_recovery": "get new recovery codes for one's own second factor",
    # the model at work
    "inference:create": "ask the model for a reply",
    "model:read": "list what is served",
    "feedback:create": "rate or correct a reply",
    "feedback:read": "read ratings and corrections",
    "review:read": "read the clinical review queue",
    "review:decide": "decide in the clinical review queue",
    "alert:read": "read alerts",
    "alert:acknowledge": "take an alert on",
    "metrics:read": "read the service's figures",
    "deployment:change": "load, swap or withdraw a served model",
    # clients
    "client:list": "list clients",
    "client:read": "read a client's sessions, measures, progress, goals, reports",
    "client:write": "log sessions and measures, set goals, correct",
    "client:sign": "sign the notes of a session",
    "client:create": "open a client's record",
    "client:export": "export a client's whole record",
    "client:delete": "delete a client's record for good",
    "client:assign": "say which clinician has which client",
    "context:read": "bring a client's history into a prompt",
    # building models
    "data:read": "read datasets and their reports",
    "data:build": "curate, generate, import, withdraw",
    "training:read": "read runs and their figures",
    "training:run": "train, evaluate, tune",
    "model:export": "export a trained model",
    # running the house
    "accounts:read": "list accounts and their roles",
    "accounts:manage": "create, disable, unlock accounts; give roles",
    "service_keys:manage": "create, rotate, revoke API keys",
    "keys:rotate": "rotate encryption keys",
    "audit:read": "read and export the audit log",
    "audit:verify": "verify the audit log's chain",
    "compliance:assess": "run and read compliance assessments",
    "incident:manage": "open, follow and close incidents",
    "agreements:manage": "record Business Associate Agreements",
    "retention:run": "delete what is past its retention",
    "retention:hold": "set and lift a legal hold",
    "backup:create": "make and verify backups",
    "backup:restore": "restore a backup",
    "store:drain": "move transcripts on to where they belong",
    "store:upgrade": "bring the database to this version",
    "settings:read": "read the settings in force",
}
"""Every action and what it is."""

ABOUT_A_CLIENT = frozenset({"client:read", "client:write", "client:sign", "client:export", "client:delete", "context:read"})
"""Actions that say which client; with a reach of OWN they are refused without one. Others may name one."""
BEFORE_CONFIRMED = frozenset({"health:read", "docs:read", "console:read", "session:create", "session:complete"})
"""All that a session may do until the second factor is shown and a first password is chosen."""

_ALL, _OWN = Reach.ALL, Reach.OWN
_SIGNED_IN = dict.fromkeys(
    (
        "health:read",
        "docs:read",
        "console:read",
        "session:create",
        "session:complete",
        "session:manage",
        "session:renew_recovery",
    ),
    _ALL,
)

GRANTS: Mapping[Role, Mapping[str, Reach]] = {
    Role.ADMINISTRATOR: {  # keeps the house running and sees nobody's record: minimum necessary (45 CFR 164.502(b))
        **_SIGNED_IN,
        **dict.fromkeys(
            ("accounts:read", "accounts:manage", "service_keys:manage", "keys:rotate", "client:create", "client:assign",
             "audit:verify", "compliance:assess", "incident:manage", "agreements:manage", "retention:run", "retention:hold", "backup:create",
             "backup:restore", "store:upgrade", "store:drain", "settings:read", "metrics:read", "model:read", "deployment:change", "alert:read",
             "alert:acknowledge"), _ALL),
    },
    Role.ML_ENGINEER: {
        **_SIGNED_IN,
        **dict.fromkeys(
            ("inference:create", "feedback:create", "model:read", "metrics:read", "deployment:change", "data:read", "data:build",
             "training:read", "training:run", "model:export", "settings:read", "alert:read"), _ALL),
    },
    Role.CLINICIAN: {
        **_SIGNED_IN,
        **dict.fromkeys(("inference:create", "feedback:create", "client:list", "client:read", "client:write", "client:sign", "client:export",
                         "context:read", "alert:read", "alert:acknowledge"), _OWN),
        **dict.fromkeys(("model:read", "client:create"), _ALL),
    },
    Role.REVIEWER: {
        **_SIGNED_IN,
        **dict.fromkeys(("review:read", "review:decide", "feedback:read", "feedback:create", "model:read"), _ALL),
    },
    Role.COMPLIANCE_OFFICER: {**_SIGNED_IN, **dict.fromkeys(("audit:read", "audit:verify"), _ALL)},
    Role.CLIENT: {
        **_SIGNED_IN,
        **dict.fromkeys(("inference:create", "feedback:create", "client:read", "client:export", "context:read"), _OWN),
    },
    Role.SERVICE: dict.fromkeys(  # the most that a key's scopes can be chosen from
        ("health:read", "docs:read", "inference:create", "feedback:create", "feedback:read", "model:read", "metrics:read",
         "review:read", "alert:read", "client:list", "client:read", "client:write", "client:create", "context:read",
         "training:read", "data:read", "audit:verify", "backup:create"), _ALL),
    Role.OPERATOR: dict.fromkeys(  # has the files anyway; what they do is on record
        (action for action in ACTIONS if not action.startswith("session:")), _ALL),
    Role.VISITOR: dict.fromkeys(("health:read", "docs:read", "console:read", "inference:create", "feedback:create", "model:read"), _ALL),
    Role.ANONYMOUS: dict.fromkeys(("health:read", "docs:read", "console:read", "session:create"), _ALL),
}  # fmt: skip
"""The table."""


@dataclass(frozen=True)
class Principal:
    """Who acts. `clients` are those whose data a reach of OWN covers; `scopes` narrow an API key; `pending` says what
    a session still waits for: "password", "second_factor" or "" for nothing."""

    id: str
    name: str
    roles: frozenset[Role]
    clients: frozenset[str] = field(default_factory=frozenset)
    scopes: frozenset[str] | None = None
    pending: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether, and why: granted, unknown_action, not_granted, not_in_scope, second_factor, password, no_client,
    not_own_client. With a reach of OWN whoever lists things shows those of `Principal.clients` alone."""

    allowed: bool
    reason: str
    reach: Reach | None = None

    def __bool__(self) -> bool:
        return self.allowed


ANONYMOUS = Principal("anonymous", "anonymous", frozenset({Role.ANONYMOUS}))
VISITOR = Principal("visitor", "visitor", frozenset({Role.VISITOR}))


def allowed(principal: Principal, action: str, client: str | None = None) -> Decision:
    """Whether `principal` may do `action`, to the data of `client` where it is about one. Every door asks here."""
    if action not in ACTIONS:
        return Decision(False, "unknown_action")
    if principal.pending and action not in BEFORE_CONFIRMED:
        return Decision(False, principal.pending)
    reaches = {GRANTS[role][action] for role in principal.roles if action in GRANTS[role]}
    if not reaches:
        return Decision(False, "not_granted")
    if Role.SERVICE in principal.roles and action not in (principal.scopes or ()) and action not in BEFORE_CONFIRMED:
        return Decision(False, "not_in_scope")
    if Reach.ALL in reaches:
        return Decision(True, "granted", Reach.ALL)
    if client is None:
        return Decision(False, "no_client") if action in ABOUT_A_CLIENT else Decision(True, "granted", Reach.OWN)
    own = client in principal.clients
    return Decision(own, "granted" if own else "not_own_client", Reach.OWN)


def table() -> str:
    """The table as Markdown, for docs/access.md."""
    roles = list(GRANTS)
    lines = [f"| action | {' | '.join(roles)} |", f"|---{'|---' * len(roles)}|"]
    for action in ACTIONS:
        lines.append(f"| `{action}` | {' | '.join(GRANTS[role].get(action, '') for role in roles)} |")
    return "\n".join(lines)


def actions_of(principal: Principal) -> frozenset[str]:
    """What an account may do now, to its own clients at least: for who shows people what there is to do. `allowed` decides."""
    granted = {action for role in principal.roles for action in GRANTS[role]}
    return frozenset(granted & BEFORE_CONFIRMED if principal.pending else granted)
