"""`PersonalityProfile`: how somebody speaks, each marker with its evidence and uncertainty, none from too few words.

    openness, conscientiousness, extraversion,   words against published correlations with self-described traits (Yarkoni 2010): marks of
      agreeableness, neuroticism                   language, like a trait's; no assessment of a person, never for clinical use
    self_focus, we_ness, hedging, affirmation,   rates of word classes; share of sentences that ask
      dominance, questions
    warmth, directiveness                        nearness of sentence vectors to written examples of both poles
    emotional_reaction, interpretation,          EPITOME's components (Sharma 2020) by the judges of the same names, mean over responses
      exploration
    speech_rate, pauses, pitch_range, energy,    sound, scaled by published ranges
      energy_range

How many words a marker needs was measured (`lexicon/reliability.json`): from so many on, two halves of what one speaker says in one
conversation agree with a reliability of 0.7 (Nunnally 1978). What would need more than 5,000 words is not given at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import PersonalityProfile, SpokenSegment
from attunement.sources.voice.language_markers import LEXICAL, Said, draws, lexical_evidence, lexical_markers, placed, said_of
from attunement.sources.voice.lexicon_counts import FOLDER, written
from attunement.sources.voice.style import style_vector

AXES = ("warmth", "directiveness")
EMPATHY = ("emotional_reaction", "interpretation", "exploration")
LEAST_STRETCHES, MOST_ERROR = 5, 0.1
"""Of sound: from fewer stretches of speech, or with a greater standard error (of the 0-1 scale), nothing is given."""


@dataclass(frozen=True)
class Response:
    """What a speaker says in one go, after what the other said."""

    text: str
    before: str


@dataclass(frozen=True)
class Marker:
    """A value (0-1) with its standard error and what it rests on."""

    value: float
    error: float
    evidence: tuple[str, ...]


def profiles_of(segments: Sequence[SpokenSegment], judges: Judges) -> dict[str, PersonalityProfile]:
    """The profile of each speaker of one recording, in the order in which they first speak."""
    return {name: profile_of(segments, judges, name) for name in dict.fromkeys(segment.speaker for segment in segments)}


def profile_of(segments: Sequence[SpokenSegment], judges: Judges, speaker: str) -> PersonalityProfile:
    """How `speaker` speaks, from a recording's segments in order; the others' are what the speaker answers.

    Raises `ModelError` when a judge has no weights.
    """
    own = [segment for segment in segments if segment.speaker == speaker]
    role = next((segment.role for segment in own if segment.role), "")
    said = said_of([segment.text for segment in own])
    found: dict[str, Marker] = {}
    if said.total:
        found |= dict(_lexical(said, role))
        found |= dict(_axes(said, role, judges))
        found |= dict(_empathy(responses(segments, speaker), judges))
    found = {name: marker for name, marker in found.items() if given(name, said.total)}
    found |= dict(_sound(own))
    return PersonalityProfile(
        speaker,
        {name: marker.value for name, marker in found.items()},
        said.total,
        {name: marker.evidence for name, marker in found.items()},
        {name: marker.error for name, marker in found.items()},
        tuple(round(float(x), 6) for x in style_vector([segment.text for segment in own])),
        round(sum(segment.end_seconds - segment.start_seconds for segment in own), 3),
    )


@cache
def reliability() -> Mapping[str, Any]:
    """By marker `least_words` (None: never reliable enough) and how it was measured."""
    return dict(json.loads((FOLDER / "reliability.json").read_text(encoding="utf-8")))


def given(name: str, words: int) -> bool:
    """Whether so many words are enough for the marker `name`."""
    least = reliability()["markers"].get(name, {}).get("least_words")
    return least is not None and words >= least


def responses(segments: Sequence[SpokenSegment], speaker: str) -> list[Response]:
    """What `speaker` says after somebody else, segments in a row joined."""
    found: list[Response] = []
    before, own = "", ""
    for segment in (*segments, None):
        if segment is not None and segment.speaker == speaker:
            own = f"{own} {segment.text}".strip()
            continue
        if own and before:
            found.append(Response(own, before))
        if own:
            before, own = "", ""
        before = f"{before} {segment.text}".strip() if segment is not None else before
    return found


def _lexical(said: Said, role: str) -> Iterator[tuple[str, Marker]]:
    values = lexical_markers(said, role)
    for name in LEXICAL:
        value, error = values[name]
        yield name, Marker(value, error, lexical_evidence(name, said, role))


def axis_scores(sentences: Sequence[str], judges: Judges) -> dict[str, NDArray[np.float64]]:
    """Of each sentence how far it lies towards the high pole of each axis, `[n]` (cosine with the difference of the poles' means)."""
    vectors = judges.vectors(sentences)
    found = {}
    for name in AXES:
        poles = written("personality")["axes"][name]
        axis = judges.vectors(poles["high"]).mean(0) - judges.vectors(poles["low"]).mean(0)
        found[name] = np.asarray(vectors @ (axis / np.linalg.norm(axis)), dtype=np.float64)
    return found


def _axes(said: Said, role: str, judges: Judges) -> Iterator[tuple[str, Marker]]:
    for name, scores in axis_scores(said.sentences, judges).items():
        drawn = draws(len(scores))
        value = placed(name, (scores * said.words).sum() / said.words.sum(), role)[0]
        error = placed(name, (drawn @ (scores * said.words)) / (drawn @ said.words), role).std()
        told = (
            f"{int((scores > 0).sum())} of {len(scores)} sentences are nearer to the high pole, mean cosine {scores.mean():.3f}"
        )
        yield name, Marker(round(float(value), 4), round(float(error), 4), (told,))


def empathy_scores(given_responses: Sequence[Response], judges: Judges) -> dict[str, NDArray[np.float64]]:
    """Expected level of each component in each response, `[n]`: 0 none, 0.5 weak, 1 strong."""
    items = [Item(response.text, (response.before,)) for response in given_responses]
    verdicts = {name: judges.judge(name, items) for name in EMPATHY}
    return {name: np.asarray([v.labels["1"] / 2 + v.labels["2"] for v in found]) for name, found in verdicts.items()}


def _empathy(given_responses: Sequence[Response], judges: Judges) -> Iterator[tuple[str, Marker]]:
    if len(given_responses) < 2:
        return
    for name, scores in empathy_scores(given_responses, judges).items():
        levels = [int((np.round(scores * 2) == level).sum()) for level in range(3)]
        told = f"{len(scores)} responses: {levels[0]} without, {levels[1]} weak, {levels[2]} strong"
        yield name, Marker(round(float(scores.mean()), 4), round(float(scores.std(ddof=1) / len(scores) ** 0.5), 4), (told,))


def _sound(own: Iterable[SpokenSegment]) -> Iterator[tuple[str, Marker]]:
    """Means over stretches, weighed by their length, on the scale of the published range."""
    rows = [(segment.prosody, segment.end_seconds - segment.start_seconds) for segment in own if segment.prosody]
    for name, told in written("personality")["prosody"].items():
        heard = [(prosody[told["of"]], length) for prosody, length in rows if told["of"] in prosody and length > 0]
        if len(heard) < LEAST_STRETCHES:
            continue
        values, lengths = np.asarray(heard).T
        drawn = draws(len(heard))
        scaled = np.clip((values - told["low"]) / (told["high"] - told["low"]), 0, 1)
        error = float(((drawn @ (scaled * lengths)) / (drawn @ lengths)).std())
        if error <= MOST_ERROR:
            mean = float((values * lengths).sum() / lengths.sum())
            evidence = (
                f"{mean:.2f} {told['unit']}, deviation {values.std():.2f} over {len(heard)} stretches",
                f"0 is {told['low']}, 1 is {told['high']} {told['unit']}: {told['source']}",
            )
            yield name, Marker(round(float((scaled * lengths).sum() / lengths.sum()), 4), round(error, 4), evidence)
