"""Checks of the software itself: known vulnerabilities of what is installed (pip-audit, when asked for), and Python's own support.

pip-audit sends the names and versions of the installed packages to an index; so it is asked only with `--online`. It exits with
0 and "no known vulnerabilities" where the index answered nothing: what it skipped is counted here and is no pass.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import date
from importlib.util import find_spec
from typing import Any

from attunement.compliance.scene import Finding, Scene, failed, look, not_run, passed

SCAN_DAYS = 183
"""Proposed rule of 2025, 164.312(h)(2)(i): a scan at least every six months."""
MOST_SECONDS = 300
INSTALL = "pip install pip-audit, then  attune compliance assess --online"
PYTHON_ENDS = {(3, 11): date(2027, 10, 31), (3, 12): date(2028, 10, 31), (3, 13): date(2029, 10, 31), (3, 14): date(2030, 10, 31)}
"""Ends of security support (PEP 664, 693, 719, 745)."""


def vulnerabilities(scene: Scene) -> Finding:
    command = _command()
    if not scene.online or command is None:
        why = "pip-audit is not installed" if command is None else "it asks an index on the network, and --online was not given"
        return _not_run(scene, why)
    options = ["--local", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=MOST_SECONDS, check=False)  # noqa: S603 - fixed words
    except subprocess.TimeoutExpired:
        return _not_run(scene, f"pip-audit gave no answer in {MOST_SECONDS} s")
    try:
        return judged(json.loads(done.stdout)["dependencies"], scene)
    except (ValueError, KeyError, TypeError):
        return _not_run(scene, f"pip-audit could not do it (exit code {done.returncode}): is the network there?")


def _command() -> list[str] | None:
    if find_spec("pip_audit"):
        return [sys.executable, "-m", "pip_audit"]
    found = shutil.which("pip-audit")
    return [found] if found else None


def judged(packages: list[dict[str, Any]], scene: Scene) -> Finding:
    """What pip-audit's answer means: vulnerable is a fail; what it could not look up is no pass."""
    skipped = [p for p in packages if "skip_reason" in p and p["name"] != "attunement"]
    rows = [
        {"package": p["name"], "version": p["version"], "id": v["id"], "fixed_in": ", ".join(v.get("fix_versions", []))}
        for p in packages for v in p.get("vulns", [])
    ]  # fmt: skip
    told = f"{len(packages) - len(skipped)} of {len(packages)} packages looked up, {len(rows)} known vulnerabilities"
    if rows:
        return failed(told, "upgrade what the report names", rows=rows)
    if len(skipped) == len(packages):
        return _not_run(scene, f"the index knew none of the {len(packages)} packages")
    return look(f"{told}; not found in the index: {len(skipped)}", "look at these by hand") if skipped else passed(told)


def _not_run(scene: Scene, why: str) -> Finding:
    last = last_scan(scene.before)
    if last is None:
        return not_run(f"{why}; never scanned so far", INSTALL)
    days = scene.days_since(last)
    if days > SCAN_DAYS:
        return failed(f"{why}; the last scan was {days:.0f} days ago", INSTALL)
    return not_run(f"{why}; the last scan was {days:.0f} days ago", INSTALL)


def last_scan(before: dict[str, Any] | None) -> str | None:
    """When vulnerabilities were last looked up, by the last report."""
    return None if before is None else before.get("last_scan") or None


def python(scene: Scene) -> Finding:
    version = sys.version_info[:2]
    ends = PYTHON_ENDS.get(version)
    told = f"Python {sys.version.split()[0]}"
    if ends is None:
        return look(f"{told}: its end of support is not known here", "look it up at python.org")
    left = (ends - scene.now.date()).days
    if left < 0:
        return failed(f"{told}: without security support since {ends}", "take a newer Python")
    return (
        look(f"{told}: security support ends {ends}", "plan a newer Python")
        if left < SCAN_DAYS
        else passed(f"{told}: security support until {ends}")
    )
