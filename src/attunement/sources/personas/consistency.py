"""Whether a dialogue keeps to its personas: what each stretch does and sounds like, measured, against what its persona should.

Every finding has a reason code; a dialogue with any of them is rejected with it.

    technique_out_of_range       a share whose whole interval lies outside the persona's range; a short stretch has a wide interval
    style_out_of_range           turns longer or shorter than the persona's, likewise
    sounds_like_another_persona  the stretch as a whole fits another persona better
    turn_of_another_persona      a single turn does, surely
    forbidden_move               a rule of what this persona must never say, or a technique beyond what it allows
    switch_not_needed            nothing in the client's words calls for the persona that takes over
    switch_not_bridged           the shift is not named
    danger_not_answered          danger in the client's words, and the next turn is not the safety persona's
    safety_left_too_soon         the safety persona hands over before it is settled
    unknown_persona, no_persona  the dialogue names a persona that is not given, or none
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.quality.panel import Judges
from attunement.quality.rules import hits, lexicon
from attunement.quality.techniques import TECHNIQUES
from attunement.quality.verdicts import Item
from attunement.sources.personas.dialogues import DialogueSet, Segment
from attunement.sources.personas.files import GROUP_OF, GROUPS, Persona
from attunement.sources.personas.switching import SAFETY_STAYS, NeedDetector, Reading
from attunement.sources.personas.voice import PersonaVoice, techniques_of

CONFIDENCE = 0.9
"""Of the intervals: both sides together leave 10 % out."""
TURN_ODDS, SEGMENT_ODDS = 2.0, 1.0
"""Log odds, of a turn and mean over a stretch's turns, from which another persona is named; set on six of the twelve scenarios, where
no turn reaches 1 that is its persona's own and 93 % of the others reach 2."""
NEUTRAL = 0.5
"""Probability of `other` (greetings, closings) from which a turn by itself is nobody's."""
UNNEEDED = 0.25
"""Probability of the need that a switch is for, under which (at its turn and the one before) nothing called for it."""
BRIDGED = 0.55
"""Cosine of a turn's beginning to the nearest written bridge from which it counts as one."""
_SENTENCES = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Finding:
    """One inconsistency: its code, the turn or the first turn of the stretch, and what was measured."""

    code: str
    place: int
    detail: str


@dataclass(frozen=True)
class Measured:
    """What one stretch does: `shares` group to (mean, low, high); `voice` persona to mean probability; words a turn."""

    persona: str
    turns: int
    shares: Mapping[str, tuple[float, float, float]]
    words: float
    voice: Mapping[str, float]


