"""The gate between the model and a person: what may be asked of the model, and what of its words may be shown.

A client's words that show risk are answered by reviewed text, not by the model: one question at a time, another text where the danger
is near. Where danger is possible, or was spoken of earlier, every generated reply ends with a reminder. Where the law leaves such
support to professionals, nothing is generated. Of a reply nothing is shown before it was judged.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attunement.errors import ConfigError
from attunement.quality.crisis import ACCUMULATES
from attunement.quality.validator import QualityValidator
from attunement.records import CrisisAssessment
from attunement.serving.places import Places

PASSED, CRISIS, REMINDED, WITHHELD, REFUSED = "passed", "crisis", "reminded", "withheld", "refused"
"""What the gate did: nothing; answered itself; added a reminder; held the model's words back; said what the law of the place asks."""
HIGH = ("elevated", "imminent")
WHAT_ARE_YOU = re.compile(
    r"(?i)\b(?:are|r) (?:you|u) (?:really |even |actually |just |only )?(?:a |an )?(?:real|human|person|robot|bot|chat ?bot|machine|computer|program|ai|a\.i\.|artificial|someone real|llm)\b"
    r"|\b(?:am i|i'm i) (?:talking|speaking|chatting|writing) (?:to|with) (?:a |an )?(?:real|human|person|robot|bot|chat ?bot|machine|computer|ai|someone real|somebody real)\b"
    r"|\b(?:is|was) (?:this|that|it) (?:really |just |actually )?(?:a |an )?(?:real person|human|person|robot|bot|chat ?bot|machine|computer|program|ai)\b[^.!]{0,20}\?"
    r"|\bwhat are you\?"
)


class RiskMessages(BaseModel):
    """Reviewed texts for some reasons of `CrisisAssessment`: one after the other while the person goes on, the last two in turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reasons: list[str]
    elevated: list[str] = Field(min_length=2)
    imminent: list[str] = Field(min_length=2)


class Messages(BaseModel):
    """The file of reviewed texts; `{lines}` in a text stands for whom to call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    withheld: str
    reminder: str
    possible: str = "{lines}"
    disclosure: str
    asked: str
    refused: str
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


@dataclass(frozen=True)
class Entry:
    """What the gate says to a request: `answer` is its own, if it answers (`action` says why); `reminder` ends a generated reply,
    `disclosure` stands before it. `state` is the risk after all that the person said, `now` the level of what was said last."""

    answer: str | None = None
    action: str = PASSED
    reminder: str | None = None
    disclosure: str | None = None
    state: CrisisAssessment = field(default_factory=CrisisAssessment)
    now: str = "none"
    reasons: Sequence[str] = ()

    def around(self, reply: str) -> str:
        """A generated reply with what stands before and after it."""
        return "\n\n".join(part for part in (self.disclosure, reply, self.reminder) if part)

    @property
    def at_risk(self) -> bool:
        """Whether anything in the conversation speaks of danger: its replies are never cached."""
        return self.state.level != "none"


