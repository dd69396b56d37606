"""Whether somebody is in danger: a trained judge and, independent of it, rules over the client's words; either is enough.

A finding is a reason to act, never a diagnosis. What was said earlier still counts: a retraction ("forget it, I'm fine")
does not undo it (VERA-MH's rubric), and several turns that each fall short of the operating point add up.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from attunement.quality.panel import Judges
from attunement.quality.rules import hits, lexicon
from attunement.quality.verdicts import Item, Verdict
from attunement.records import CRISIS_LEVELS, CrisisAssessment

LEVELS = ("none", "possible", "elevated", "imminent")
"""`possible` lies between the judge's watch point and its operating point: too unsure to be answered by reviewed text, too near to
be passed over."""
POSSIBLE = "possible_danger"
CODES = {
    "wish_to_be_dead": "suicidal_ideation", "thoughts": "suicidal_ideation", "method": "suicidal_ideation",
    "intent": "suicide_intent", "plan": "suicide_intent", "behaviour": "self_harm", "harm_to_others": "harm_to_others",
    "abuse": "abuse_or_violence", "psychosis": "acute_psychosis", "medical": "medical_emergency",
}  # fmt: skip
"""The rules' code for what the judge calls a level."""
NEAR = frozenset({"intent", "plan", "behaviour", "harm_to_others", "medical"})
"""Kinds that are imminent where they are the speaker's own and likelier than not."""
SURE, SURE_OF_KIND = 0.5, 0.7
RECENT_TURNS, MANY_TURNS = 6, 3
"""`MANY_TURNS` possible dangers in the last `RECENT_TURNS` are as much as one that reaches the operating point."""
ACCUMULATES = "accumulates"


def assess_by_rules(texts: Sequence[str]) -> CrisisAssessment:
    """The highest level that rules find in what a client said, oldest first, with their reason codes."""
    found = [hit for text in texts for hit in hits(lexicon("crisis"), text)]
    level = max((LEVELS.index(hit.level) for hit in found), default=0)
    return CrisisAssessment(LEVELS[level], tuple(dict.fromkeys(hit.code for hit in found)), 1.0 if found else 0.0)


def assess_crisis(judges: Judges, texts: Sequence[str]) -> CrisisAssessment:
    """The risk state after all that a client said, oldest first."""
    states = risk_states(judges, texts)
    return states[-1] if states else CrisisAssessment()


def assess_turns(judges: Judges, texts: Sequence[str]) -> list[CrisisAssessment]:
    """What each text says by itself."""
    items = [Item(text) for text in texts]
    points = judges.operating_point("crisis"), judges.watch_point("crisis")
    both = zip(texts, *judges.judge_each(["crisis", "crisis_whose"], items), strict=True)
    return [_turn(text, verdict, owner, points) for text, verdict, owner in both]


def risk_states(judges: Judges, texts: Sequence[str]) -> list[CrisisAssessment]:
    """The risk state after each of a client's turns, oldest first; it never falls within a conversation."""
    return _states(assess_turns(judges, texts))


@dataclass(frozen=True)
class RiskTrail:
    """The last turn by itself, the risk state before it, and after it."""

    now: CrisisAssessment
    before: CrisisAssessment
    state: CrisisAssessment


class TurnMemory:
    """What turns said by themselves, by hash: a conversation that comes back with one more turn is judged for that turn alone.

    Holds no text. For any number of threads.
    """

    def __init__(self, most: int = 20_000) -> None:
        self._known: OrderedDict[bytes, CrisisAssessment] = OrderedDict()
        self._most, self._lock = most, threading.Lock()

    def trail(self, judges: Judges, texts: Sequence[str]) -> RiskTrail:
        """Of what a client said, oldest first; at least one text."""
        keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            found |= zip(missing, assess_turns(judges, list(missing.values())), strict=True)
            with self._lock:
                self._known.update({key: found[key] for key in missing})
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
        turns = [found[key] for key in keys]
        states = [CrisisAssessment(), *_states(turns)]
        return RiskTrail(turns[-1], states[-2], states[-1])


def _states(turns: Sequence[CrisisAssessment]) -> list[CrisisAssessment]:
    state, out = CrisisAssessment(), []
    for number, now in enumerate(turns):
        recent = turns[max(0, number + 1 - RECENT_TURNS) : number + 1]
        if now.level == "possible" and sum(turn.level == "possible" for turn in recent) >= MANY_TURNS:
            now = replace(now, level="elevated", reasons=(ACCUMULATES,))
        state = _worse(state, now)
        out.append(state)
    return out


def _turn(text: str, verdict: Verdict, owner: Verdict, points: tuple[float, float]) -> CrisisAssessment:
    rules = assess_by_rules([text])
    if verdict.score < points[0]:
        if rules.level == "none" and verdict.score < points[1]:
            return CrisisAssessment("none", (), verdict.score, "none", owner.label)
        return CrisisAssessment("possible", (*rules.reasons, POSSIBLE), verdict.score, "none", owner.label)
    kind = _kind(verdict, rules.reasons)
    another = "another_at_risk" in rules.reasons or owner.label == "third_person"
    codes = [*rules.reasons, "another_at_risk" if another else CODES[kind]]
    sure = sum(verdict.labels[name] for name in NEAR) >= SURE
    near = rules.level == "imminent" or (kind in NEAR and sure and (another or owner.label == "self"))
    whose = "third_person" if another else owner.label
    return CrisisAssessment("imminent" if near else "elevated", tuple(dict.fromkeys(codes)), verdict.score, kind, whose)


def _kind(verdict: Verdict, named: Sequence[str]) -> str:
    """The judge's level, unless rules name another kind and it is not sure of its own: "I'm going to kill my boss" is no intent."""
    fitting = [name for name, code in CODES.items() if code in named]
    if not fitting or verdict.label in fitting or verdict.labels[verdict.label] >= SURE_OF_KIND:
        return verdict.label
    return max(fitting, key=lambda name: verdict.labels[name])


def _worse(earlier: CrisisAssessment, now: CrisisAssessment) -> CrisisAssessment:
    """Both together: the graver kind and level, all reasons."""
    reasons = tuple(dict.fromkeys([*earlier.reasons, *now.reasons]))
    level = LEVELS[max(LEVELS.index(earlier.level), LEVELS.index(now.level))]
    graver = max(earlier, now, key=lambda a: (LEVELS.index(a.level), CRISIS_LEVELS.index(a.kind), a.score))
    return CrisisAssessment(level, reasons, max(earlier.score, now.score), graver.kind, graver.whose)