@dataclass(frozen=True)
class ConsistencyReport:
    """What `validate_persona_consistency` gives. `consistent` is true where there is no finding.

    `details`: the `needs` of the client's turns by place; under `possible_danger` the turns that a clinician should see, since the judge
    finds danger where nobody says that there is.
    """

    dialogue_id: str
    findings: Sequence[Finding] = ()
    segments: Sequence[Measured] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def consistent(self) -> bool:
        return not self.findings

    @property
    def reasons(self) -> tuple[str, ...]:
        """The codes, each once, in the order found."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))


class ConsistencyValidator:
    """Judges dialogues against `personas`. `bridges` are wordings by (need before, need after).

    With `told_needs` a need that stands in the dialogue counts more than what the detector reads of the words.
    """

    def __init__(
        self,
        judges: Judges,
        personas: Mapping[str, Persona],
        bridges: Mapping[tuple[str, str], Sequence[str]],
        *,
        told_needs: bool = True,
    ) -> None:
        self.judges, self.personas, self.told_needs = judges, personas, told_needs
        self.voice = PersonaVoice(judges, list(personas.values()))
        self.detector = NeedDetector(judges)
        self._bridges = {key: judges.vectors(list(wordings)) for key, wordings in bridges.items()}

    def validate(self, dialogue: DialogueSet) -> ConsistencyReport:
        """All findings, by stretch and then by switch."""
        segments = dialogue.segments()
        if not segments:
            return ConsistencyReport(dialogue.dialogue_id, (Finding("no_persona", 0, "no therapist speaks"),))
        for segment in segments:
            if segment.persona not in self.personas:
                finding = Finding("unknown_persona", segment.places[0], segment.persona or "a turn without a persona")
                return ConsistencyReport(dialogue.dialogue_id, (finding,))
        findings: list[Finding] = []
        measured = []
        for segment in segments:
            found, figures = self._segment(dialogue, segment)
            findings += found
            measured.append(figures)
        readings = self._readings(dialogue)
        findings += [f for pair in itertools.pairwise(segments) for f in self._switch(dialogue, *pair, readings)]
        findings += self._danger(dialogue, readings)
        needs = {str(place): self._need(dialogue, place, reading) for place, reading in readings.items()}
        possible = [place for place, reading in readings.items() if reading.danger and needs[str(place)] != "safety"]
        return ConsistencyReport(
            dialogue.dialogue_id, tuple(findings), tuple(measured), {"needs": needs, "possible_danger": possible}
        )

    # --- stretches --------------------------------------------------------------------------------------------------

    def _segment(self, dialogue: DialogueSet, segment: Segment) -> tuple[list[Finding], Measured]:
        persona, first = self.personas[segment.persona], segment.places[0]
        items = [Item(dialogue.turns[i].own_text, (dialogue.before(i),) if dialogue.before(i) else ()) for i in segment.places]
        techniques = techniques_of(self.judges, items)
        shares = {name: interval(techniques, name) for name in (*GROUPS, *TECHNIQUES)}
        words = np.asarray([len(item.text.split()) for item in items], dtype=float)
        odds = np.log(np.maximum(self.voice.probabilities(items), 1e-9))
        own = self.voice.names.index(persona.id)
        voice = {name: round(float(p), 4) for name, p in zip(self.voice.names, np.exp(odds).mean(0), strict=True)}
        findings = [
            Finding("technique_out_of_range", first, f"{name}: {low:.2f} to {high:.2f}, not {share.low:.2f} to {share.high:.2f}")
            for name, share in persona.techniques.items()
            for _, low, high in [shares[name]]
            if low > share.high or high < share.low
        ]
        findings += _style(persona, words, first)
        neutral = techniques[:, TECHNIQUES.index("other")] >= NEUTRAL
        neutral |= np.asarray([place == dialogue.segments()[-1].places[-1] for place in segment.places])  # a leave-taking
        findings += self._sounds(segment, odds - odds[:, own : own + 1], neutral)
        findings += _forbidden(persona, items, shares, segment)
        kept = {
            name: (round(mean, 4), round(low, 4), round(high, 4)) for name, (mean, low, high) in shares.items() if name in GROUPS
        }
        return findings, Measured(persona.id, len(items), kept, round(float(words.mean()), 1), voice)

    def _sounds(self, segment: Segment, odds: NDArray[np.float64], neutral: NDArray[np.bool_]) -> list[Finding]:
        """`odds` `[turns, personas]`: log odds of each persona against the one that is named."""
        mean = odds.mean(0)
        if mean.max() > SEGMENT_ODDS and not neutral.all():
            return [Finding("sounds_like_another_persona", segment.places[0], self.voice.names[int(mean.argmax())])]
        return [
            Finding("turn_of_another_persona", place, self.voice.names[int(row.argmax())])
            for place, row, nobodys in zip(segment.places, odds, neutral, strict=True)
            if row.max() > TURN_ODDS and not nobodys
        ]

    # --- switches ---------------------------------------------------------------------------------------------------

    def _readings(self, dialogue: DialogueSet) -> dict[int, Reading]:
        places = [i for i, turn in enumerate(dialogue.turns) if turn.role == "client"]
        found = self.detector.read([dialogue.turns[i].text for i in places], [dialogue.before(i) for i in places])
        return dict(zip(places, found, strict=True))

    def _need(self, dialogue: DialogueSet, place: int, reading: Reading) -> str:
        told = dialogue.turns[place].need
        return told if told and self.told_needs else reading.need

    def _switch(self, dialogue: DialogueSet, before: Segment, after: Segment, readings: Mapping[int, Reading]) -> list[Finding]:
        start, end = (self.personas[segment.persona].serves for segment in (before, after))
        place = after.places[0]
        if start == end:
            return []
        asked = [p for p in readings if p < place][-2:]
        needs = [self._need(dialogue, p, readings[p]) for p in asked]
        findings = []
        if end not in needs and not self._likely(end, [readings[p] for p in asked]):
            findings.append(
                Finding("switch_not_needed", place, f"{end}: the client's words call for {needs[-1] if needs else 'nothing'}")
            )
        if not self._named(dialogue, place, (start, end)):
            findings.append(Finding("switch_not_bridged", place, f"from {start} to {end}"))
        if start == "safety":
            calm = all(need != "safety" for need in needs)
            if (not calm and not self.told_needs) or len(before.places) < SAFETY_STAYS:
                findings.append(Finding("safety_left_too_soon", place, f"after {len(before.places)} turns"))
        return findings

    def _likely(self, need: str, readings: Sequence[Reading]) -> bool:
        """Whether the detector finds `need` at least possible; a told need is not asked here."""
        if self.told_needs or not readings:
            return False
        if need == "safety":
            return any(reading.level != "none" for reading in readings)
        return max(reading.probability(need) for reading in readings) >= UNNEEDED

    def _named(self, dialogue: DialogueSet, place: int, switch: tuple[str, str]) -> bool:
        """Whether the turn begins with words that are near a bridge for this switch, in its first or its first two sentences."""
        sentences = _SENTENCES.split(dialogue.turns[place].text)
        starts = [" ".join(sentences[:many]) for many in (1, 2)]
        known = self._bridges.get(switch)
        return known is not None and float((self.judges.vectors(starts) @ known.T).max()) >= BRIDGED

    def _danger(self, dialogue: DialogueSet, readings: Mapping[int, Reading]) -> list[Finding]:
        """Danger that the very next therapist's turn does not take up as the safety persona."""
        out = []
        for place, reading in readings.items():
            following = next((t for t in dialogue.turns[place + 1 :] if t.role == "therapist"), None)
            if following is None or self.personas[following.persona].serves == "safety":
                continue
            if self._need(dialogue, place, reading) == "safety":
                out.append(Finding("danger_not_answered", place, f"{reading.level}, answered by {following.persona}"))
        return out