class SafetyGate:
    """Judges requests and replies by the judges and rules of `quality`."""

    def __init__(
        self,
        validator: QualityValidator,
        messages: Messages,
        max_bias_score: float,
        places: Places | None = None,
        *,
        discloses: bool = True,
    ) -> None:
        self._validator, self.messages, self._max_bias = validator, messages, max_bias_score
        self.places, self._discloses = places or Places.load(), discloses

    def warm_up(self) -> None:
        """Loads the judges: the first client must not wait for them."""
        talk = [{"role": "user", "content": "Hello."}]
        self.enter(talk)
        self.admits("Hello, how are you today?", talk)

    def lines(self, region: str = "") -> str:
        """Whom to call in `region`; without one, the numbers of the regions that are asked for most."""
        return self.places.region(region).told if region else self.places.everywhere

    def fill(self, text: str, region: str = "") -> str:
        """A message with the lines of `region` in it."""
        return text.replace("{lines}", self.lines(region))

    def without_own_words(self, talk: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """`talk` as the model is to see it: without what this service added to its replies."""
        own = [self.messages.disclosure, self.messages.asked]
        ends = [text.partition("{lines}")[0].strip() for text in (self.messages.reminder, self.messages.possible)]
        out: list[Mapping[str, str]] = []
        for message in talk:
            text = message["content"]
            if message["role"] == "assistant":
                for begin in own:
                    text = text.removeprefix(begin).lstrip()
                for end in filter(None, ends):
                    text = text.partition(f"\n\n{end}")[0]
            out.append({**message, "content": text or message["content"]})
        return out

    def enter(self, talk: Sequence[Mapping[str, str]], region: str = "", *, told: bool | None = None) -> Entry:
        """`talk` is chat messages that end with the user's, from somebody in `region` (ISO 3166; empty: not known).

        `told` says whether the person was told lately that this is no human; None: known from the talk alone.
        """
        said_by_client = [m["content"] for m in talk if m["role"] == "user"]
        trail = self._validator.risk_trail(said_by_client)
        now, before, state = trail.now, trail.before, trail.state
        adds_up = ACCUMULATES in state.reasons and ACCUMULATES not in before.reasons
        law = self.places.jurisdiction(region)
        disclosure = self._disclosure(talk, said_by_client[-1], law.disclose.asked, told)
        if now.level in HIGH or adds_up:
            reasons = tuple(dict.fromkeys([*now.reasons, *([ACCUMULATES] if adds_up else [])]))
            level = now.level if now.level in HIGH else HIGH[0]
            return Entry(self._answer(reasons, now, talk, region), CRISIS, state=state, now=level, reasons=reasons)
        if law.mode == "refused":
            refused = self.fill(self.messages.refused, region)
            return Entry(refused, REFUSED, state=state, now=now.level, reasons=("jurisdiction",))
        reminder = self.fill(self.messages.reminder, region) if state.level in HIGH else None
        if state.level == "possible" and now.level == "possible":
            reminder = self.fill(self.messages.possible, region)
        return Entry(reminder=reminder, disclosure=disclosure, state=state, now=now.level, reasons=state.reasons)

    def admits(self, reply: str, talk: Sequence[Mapping[str, str]]) -> bool:
        """Whether a reply to `talk`, or what there is of it yet, may be shown."""
        return not self.faults(reply, talk)

    def faults(self, reply: str, talk: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
        """Why a reply to `talk`, or what there is of it yet, must not be shown, as codes; none when it may."""
        found = self._validator.reasons_against(reply, [m["content"] for m in talk[-2:]])
        biased = self._validator.detect_bias(reply).bias_score > self._max_bias
        return (*found, *(("bias",) if biased else ()))

    def _answer(self, reasons: Sequence[str], now: CrisisAssessment, talk: Sequence[Mapping[str, str]], region: str) -> str:
        """The text for a risk that comes next: the one after that which was said last, from the beginning where that was another."""
        risk = self._for(reasons)
        texts = [self.fill(text, region) for text in (risk.imminent if now.level == "imminent" else risk.elevated)]
        last = next((m["content"].strip() for m in reversed(talk[:-1]) if m["role"] == "assistant"), "")
        if last not in texts:
            return texts[0]
        after = texts.index(last) + 1
        return texts[after] if after < len(texts) else texts[-2]

    def _disclosure(self, talk: Sequence[Mapping[str, str]], said: str, when_asked: bool, told: bool | None) -> str | None:
        if not self._discloses:
            return None
        if when_asked and WHAT_ARE_YOU.search(said):
            return self.messages.asked
        begins = all(m["role"] == "user" for m in talk)
        return self.messages.disclosure if not (told if told is not None else not begins) else None

    def _for(self, reasons: Sequence[str]) -> RiskMessages:
        """The texts of the first risk in the file that a reason names, in the file's order: the gravest stands first."""
        for risk in self.messages.risk.values():
            if set(risk.reasons) & set(reasons):
                return risk
        return next(iter(self.messages.risk.values()))
