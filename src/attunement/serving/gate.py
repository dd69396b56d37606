"""The gate between the model and a person: what may be asked of the model, and what of its words may be shown.

A client's words that show risk are answered by reviewed text, not by the model; where danger is possible, or was spoken of
earlier, every generated reply ends with a reminder. Of a reply nothing is shown before it was judged.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from attunement.errors import ConfigError
from attunement.quality.crisis import ACCUMULATES
from attunement.quality.validator import QualityValidator

PASSED, CRISIS, REMINDED, WITHHELD = "passed", "crisis", "reminded", "withheld"
"""What the gate did: nothing; answered itself; added a reminder; held the model's words back."""


class RiskMessages(BaseModel):
    """Reviewed text for some reasons of `CrisisAssessment`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reasons: list[str]
    first: str
    again: str


class Messages(BaseModel):
    """The file of reviewed texts; `{lines}` in a text stands for the help lines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    withheld: str
    lines: str
    reminder: str
    possible: str = "{lines}"
    risk: dict[str, RiskMessages]

    @classmethod
    def load(cls, path: Path | None) -> Messages:
        """The texts in `path`, or the packaged ones. Raises `ConfigError`."""
        try:
            if path is None:
                text = resources.files("attunement.serving").joinpath("messages.toml").read_text(encoding="utf-8")
            else:
                text = path.expanduser().read_text(encoding="utf-8")
            return cls(**tomllib.loads(text))
        except OSError as error:
            raise ConfigError(f"cannot read the messages {path} (serving.messages): {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
            line = str(error).splitlines()[0]
            raise ConfigError(f"the messages {path} (serving.messages) cannot be used: {line}") from error

    def fill(self, text: str) -> str:
        return text.replace("{lines}", self.lines)


@dataclass(frozen=True)
class Entry:
    """What the gate says to a request: `answer` is its own, if it answers; `reminder` ends a generated reply."""

    answer: str | None = None
    reminder: str | None = None
    reasons: Sequence[str] = ()


class SafetyGate:
    """Judges requests and replies by the judges and rules of `quality`."""

    def __init__(self, validator: QualityValidator, messages: Messages, max_bias_score: float) -> None:
        self._validator, self.messages, self._max_bias = validator, messages, max_bias_score

    def warm_up(self) -> None:
        """Loads the judges: the first client must not wait for them."""
        talk = [{"role": "user", "content": "Hello."}]
        self.enter(talk)
        self.admits("Hello, how are you today?", talk)

    def enter(self, talk: Sequence[Mapping[str, str]]) -> Entry:
        """`talk` is chat messages that end with the user's."""
        said_by_client = [m["content"] for m in talk if m["role"] == "user"]
        now = self._validator.assess_crisis(said_by_client[-1:])
        before, state = self._validator.assess_crisis(said_by_client[:-1]), self._validator.assess_crisis(said_by_client)
        adds_up = ACCUMULATES in state.reasons and ACCUMULATES not in before.reasons
        if now.level in ("elevated", "imminent") or adds_up:
            reasons = tuple(dict.fromkeys([*now.reasons, *([ACCUMULATES] if adds_up else [])]))
            chosen = self._for(reasons)
            said = next((m["content"] for m in reversed(talk[:-1]) if m["role"] == "assistant"), "")
            first = self.messages.fill(chosen.first)
            return Entry(self.messages.fill(chosen.again) if said.strip() == first else first, reasons=reasons)
        reminder = self.messages.fill(self.messages.reminder) if state.level in ("elevated", "imminent") else None
        if state.level == "possible" and now.level == "possible":
            reminder = self.messages.fill(self.messages.possible)
        return Entry(reminder=reminder, reasons=state.reasons)

    def admits(self, reply: str, talk: Sequence[Mapping[str, str]]) -> bool:
        """Whether a reply to `talk`, or what there is of it yet, may be shown."""
        verdict = self._validator.validate_therapeutic_appropriateness(reply, [m["content"] for m in talk[-2:]])
        return verdict.appropriate and self._validator.detect_bias(reply).bias_score <= self._max_bias

    def _for(self, reasons: Sequence[str]) -> RiskMessages:
        """The text of the first risk in the file that a reason names, in the file's order: the gravest stands first."""
        for risk in self.messages.risk.values():
            if set(risk.reasons) & set(reasons):
                return risk
        return next(iter(self.messages.risk.values()))
