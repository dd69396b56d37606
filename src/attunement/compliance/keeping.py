"""Checks of what is kept: keys, escrow, audit log, backups, files, data sets at rest."""

from __future__ import annotations

import os
from pathlib import Path

from attunement.compliance.inventory import data_sets
from attunement.compliance.scene import Finding, Scene, failed, graded, look, not_applicable, not_run, passed
from attunement.errors import UserError
from attunement.security.escrow import read_escrow
from attunement.security.master_key import FileMasterKey

MASTER_DAYS, DATA_KEY_DAYS = 365, 730
"""NIST SP 800-57 part 1 (rev. 5) 5.3.6: a year for a key that wraps keys, two for one that encrypts data."""
CHECKPOINT_DAYS = 1.0
BACKUP_DAYS, BACKUP_MOST = 2.0, 7.0
"""Proposed rule of 2025: copies no more than 48 hours older than the data."""
RESTORE_DAYS, RESTORE_MOST = 31.0, 183.0
RESTORE_HOURS = 72
INIT = "attune keys init"
SECRETS = ("*.db", "*.db-wal", "*.db-shm", "*.key", "audit-checkpoints.jsonl*", "*.escrow")


def _closed(scene: Scene) -> Finding:
    return failed(f"no master key that opens: {scene.closed}", INIT)


def master_key(scene: Scene) -> Finding:
    if scene.vault is None:
        return _closed(scene)
    made: str | float | None
    master, rotated = scene.vault.ring.master, scene.vault.audit.newest("keys:rotate")
    if not isinstance(master, FileMasterKey):
        told, made = (
            f"{master.key_id} in {scene.settings.security.master_key_variable or 'a key management service'}",
            rotated.at if rotated else None,
        )
    else:
        status = master.path.stat()
        told, made = f"{master.key_id}, file mode {status.st_mode & 0o777:o}", rotated.at if rotated else status.st_mtime
        if master.former:
            return failed(f"{told}; a rotation is not finished ({len(master.former)} former keys)", "attune keys rotate")
    if made is None:
        return look(f"{told}; never rotated from here, so its age is not known", "attune keys rotate")
    days = scene.days_since(made)
    return (
        look(f"{told}; {days:.0f} days old", "attune keys rotate")
        if days > MASTER_DAYS
        else passed(f"{told}; {days:.0f} days old")
    )


def offline_copy(scene: Scene) -> Finding:
    if scene.vault is None:
        return not_applicable("no master key yet")
    return not_run(
        "whether a copy of the master key lies offline, and who can reach it, cannot be seen from here",
        "look, and note the day: without it nothing opens",
    )


def data_keys(scene: Scene) -> Finding:
    if scene.vault is None:
        return _closed(scene)
    newest: dict[str, str] = {}
    for row in scene.vault.ring.rows():
        if row["shredded_at"] is None:
            newest[row["subject"]] = max(newest.get(row["subject"], ""), row["created_at"])
    counts = scene.vault.ring.counts()
    old = sum(scene.days_since(made) > DATA_KEY_DAYS for made in newest.values())
    told = f"{counts['live']} live keys, {counts['shredded']} shredded; wrapped by another master key: {counts['to_re_wrap']}; older than {DATA_KEY_DAYS} days: {old}"
    if counts["to_re_wrap"]:
        return failed(told, "attune keys rotate")
    return look(told, "renew them when the client's data are next written (KeyRing.renew)") if old else passed(told)


def escrow(scene: Scene) -> Finding:
    if scene.vault is None:
        return not_applicable("no keys yet")
    path = scene.settings.security.escrow
    if path is None:
        return failed("there is no second copy of the data keys", "set security.escrow to a file on another machine's disk")
    path = path.expanduser()
    if not path.exists():
        return failed(f"{path} does not exist", "attune backup create FILE  writes it")
    try:
        held = {(row["subject"], row["version"]) for row in read_escrow(scene.vault.ring, path) if row["wrapped"] is not None}
    except UserError as error:
        return failed(f"it does not open: {error}", "attune keys escrow FILE")
    live = {(row["subject"], row["version"]) for row in scene.vault.ring.rows() if row["wrapped"] is not None}
    told = f"{len(held)} keys, written {scene.days_since(path.stat().st_mtime):.1f} days ago; not in it: {len(live - held)}, shredded since: {len(held - live)}"
    if held - live:
        return failed(f"{told}: shredded keys are still in it", "attune keys escrow FILE  writes it anew")
    return look(told, "attune backup create FILE  writes it anew") if live - held else passed(told)