def interval(techniques: NDArray[np.float64], name: str) -> tuple[float, float, float]:
    """(mean, low, high) of the share of a group or technique over turns `[n, 8]`: a Beta interval with Jeffreys' prior."""
    from scipy.stats import beta

    columns = [i for i, technique in enumerate(TECHNIQUES) if name in (technique, GROUP_OF[technique])]
    inside = float(techniques[:, columns].sum())
    n = len(techniques)
    low, high = beta.ppf(((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), inside + 0.5, n - inside + 0.5)
    mean = inside / n
    return mean, min(float(low), mean), max(float(high), mean)


def _style(persona: Persona, words: NDArray[np.float64], place: int) -> list[Finding]:
    mean, spread = words.mean(), words.std(ddof=1) if len(words) > 1 else words.mean() / 2
    margin = 1.645 * spread / np.sqrt(len(words))
    if mean - margin > persona.turn_words.high or mean + margin < persona.turn_words.low:
        wanted = f"{persona.turn_words.low:g} to {persona.turn_words.high:g}"
        return [Finding("style_out_of_range", place, f"{mean:.0f} words a turn, not {wanted}")]
    return []


def _forbidden(
    persona: Persona, items: Sequence[Item], shares: Mapping[str, tuple[float, float, float]], segment: Segment
) -> list[Finding]:
    """Rules on every turn: those that block for all personas, the persona's own, and techniques surely beyond its limit."""
    own = {code for ban in persona.forbidden for code in ban.rules}
    out = [
        Finding("forbidden_move", place, hit.code)
        for place, item in zip(segment.places, items, strict=True)
        for hit in hits(lexicon("appropriateness"), item.text)
        if hit.level == "blocks" or hit.code in own
    ]
    return out + [
        Finding(
            "forbidden_move",
            segment.places[0],
            f"{ban.move}: {ban.technique} in at least {shares[ban.technique][1]:.2f} of the turns",
        )
        for ban in persona.forbidden
        if ban.technique and shares[ban.technique][1] > ban.at_most
    ]
