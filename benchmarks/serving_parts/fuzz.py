"""Schemathesis over the whole interface, as its own description has it: without sign-in, with a key that has every scope, and by a person.

Counted are calls and faults: a 5xx, an answer that the description does not have, a wrong Content-Type, a request against the description
that is taken. The client of the calls has a journal (`fuzz_journal`), and three of four of the ids in them name what is there
(`fuzz_hooks`). Left out are two of its checks: that everything the description allows is accepted (the last message must be the user's, which a
schema cannot say), and that requests without credentials are refused where nobody is asked.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from attunement.config import load_settings
from attunement.security.acting import Act
from attunement.security.entry import Access, opened
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import GRANTS, Role
from attunement.serving.app import create_app
from attunement.serving.assembly import assembled
from attunement.serving.guard import FORGERY_HEADER, Guard
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService
from serving_parts.fuzz_hooks import PERSON, STATUSES
from serving_parts.fuzz_journal import CLIENT, fill

ACT = Act("os:benchmark")
ENDS_THE_SESSION = "/auth/(sign-in|sign-out|sessions|password|totp)"
"""What a person's calls leave out, or the rest would be refused for want of a session; the other two runs have them."""
LEFT_OUT = "positive_data_acceptance,ignored_auth"
EXAMPLES = 25
CONFIG = """
[checks.negative_data_rejection]
# its own list, and 413: a body over the limit is refused before it is read, and what is refused was not accepted
expected-statuses = ["400", "401", "403", "404", "406", "413", "422", "428", "5xx"]
"""


def called(address: str, folder: Path, *more: str) -> dict[str, Any]:
    """One run of Schemathesis; its page is kept beside nothing: what failed is told by its codes."""
    config, statuses = folder / "schemathesis.toml", folder / "statuses"
    config.write_text(CONFIG, encoding="utf-8")
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run", f"{address}/openapi.json",
        "--exclude-checks", LEFT_OUT, "--seed", "1", "--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing",
        "--workers", "1", *more,
    ]  # fmt: skip
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    person = {PERSON: "1"} if any(each.startswith("Cookie:") for each in more) else {}
    environment = {
        **os.environ,
        **person,
        "SCHEMATHESIS_HOOKS": "serving_parts.fuzz_hooks",
        "PYTHONPATH": paths,
        STATUSES: str(statuses),
    }
    told = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir(), check=False, env=environment)
    if os.environ.get("FUZZ_TOLD"):  # to read what was found
        with open(os.environ["FUZZ_TOLD"], "a", encoding="utf-8") as out:
            out.write(told.stdout + told.stderr)
    counted = re.search(r"(\d+) generated", told.stdout)
    operations = re.search(r"Tested: (\d+)", told.stdout)
    faults = re.findall(r"❌ (ST\d+ [^:\n]+): (\d+)", told.stdout)
    return {
        "calls": int(counted[1]) if counted else 0,
        "operations": int(operations[1]) if operations else 0,
        "faults": {name: int(count) for name, count in faults},
        **_statuses(statuses),
    }


def _statuses(path: Path) -> dict[str, Any]:
    """Answers by status, and how many operations under a client's path gave what was asked."""
    lines = [line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    path.unlink()
    of_clients = [(status, label) for status, label in lines if "{client_id}" in label]
    return {
        "statuses": dict(sorted(Counter(status for status, _ in lines).items())),
        "of_a_client": len({label for _, label in of_clients}),
        "of_a_client_answered_2xx": len({label for status, label in of_clients if status.startswith("2")}),
    }


def measure(run: Path, _rounds: int, _repeats: int) -> dict[str, Any]:
    """Figures of both runs."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as open_ones:
        folder = Path(name)
        settings = load_settings(
            None, [f"home={folder}", "serving.requests_per_minute=6000000", "serving.max_new_tokens=16"]
        ).settings
        service = DeploymentService(settings)
        service.load_model(run)
        socket = open_ones.enter_context(listen("127.0.0.1", 0))
        open_ones.enter_context(running(create_app(service), socket))
        nobody = called(f"http://127.0.0.1:{socket.getsockname()[1]}", folder)
        FileMasterKey.create(folder / "master.key")
        access = open_ones.enter_context(opened(settings))
        key = access.keys.create("fuzz", sorted(GRANTS[Role.SERVICE]), ACT)
        parts = open_ones.enter_context(assembled(settings, service, access))
        assert parts.exchanges.progress is not None
        fill(parts.exchanges.progress.by(ACT))
        other = open_ones.enter_context(listen("127.0.0.1", 0))
        guard = Guard(settings, access, secure_cookies=False)
        open_ones.enter_context(running(create_app(service, guard, parts.exchanges), other))
        address = f"http://127.0.0.1:{other.getsockname()[1]}"
        keyed = called(address, folder, "-H", f"Authorization: Bearer {key}")
        person = called(address, folder, *_signed_in(access, address), "--exclude-path-regex", ENDS_THE_SESSION)
    found = {"without_sign_in": nobody, "with_a_key": keyed, "clinician_and_reviewer": person}
    return {"goal": "no 5xx, no violation of the description", **found}


def _signed_in(access: Access, address: str) -> list[str]:
    """Headers of somebody who has the client for a clinician and decides in the review queue."""
    account, first = access.accounts.create("fuzz", [Role.CLINICIAN, Role.REVIEWER], ACT)
    password = secrets.token_urlsafe(24)
    access.accounts.change_password(account, first, password, ACT)
    access.accounts.assign("fuzz", CLIENT, ACT)
    answer = httpx.post(f"{address}/api/v1/auth/sign-in", json={"name": "fuzz", "password": password}, trust_env=False)
    cookies = "; ".join(f"{name}={value}" for name, value in answer.cookies.items())
    return ["-H", f"Cookie: {cookies}", "-H", f"{FORGERY_HEADER}: {answer.json()['forgery_token']}"]
