"""The parts of the dual personas on labelled data.

Technique tagger on AnnoMI (`shipped`: trained on our own texts only, `trained`: cross-validated over AnnoMI's sessions), detector of the
need by cross-validation over scenes and on the written dialogues, which it never saw, and `validate_persona_consistency` on written
dialogues and on negatives made of them. Its thresholds were set on six of the twelve scenarios; the others are `test`.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from numpy.typing import NDArray

import quality as bench
from attunement.quality.heads import targets_of
from attunement.quality.judges import JUDGES
from attunement.quality.panel import Judges
from attunement.quality.techniques import BEHAVIOUR_OF, TECHNIQUES, annomi_techniques
from attunement.quality.verdicts import Item
from attunement.sources.personas.consistency import ConsistencyValidator
from attunement.sources.personas.dialogues import DialogueSet, PersonaTurn
from attunement.sources.personas.files import bridges, clients, therapists
from attunement.sources.personas.grammar import PersonaGrammar, playable
from attunement.sources.personas.scenarios import Scenario, scenarios
from attunement.sources.personas.switching import ContextSwitcher, NeedDetector
from attunement.sources.personas.voice import PersonaVoice

PUBLISHED = {
    "four behaviours, AnnoMI, macro-F1": {
        "Wu et al. 2023 (BERT with adapters, text, as cited by Hossain et al. 2024)": 0.72,
        "Hossain et al. 2024, M3TCM (RoBERTa and audio, ten turns of context)": 0.83,
    }
}
"""Read in arXiv 2404.03312 (abstract and summary); their folds are not ours."""
BEHAVIOURS = tuple(dict.fromkeys(BEHAVIOUR_OF.values()))
COUNT = 144


def measure(shared: Path, home: Path) -> dict[str, Any]:
    started, judges = time.monotonic(), Judges()
    figures = {
        "machine": machine.describe(),
        "published": PUBLISHED,
        "technique": technique(shared / "data"),
        "need": need(judges),
        "voice": voice(judges),
        "consistency": consistency(judges),
    }
    return figures | {"seconds": round(time.monotonic() - started, 1)}


# --- the tagger -----------------------------------------------------------------------------------------------------


def technique(data: Path) -> dict[str, Any]:
    """AnnoMI has no validation: where the tagger says so, it counts as other."""
    judge = JUDGES["technique"]
    examples, found, wanted, _ = bench.cross_validated(judge, "annomi", data=data)
    every = annomi_techniques(data)
    own, head = bench.shipped(judge, every)
    base = bench.baseline(examples, judge.shape.classes)
    written, own_found, own_wanted, heads = bench.cross_validated(judge, "written", data=None)
    return {
        "annomi": {
            "turns": len(every),
            "trained": scores(found, wanted),
            "shipped": scores(own, targets_of(judge.shape, [e.labels for e in every])),
            "baseline (TF-IDF)": scores(base, wanted),
            "confusion, trained": bench.confusion(TECHNIQUES, folded(found).argmax(1), wanted),
        },
        "written, cross-validated over scenes and sessions": {
            "turns": len(written),
            "macro_f1, eight techniques": bench.macro(bench.said_by(heads, own_found), own_wanted),
            "calibration_error": head.notes["figures"]["calibration_error"],
        },
    }


def folded(found: NDArray[np.float64]) -> NDArray[np.float64]:
    out = found.copy()
    out[:, TECHNIQUES.index("other")] += out[:, TECHNIQUES.index("validation")]
    out[:, TECHNIQUES.index("validation")] = 0
    return out


def scores(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, float]:
    def coarse(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = [[i for i, name in enumerate(TECHNIQUES) if BEHAVIOUR_OF[name] == behaviour] for behaviour in BEHAVIOURS]
        return np.stack([rows[:, places].sum(1) for places in columns], axis=1)

    return {
        "macro_f1, seven techniques": bench.macro(folded(found).argmax(1), wanted),
        "macro_f1, four behaviours": bench.macro(coarse(found).argmax(1), coarse(wanted)),
    }


# --- the detector ---------------------------------------------------------------------------------------------------


def need(judges: Judges) -> dict[str, Any]:
    """Alone by cross-validation; on whole written dialogues turn by turn, with danger and with the switcher's rules."""
    examples, found, wanted, _ = bench.cross_validated(JUDGES["need"], "written", data=None)
    right = found.argmax(1) == wanted.argmax(1)
    replies = np.asarray([bool(e.context) for e in examples])
    detector, alone, followed = NeedDetector(judges), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    flips, told_switches, late = 0, 0, []
    for dialogue in dialogues():
        places = [i for i, turn in enumerate(dialogue.turns) if turn.role == "client"]
        readings = detector.read([dialogue.turns[i].text for i in places], [dialogue.before(i) for i in places])
        switcher = ContextSwitcher()
        said = [switcher.observe(reading) for reading in readings]
        told = [dialogue.turns[i].need for i in places]
        alone.update(zip(told, (r.need for r in readings), strict=True))
        followed.update(zip(told, said, strict=True))
        flips += sum(a != b for a, b in itertools.pairwise(said))
        told_switches += sum(a != b for a, b in itertools.pairwise(told))
        late += [next((n for n in range(len(told) - i) if said[i + n] == "safety"), 9) for i in starts(told, "safety")]
    return {
        "cross-validated over scenes": {
            "turns": len(examples),
            "accuracy": round(float(right.mean()), 4),
            "accuracy of replies": round(float(right[replies].mean()), 4),
        },
        "written dialogues, turn by turn": {"accuracy": accuracy(alone), "confusion": table(alone)},
        "written dialogues, with the switcher": {
            "accuracy": accuracy(followed),
            "confusion": table(followed),
            "switches": flips,
            "switches told": told_switches,
            "safety at the first dangerous turn": share(delay == 0 for delay in late),
            "safety within one turn more": share(delay <= 1 for delay in late),
        },
    }


