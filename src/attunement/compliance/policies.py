"""Checks of what was agreed and decided: retention, business associate agreements, incidents, the last assessment."""

from __future__ import annotations

from datetime import date
from urllib.parse import urlsplit

from attunement.compliance.scene import Finding, Scene, failed, look, not_applicable, passed
from attunement.security.agreements import Agreements, is_outside
from attunement.security.incidents import Incidents
from attunement.security.retention import Retention

ASSESSMENT_DAYS = 90
NOTICE_SOON_DAYS = 14
AGREEMENT_ENDS_DAYS = 60


def retention(scene: Scene) -> Finding:
    if scene.vault is None:
        return not_applicable("no store of clients' data yet")
    kept = Retention(scene.vault)
    overdue, last = kept.overdue_days(), kept.last_run()
    late = {kind: days for kind, days in overdue.items() if days >= 1}
    told = f"{len(overdue)} kinds of data have a policy; last run: {last[:10] or 'never'}; past it by a day or more: {len(late)}"
    if late:
        return failed(f"{told} ({', '.join(f'{kind} {days:.0f} days' for kind, days in late.items())})", "attune retention run")
    return passed(told) if overdue else look(f"{told}: everything is kept until somebody deletes it", "set security.retention")


def agreements(scene: Scene) -> Finding:
    if scene.vault is None:
        return not_applicable("no agreement can be on record without a master key")
    found, today = Agreements(scene.vault.audit, lambda: scene.now).all(), scene.now.date()
    held = {a.provider for a in found if a.in_force(today)}
    ending = [
        a.id
        for a in found
        if a.in_force(today) and a.expires and (date.fromisoformat(a.expires) - today).days <= AGREEMENT_ENDS_DAYS
    ]
    host = urlsplit(scene.settings.providers.base_url).hostname or ""
    without = [host] if host and is_outside(host) and host not in held else []
    told = f"{len(held)} providers with an agreement in force, {len(ending)} ending within {AGREEMENT_ENDS_DAYS} days; set and without one: {len(without)}"
    if without:
        return look(f"{told} ({without[0]}): text with personal data is not sent there", "attune agreements add")
    return look(f"{told} ({', '.join(ending)})", "attune agreements add") if ending else passed(told)


def incidents(scene: Scene) -> Finding:
    if scene.vault is None:
        return not_applicable("no incident can be on record without a master key")
    everything = Incidents(scene.vault, lambda: scene.now).all()
    found, today = [i for i in everything if i.is_open], scene.now.date()
    running = [(i.id, c.name, c.days_left(today)) for i in found for c in i.clocks() if c.state == "runs"]
    late, soon = [r for r in running if r[2] < 0], [r for r in running if 0 <= r[2] <= NOTICE_SOON_DAYS]
    told = (
        f"{len(found)} open of {len(everything)}; notices overdue: {len(late)}, due within {NOTICE_SOON_DAYS} days: {len(soon)}"
    )
    if late:
        return failed(f"{told} ({', '.join(sorted({r[0] for r in late}))})", "attune incidents show ID")
    return look(told, "attune incidents list") if soon or found else passed(told)


def last_assessment(scene: Scene) -> Finding:
    if scene.before is None:
        return look("this is the first", "run it again within 90 days")
    days = scene.days_since(str(scene.before["at"]))
    return (
        passed(f"the last was {days:.0f} days ago")
        if days <= ASSESSMENT_DAYS
        else failed(f"the last was {days:.0f} days ago", f"let a timer run it each {ASSESSMENT_DAYS} days")
    )
