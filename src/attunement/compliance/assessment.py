"""`attune compliance assess`: every check against the HIPAA Security Rule, and a dated report, on record.

The paragraphs are those of 45 CFR 164.308 to 164.316 as in force; `proposed` is what the notice of 6 January 2025 (90 FR 898)
would add, by its own numbering; `asvs` is the chapter of OWASP ASVS 5.0. A check can show that a safeguard is missing. That all
pass does not make an organisation compliant: most of the rule is about what people do (docs/responsibilities.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from attunement import __version__
from attunement.compliance import dependencies, doors, inventory, keeping, policies
from attunement.compliance.scene import Finding, Outcome, Scene, not_run, opened
from attunement.config import Settings
from attunement.errors import UserError
from attunement.security.audit import Entry
from attunement.security.clock import Clock, stamp, utc_now
from attunement.storage.files import atomic_write, read_json

FORMAT = "attunement-assessment-1"
FOLDER = "compliance"
DUE_DAYS = policies.ASSESSMENT_DAYS


@dataclass(frozen=True)
class Check:
    """A check and the rules that it speaks to."""

    id: str
    title: str
    hipaa: Sequence[str]
    run: Callable[[Scene], Finding]
    asvs: str = ""
    proposed: str = ""


CHECKS: Sequence[Check] = (
    Check("transport.tls", "TLS of the service", ["164.312(e)(1)", "164.312(e)(2)(i)", "164.312(e)(2)(ii)"], doors.tls, "V12", "164.312(b): encryption of all ePHI in transit"),
    Check("transport.address", "Address that the service listens on", ["164.312(e)(1)", "164.312(a)(1)"], doors.address, "V13", "164.312(c): configuration management"),
    Check("transport.database", "TLS to the databases", ["164.312(e)(2)(ii)"], doors.database, "V12", "164.312(b): encryption of all ePHI in transit"),
    Check("transport.outside", "Addresses of others", ["164.312(e)(2)(ii)"], doors.outside, "V12"),
    Check("access.authentication", "Who is asked who they are", ["164.312(d)", "164.312(a)(1)"], doors.authentication, "V6"),
    Check("access.second_factor", "Second factor", ["164.312(d)"], doors.second_factor, "V6", "164.312(f)(2)(ii): multi-factor authentication for all"),
    Check("access.unused", "Accounts that nobody uses", ["164.308(a)(3)(ii)(C)", "164.308(a)(4)(ii)(C)"], doors.unused, "V6", "164.308(a)(9): access ends within an hour"),
    Check("access.roles", "Roles, and accounts that look shared", ["164.308(a)(3)(i)", "164.308(a)(4)(ii)(B)", "164.312(a)(2)(i)"], doors.roles, "V8"),
    Check("access.api_keys", "Keys of programs", ["164.308(a)(4)(ii)(C)", "164.312(d)"], doors.api_keys, "V9"),
    Check("access.passwords", "How passwords are kept", ["164.308(a)(5)(ii)(D)"], doors.passwords, "V6"),
    Check("access.sessions", "Automatic logoff", ["164.312(a)(2)(iii)"], doors.sessions, "V7"),
    Check("keys.master", "Master key", ["164.312(a)(2)(iv)"], keeping.master_key, "V11", "164.312(b): encryption of all ePHI at rest"),
    Check("keys.offline_copy", "Offline copy of the master key", ["164.308(a)(7)(ii)(B)"], keeping.offline_copy, "V11"),
    Check("keys.data", "Data keys", ["164.312(a)(2)(iv)"], keeping.data_keys, "V11"),
    Check("keys.escrow", "Second copy of the data keys", ["164.308(a)(7)(ii)(A)"], keeping.escrow, "V11"),
    Check("audit.chain", "Audit log is whole", ["164.312(b)", "164.312(c)(1)", "164.312(c)(2)"], keeping.audit_chain, "V16", "164.312(d): audit trail and system log controls"),
    Check("audit.checkpoints", "Signed checkpoints", ["164.312(b)", "164.312(c)(2)"], keeping.audit_checkpoints, "V16"),
    Check("backup.made", "Last backup", ["164.308(a)(7)(ii)(A)", "164.310(d)(2)(iv)"], keeping.backups, "V14", "164.312(i): copies no more than 48 hours old"),
    Check("backup.restored", "Last restore that was tried", ["164.308(a)(7)(ii)(B)", "164.308(a)(7)(ii)(D)"], keeping.restores, "V14", "164.308(a)(13): restoration within 72 hours; 164.312(i): restores tried"),
    Check("files.home", "Files of the home", ["164.312(a)(1)", "164.310(d)(1)"], keeping.home_files, "V14"),
    Check("files.data_sets", "Data sets at rest", ["164.312(a)(2)(iv)"], keeping.data_at_rest, "V14", "164.312(b): encryption of all ePHI at rest"),
    Check("retention.lag", "What is past its retention", ["164.310(d)(2)(i)", "164.316(b)(2)(i)"], policies.retention, "V14"),
    Check("agreements.associates", "Business associate agreements", ["164.308(b)(1)", "164.308(b)(3)", "164.314(a)(1)"], policies.agreements, "", "164.308(b): a verification by each associate once a year"),
    Check("incidents.clocks", "Open incidents and their clocks", ["164.308(a)(6)(i)", "164.308(a)(6)(ii)"], policies.incidents, "V16", "164.308(a)(12): tested incident procedures"),
    Check("logs.sanitised", "Logs without personal data", ["164.308(a)(1)(ii)(B)", "164.312(b)"], doors.logs, "V16"),
    Check("settings.secrets", "Secrets in settings, user of the process", ["164.308(a)(1)(ii)(B)"], doors.environment, "V13", "164.312(c): configuration management"),
    Check("software.vulnerabilities", "Known vulnerabilities of what is installed", ["164.308(a)(1)(ii)(A)", "164.308(a)(5)(ii)(B)"], dependencies.vulnerabilities, "V15", "164.312(h)(2)(i): a scan each six months; 164.308(a)(4): patches"),
    Check("software.python", "Python's support", ["164.308(a)(5)(ii)(B)"], dependencies.python, "V15", "164.308(a)(4): patches"),
    Check("inventory.assets", "Inventory of assets", ["164.308(a)(1)(ii)(A)", "164.310(d)(2)(iii)", "164.308(a)(7)(ii)(E)"], inventory.assets, "V15", "164.308(a)(1): inventory of technology assets and network map"),
    Check("assessment.last", "Last assessment", ["164.308(a)(8)", "164.308(a)(1)(ii)(D)", "164.316(b)(2)(iii)"], policies.last_assessment, "", "164.308(a)(3): evaluation; 164.308(a)(14): an audit once a year"),
)  # fmt: skip
"""The checks, in the order of the report."""


def assess(settings: Settings, *, folders: Sequence[Path] = (), online: bool = False, clock: Clock = utc_now) -> dict[str, Any]:
    """Runs every check and puts that it was done on record, where there is a log. The answer is the report, as JSON holds it."""
    now, before = clock(), last_report(settings)
    with opened(settings, now, folders, online=online, before=before) as scene:
        findings = [(check, _run(check, scene)) for check in CHECKS]
        if scene.vault is not None:
            with scene.vault.audit.begin() as connection:
                scene.vault.audit.append(connection, Entry(_actor(), "compliance:assess"))
    rows = [_as_row(check, finding) for check, finding in findings]
    counts = Counter(row["outcome"] for row in rows)
    scan = next(finding for check, finding in findings if check.id == "software.vulnerabilities")
    scanned = scan.rows or scan.outcome in (Outcome.PASS, Outcome.ATTENTION)
    return {
        "format": FORMAT, "at": stamp(now), "attunement": __version__, "home": str(settings.home), "recorded": scene.vault is not None,
        "before": before["at"] if before else None, "counts": {outcome.value: counts[outcome.value] for outcome in Outcome},
        "last_scan": stamp(now) if scanned else dependencies.last_scan(before), "findings": rows,
    }  # fmt: skip


def _run(check: Check, scene: Scene) -> Finding:
    try:
        return check.run(scene)
    except (UserError, OSError) as error:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error.strerror}"
        return not_run(f"it could not be looked at: {told}")


def _as_row(check: Check, finding: Finding) -> dict[str, Any]:
    told = {"id": check.id, "title": check.title, "hipaa": list(check.hipaa), "proposed": check.proposed, "asvs": check.asvs}
    return {**told, **asdict(finding), "outcome": finding.outcome.value, "rows": list(finding.rows)}


def _actor() -> str:
    from attunement.security.entry import local_operator

    return local_operator().id


def write_report(report: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """The report as JSON and as a page, both for the owner alone; their names tell the moment. Returns (JSON, HTML)."""
    import jinja2

    name = f"assessment-{report['at'][:19].replace(':', '')}Z"
    text = resources.files("attunement.compliance").joinpath("assessment.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(text).render(report=report, due_days=DUE_DAYS)
    paths = folder.expanduser() / f"{name}.json", folder.expanduser() / f"{name}.html"
    for path, content in zip(paths, (json.dumps(report, ensure_ascii=False, indent=2) + "\n", page), strict=True):
        with atomic_write(path, private=True) as file:
            file.write(content)
    return paths


def folder_of(settings: Settings) -> Path:
    """Where reports lie unless `--out` says otherwise. The last one is sought here, so leave a copy here."""
    return settings.home.expanduser() / FOLDER


def last_report(settings: Settings) -> dict[str, Any] | None:
    """The newest report in the home, None where there is none that can be read."""
    for path in sorted(folder_of(settings).glob("assessment-*.json"), reverse=True):
        try:
            found = read_json(path)
        except UserError:
            continue
        if isinstance(found, dict) and found.get("format") == FORMAT:
            return found
    return None


def overdue(settings: Settings, now: datetime) -> str:
    """One line when the last assessment is too old or there was none; "" when all is well."""
    last = last_report(settings)
    if last is None:
        return "there was no compliance assessment yet: attune compliance assess"
    days = (now - datetime.fromisoformat(last["at"])).days
    return f"the last compliance assessment is {days} days old: attune compliance assess" if days > DUE_DAYS else ""
