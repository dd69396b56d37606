"""Schemathesis over the whole interface, as its own description has it: without sign-in, and with a key that has every scope.

Counted are calls and faults: a 5xx, an answer that the description does not have, a wrong Content-Type, a request against the description
that is taken. Left out are two of its checks: that everything the description allows is accepted (the last message must be the user's, which a
schema cannot say), and that requests without credentials are refused where nobody is asked.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attunement.config import load_settings
from attunement.security.acting import Act
from attunement.security.entry import opened
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import GRANTS, Role
from attunement.serving.app import create_app
from attunement.serving.guard import Guard
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService

LEFT_OUT = "positive_data_acceptance,ignored_auth"
EXAMPLES = 25
TOO_LARGE = "413"


def called(address: str, *more: str) -> dict[str, Any]:
    """One run of Schemathesis; its page is kept beside nothing: what failed is told by its codes."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/openapi.json", "--exclude-checks", LEFT_OUT, "--seed", "1",
        "--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing", "--workers", "1", *more,
    ]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir(), check=False).stdout
    counted = re.search(r"(\d+) generated", told)
    operations = re.search(r"Tested: (\d+)", told)
    faults = re.findall(r"❌ (ST\d+ [^:\n]+): (\d+)", told)
    # a body over the limit is refused with 413 before it is read: Schemathesis takes that for acceptance
    large = len(re.findall(rf"ST201 [^\n]*\n(?:.*\n){{1,14}}?\[{TOO_LARGE}\]", told))
    return {
        "calls": int(counted[1]) if counted else 0,
        "operations": int(operations[1]) if operations else 0,
        "faults": {name: int(count) for name, count in faults},
        "of_these_refused_with_413": large,
    }


def measure(run: Path, _rounds: int, _repeats: int) -> dict[str, Any]:
    """Figures of both runs."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_ones:
        settings = load_settings(
            None, [f"home={folder}", "serving.requests_per_minute=6000000", "serving.max_new_tokens=16"]
        ).settings
        service = DeploymentService(settings)
        service.load_model(run)
        socket = open_ones.enter_context(listen("127.0.0.1", 0))
        open_ones.enter_context(running(create_app(service), socket))
        nobody = called(f"http://127.0.0.1:{socket.getsockname()[1]}")
        FileMasterKey.create(Path(folder) / "master.key")
        access = open_ones.enter_context(opened(settings))
        key = access.keys.create("fuzz", sorted(GRANTS[Role.SERVICE]), Act("os:benchmark"))
        other = open_ones.enter_context(listen("127.0.0.1", 0))
        open_ones.enter_context(running(create_app(service, Guard(settings, access, secure_cookies=False)), other))
        keyed = called(f"http://127.0.0.1:{other.getsockname()[1]}", "-H", f"Authorization: Bearer {key}")
    return {"goal": "no 5xx, no violation of the description", "without_sign_in": nobody, "with_a_key": keyed}