def starts(told: Sequence[str], need: str) -> list[int]:
    return [i for i, one in enumerate(told) if one == need and (i == 0 or told[i - 1] != need)]


def accuracy(pairs: Mapping[tuple[str, str], int]) -> float:
    return round(sum(n for (a, b), n in pairs.items() if a == b) / sum(pairs.values()), 4)


def table(pairs: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    return {a: {b: n for (first, b), n in sorted(pairs.items()) if first == a} for a in sorted({first for first, _ in pairs})}


def share(flags: Iterable[bool]) -> float:
    return round(float(np.mean(list(flags))), 4)


# --- the validator --------------------------------------------------------------------------------------------------


def material() -> list[Scenario]:
    return list(scenarios(None, clients()).values())


def dialogues(count: int = COUNT) -> list[DialogueSet]:
    personas = therapists()
    drawn = PersonaGrammar(personas, bridges(), random.Random(5)).draw(playable(material(), personas))
    return [dialogue for dialogue, _ in zip(drawn, range(count), strict=False)]


def halves() -> dict[str, str]:
    """Every second scenario by name is `set`, on which thresholds were chosen; the others are `test`."""
    return {s.id: "set" if i % 2 == 0 else "test" for i, s in enumerate(sorted(material(), key=lambda s: s.id))}


def voice(judges: Judges) -> dict[str, Any]:
    """How many turns of the scenarios are given to the persona they were written for."""
    personas = therapists()
    heard, serves = PersonaVoice(judges, list(personas.values())), {p.serves: p.id for p in personas.values()}
    right: dict[str, list[bool]] = {"set": [], "test": []}
    for scenario in material():
        for phase in (p for p in scenario.phases.values() if p.need):
            for beat in phase.beats:
                found = heard.probabilities([Item(text, (beat.client[0],)) for text in beat.therapist]).argmax(1)
                right[halves()[scenario.id]] += [heard.names[i] == serves[phase.need] for i in found]
    return {half: {"turns": len(flags), "accuracy": share(flags)} for half, flags in right.items()}


def consistency(judges: Judges) -> dict[str, Any]:
    personas, rng = therapists(), random.Random(7)
    made = dialogues()
    out: dict[str, Any] = {}
    for told in (True, False):
        validator = ConsistencyValidator(judges, personas, bridges(), told_needs=told)
        half = halves()
        figures: dict[str, Any] = {}
        for name, spoil in (("written, consistent", None), *NEGATIVES.items()):
            rows: dict[str, list[bool]] = {"set": [], "test": []}
            reasons = Counter[str]()
            for dialogue in made:
                one = spoil(dialogue, made, rng) if spoil else dialogue
                if one is not None:
                    report = validator.validate(one)
                    rows[half[dialogue.scenario]].append(not report.consistent)
                    reasons.update(report.reasons)
            figures[name] = {
                "rejected": {part: {"dialogues": len(flags), "share": share(flags)} for part, flags in rows.items() if flags},
                "reasons": dict(reasons.most_common()),
            }
        out["needs told by the writer" if told else "needs by the detector alone"] = figures
    return out


Spoil = Callable[[DialogueSet, Sequence[DialogueSet], random.Random], DialogueSet | None]


def shuffled(dialogue: DialogueSet, made: Sequence[DialogueSet], rng: random.Random) -> DialogueSet:
    """The personas' names, exchanged for one another in a ring."""
    names = sorted(therapists())
    step = rng.choice((1, 2))
    ring = {name: names[(i + step) % len(names)] for i, name in enumerate(names)}
    return replace(dialogue, turns=tuple(replace(t, persona=ring.get(t.persona, "")) for t in dialogue.turns))


def swapped(many: int) -> Spoil:
    """`many` turns say what another persona says to the same client."""

    def spoil(dialogue: DialogueSet, made: Sequence[DialogueSet], rng: random.Random) -> DialogueSet:
        turns = list(dialogue.turns)
        for place in rng.sample([i for i, t in enumerate(turns) if t.role == "therapist" and not t.bridge][:-1], many):
            others = [
                t.own_text for d in made if d.client == dialogue.client for t in d.turns[:-2]
                if t.role == "therapist" and t.persona != turns[place].persona
            ]  # fmt: skip
            turns[place] = replace(turns[place], text=rng.choice(sorted(set(others))))
        return replace(dialogue, turns=tuple(turns))

    return spoil


def unbridged(dialogue: DialogueSet, made: Sequence[DialogueSet], rng: random.Random) -> DialogueSet:
    return replace(dialogue, turns=tuple(replace(t, text=t.own_text, bridge="") for t in dialogue.turns))


def early(dialogue: DialogueSet, made: Sequence[DialogueSet], rng: random.Random) -> DialogueSet | None:
    """The second persona takes over, bridge and all, after the first exchange already."""
    segments = dialogue.segments()
    if len(segments) < 2 or len(segments[0].places) < 3:
        return None
    first, second = segments[0].places, segments[1].places
    turns = list(dialogue.turns)
    for place, source in zip(first[1:], second, strict=False):
        turns[place] = turns[source]
    turns[second[0]] = replace(turns[second[0]], text=turns[second[0]].own_text, bridge="")
    return replace(dialogue, turns=tuple(turns))


def unanswered(dialogue: DialogueSet, made: Sequence[DialogueSet], rng: random.Random) -> DialogueSet | None:
    """Danger, and the persona before it goes on with what it said before."""
    segments, serves = dialogue.segments(), {p.id: p.serves for p in therapists().values()}
    if not any(serves[s.persona] == "safety" for s in segments):
        return None
    turns: list[PersonaTurn] = list(dialogue.turns)
    calm = [turns[i] for i in segments[0].places]
    for segment in segments:
        if serves[segment.persona] == "safety":
            for number, place in enumerate(segment.places):
                turns[place] = calm[number % len(calm)]
    return replace(dialogue, turns=tuple(turns))


def preaching(dialogue: DialogueSet, made: Sequence[DialogueSet], rng: random.Random) -> DialogueSet:
    """One turn says what must never be said."""
    bad = rng.choice(
        ("Honestly, you're overreacting.", "I promise I won't tell anyone about this.", "You brought this on yourself.")
    )
    turns = list(dialogue.turns)
    place = rng.choice([i for i, t in enumerate(turns) if t.role == "therapist"])
    turns[place] = replace(turns[place], text=f"{turns[place].text} {bad}")
    return replace(dialogue, turns=tuple(turns))


NEGATIVES: Mapping[str, Spoil] = {
    "personas' names shuffled": shuffled,
    "one turn of another persona": swapped(1),
    "two turns of another persona": swapped(2),
    "no bridge": unbridged,
    "switch two exchanges too early": early,
    "danger not answered": unanswered,
    "something that must never be said": preaching,
}