def audit_chain(scene: Scene) -> Finding:
    if scene.vault is None:
        return _closed(scene)
    verdict = scene.vault.audit.verify()
    if not verdict.whole:
        return failed(
            f"{verdict.reason} at record {verdict.first_bad}", "attune audit verify; attune incidents open integrity --told ..."
        )
    return passed(f"{verdict.records:,} records whole, {verdict.checkpoints:,} signed checkpoints")


def audit_checkpoints(scene: Scene) -> Finding:
    if scene.vault is None or scene.vault.audit.checkpoints is None:
        return not_applicable("nothing can be signed without a master key")
    points, verdict = scene.vault.audit.checkpoints.all(), scene.vault.audit.verify()
    if not points:
        return (
            failed(f"no checkpoint over {verdict.records:,} records", "attune audit checkpoint")
            if verdict.records
            else not_applicable("no records yet")
        )
    days, newer = scene.days_since(points[-1].at), verdict.records - points[-1].number
    told = f"the last is {days:.1f} days old; {newer:,} records after it"
    if newer and days > CHECKPOINT_DAYS:
        return failed(told, "let a timer run  attune audit checkpoint")
    if scene.settings.security.audit_checkpoints is None:
        return look(f"{told}; the file lies beside the database", "set security.audit_checkpoints to a place that only grows")
    return passed(told)


def backups(scene: Scene) -> Finding:
    if scene.vault is None:
        return not_applicable("no store of clients' data yet")
    last = scene.vault.audit.newest("backup:create")
    days = scene.days_since(last.at) if last else None
    return graded(
        days,
        "no backup on record",
        "the last backup was made",
        "attune backup create FILE --encrypt-to age1...",
        good=BACKUP_DAYS,
        most=BACKUP_MOST,
    )


def restores(scene: Scene) -> Finding:
    if scene.vault is None:
        return not_applicable("no store of clients' data yet")
    tried = [r for r in (scene.vault.audit.newest(a) for a in ("backup:rehearse", "backup:restore")) if r]
    last = max(tried, key=lambda r: r.number, default=None)
    took = last.target.partition("seconds:")[2] if last else ""
    read = scene.vault.audit.newest("backup:verify")
    told = f"the last restore{f' (it took {took} s of {RESTORE_HOURS} h)' if took else ''} was tried"
    never = f"no restore was ever tried; last read to its end: {read.at[:10] if read else 'never'}"
    return graded(
        scene.days_since(last.at) if last else None,
        never,
        told,
        "attune backup rehearse FILE",
        good=RESTORE_DAYS,
        most=RESTORE_MOST,
    )


def home_files(scene: Scene) -> Finding:
    if not scene.home.exists():
        return not_applicable("there is no home yet")
    mode = scene.home.stat().st_mode & 0o777
    secrets = [p for pattern in SECRETS for p in scene.home.glob(pattern) if p.is_file()]
    open_secrets = [p.name for p in secrets if p.stat().st_mode & 0o077]
    others = sum(1 for p in _files(scene.home) if p.stat().st_mode & 0o022)
    foreign = sum(1 for p in _files(scene.home) if p.stat().st_uid != os.geteuid())
    told = f"home mode {mode:o}; secrets open to others: {len(open_secrets)} of {len(secrets)}; files that others may write: {others}; of another user: {foreign}"
    if mode & 0o077 or open_secrets or others:
        return failed(told, f"chmod 700 {scene.home}; chmod 600 the files in it")
    return look(told, "let one user own all of them") if foreign else passed(told)


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]


def data_at_rest(scene: Scene) -> Finding:
    found = data_sets(scene)
    if not found:
        return not_applicable("no data set was found; name their folders with --look DIR")
    plain = [row["name"] for row in found if not row["encrypted"]]
    told = f"{len(found) - len(plain)} of {len(found)} data sets are age files; whether the disk is encrypted cannot be seen from here"
    return (
        look(
            f"{told}; plain: {', '.join(plain[:5])}", "attune data build --encrypt-to age1...  for what holds real conversations"
        )
        if plain
        else passed(told)
    )
