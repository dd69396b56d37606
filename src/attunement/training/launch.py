"""A run on Lightning.ai: the same command as here, as a job of the official SDK, that a pre-emption does not lose.

The job's command is `attune train run`, which goes on from the newest whole checkpoint when it is started again in the same folder.
So a job that is pre-empted and tried again loses at most what lies since the last checkpoint, if `--out` is on a drive that outlives the
machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from attunement.errors import ConfigError, MissingExtraError, ServiceError

DRIVE = "/teamspace"
"""Where Lightning's machines mount what outlives them."""
PASSED_ON = ("ATTUNE_", "HF_HUB_OFFLINE")
"""Settings of the environment that go with a job; credentials never do (Lightning has a store for secrets)."""
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


@dataclass(frozen=True)
class Launch:
    """What to submit. `arguments` are those of `attune train run`, `attempts` how often a pre-empted job is tried."""

    name: str
    machine: str
    out: str
    arguments: Sequence[str]
    teamspace: str = ""
    studio: str = ""
    image: str = ""
    interruptible: bool = False
    attempts: int = 5

    def command(self) -> str:
        """The command of the job."""
        return shlex.join(["attune", "train", "run", "--out", self.out, *self.arguments])

    def check(self) -> None:
        """Raises `ConfigError` for what would lose the run or cannot be meant."""
        if bool(self.studio) == bool(self.image):
            raise ConfigError("a job runs in a studio or in an image: give --studio or --image, and not both")
        path = PurePosixPath(self.out)
        if self.interruptible and not (path.is_absolute() and path.is_relative_to(DRIVE)):
            raise ConfigError(
                f"--out {self.out} would be lost with a pre-empted machine: give a folder below {DRIVE}, such as {DRIVE}/runs/{self.name}"
            )
        if self.attempts < 1:
            raise ConfigError("--attempts must be at least 1")

    def submit(self, environment: Mapping[str, str]) -> Any:
        """The SDK's job, submitted. Raises `ConfigError`, `MissingExtraError`, and `ServiceError` when Lightning refuses it."""
        self.check()
        try:
            from lightning_sdk import Job, Machine
            from lightning_sdk.lightning_cloud.openapi.rest import ApiException
        except ImportError as error:
            raise MissingExtraError("attune train launch", "lightning-ai") from error
        machine = getattr(Machine, self.machine, None)
        if machine is None:
            raise ConfigError(
                f"Lightning has no machine '{self.machine}': take H100, H100_X_8 or another of lightning_sdk.Machine"
            )
        place = {"studio": self.studio} if self.studio else {"image": self.image}
        try:
            return Job.run(
                name=self.name,
                machine=machine,
                command=self.command(),
                teamspace=self.teamspace or None,
                env=passed_on(environment),
                interruptible=self.interruptible,
                max_run_attempts=self.attempts,
                **place,
            )
        except (ApiException, ValueError, RuntimeError, OSError) as error:
            raise ServiceError(
                f"Lightning did not take the job '{self.name}': {str(error).splitlines()[0] if str(error) else type(error).__name__} "
                "(log in with  lightning login, or set LIGHTNING_USER_ID and LIGHTNING_API_KEY)"
            ) from error


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Attunement's settings among `environment`, without secrets."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(PASSED_ON) and name != "ATTUNE_HOME" and not any(word in name for word in SECRET)
    }
