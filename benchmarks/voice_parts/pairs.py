"""What `checking` measures pairs by: styles' distances, emotions that answer each other, least scores; and how well each tells apart.

`make_tables` writes the statistics that ship; `measure` tries them on speakers and pairs that had no part in them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attunement.quality.labelled import EKMAN
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import PersonalityProfile
from attunement.sources.voice import checking, emotions
from attunement.sources.voice.checking import LEAST_PROFILE_WORDS, LEAST_STYLE_WORDS, MOST_CLASH, consistency_of
from attunement.sources.voice.emotions import clash, emotional_fit, emotional_likeness, shares_of
from attunement.sources.voice.lexicon_counts import FOLDER, words_of
from attunement.sources.voice.naturalness import LENGTHS, length_class
from attunement.sources.voice.style import style_distance, style_vector
from attunement.storage.files import content_hash, write_json
from voice_parts.naturalness import auc
from voice_parts.people import SPOKEN, Speaker, counselchat_therapists, speakers

MOST_PAIRS, HELD_OUT, LOST = 600, 5, 0.05
CELL_PRIOR = 5.0
"""Pairs at the rate of chance that each cell of the table of emotions is given besides."""
PLANTED = 8
"""Strange responses tried on each speaker."""


def held_out(name: str) -> bool:
    """One conversation in five."""
    return int(content_hash(name.rpartition("/")[0])[:8], 16) % HELD_OUT == 0


def profile_by_style(speaker: Speaker) -> PersonalityProfile:
    style = tuple(float(x) for x in style_vector(speaker.turns))
    return PersonalityProfile(speaker.name, {}, len(words_of(" ".join(speaker.turns))), style=style)


def make_tables(data: Path, judges: Judges) -> None:
    """`style_distances.json` and `emotion_answers.json`, from four conversations in five."""
    people = [s for s in speakers(data, SPOKEN) if not held_out(s.name)]
    pairs = _pairs(people)
    prompts, answers = shares_of([p for p, _, _ in pairs], judges), shares_of([a for _, a, _ in pairs], judges)
    together = prompts.T @ answers / len(pairs)
    alone = np.outer(prompts.mean(0), answers.mean(0))
    ratio = (len(pairs) * together + CELL_PRIOR) / (len(pairs) * alone + CELL_PRIOR)  # a rare pair of emotions shows little
    made = {
        "sets": "spoken sessions: AnnoMI and HLQC of AutoMISC, client to therapist, four conversations in five",
        "pairs": len(pairs),
    }
    write_json(
        FOLDER / "emotion_answers.json",
        {"made_of": made, "groups": list(EKMAN), "ratio": [[round(float(x), 4) for x in row] for row in ratio]},
    )
    emotions.answers_table.cache_clear()
    quantiles, counts = _quantiles(people)
    told: dict[str, Any] = {
        "made_of": {
            **made,
            "speakers": len(people),
            "responses_by_length": counts,
            "least_coherence": f"{LOST:.0%} of real pairs lie below",
        },
        "quantiles": quantiles,
    }
    real = _scores(pairs, judges)
    told["least_coherence"] = round(float(np.quantile(real["coherence"], LOST)), 4)
    write_json(FOLDER / "style_distances.json", told)
    checking.style_distances.cache_clear()


def _quantiles(people: Sequence[Speaker]) -> tuple[dict[str, list[float]], dict[str, int]]:
    found: dict[str, list[float]] = {str(n): [] for n in range(len(LENGTHS) + 1)}
    for speaker in people:
        profile = profile_by_style(speaker)
        if profile.words < LEAST_PROFILE_WORDS:
            continue
        for turn in speaker.turns:
            if len(turn.split()) >= LEAST_STYLE_WORDS:
                found[length_class(len(turn.split()))].append(style_distance(turn, profile))
    steps = np.arange(1, 100) / 100
    rows = {name: [round(float(q), 4) for q in np.quantile(values, steps)] for name, values in found.items() if values}
    return rows, {name: len(values) for name, values in found.items() if values}


def _pairs(people: Sequence[Speaker]) -> list[tuple[str, str, str]]:
    """Client's words, therapist's response, speaker; of each at least four words."""
    found = [
        (before, turn, s.name)
        for s in people
        if s.role == "therapist"
        for before, turn in zip(s.before, s.turns, strict=True)
        if min(len(before.split()), len(turn.split())) >= 4
    ]
    return random.Random(19).sample(found, min(MOST_PAIRS, len(found)))


def _scores(pairs: Sequence[tuple[str, str, str]], judges: Judges) -> dict[str, np.ndarray]:
    prompts, answers = shares_of([p for p, _, _ in pairs], judges), shares_of([a for _, a, _ in pairs], judges)
    fit, like = emotional_fit(prompts, answers), np.empty(len(pairs))
    names = [name for _, _, name in pairs]
    for name in set(names):
        here = np.asarray([n == name for n in names])
        like[here] = emotional_likeness(answers[here].mean(0), answers[here])
    coherence = np.asarray([v.score for v in judges.judge("coherence", [Item(a, (p,)) for p, a, _ in pairs])])
    return {"fit": fit, "likeness": like, "emotional": (fit + like) / 2, "coherence": coherence}


def measure(data: Path, judges: Judges) -> dict[str, Any]:
    """On held-out conversations: real pairs against responses of other conversations, responses against other speakers' styles."""
    people = [s for s in speakers(data, SPOKEN) if held_out(s.name)]
    pairs = _pairs(people)
    rng = random.Random(20)
    strange = [(p, a, name) for (p, _, name), (_, a, _) in zip(pairs, _moved(pairs, rng), strict=True)]
    real, other = _scores(pairs, judges), _scores(strange, judges)
    out: dict[str, Any] = {"pairs": len(pairs)}
    out["auc_real_against_another_conversations_answer"] = {name: round(auc(real[name], other[name]), 3) for name in real}
    least = checking.least_coherence()
    out["coherence_below_least"] = {
        "real": round(float((real["coherence"] < least).mean()), 3),
        "another": round(float((other["coherence"] < least).mean()), 3),
    }
    out["clash"] = _clashes(pairs, judges)
    out["consistency"] = _consistency(people)
    out["style_across_topics"] = style_across_topics(data, judges)
    return out


GLEEFUL = (
    "Ha, that is hilarious, you really made me laugh!", "How exciting, I can hardly wait to hear more!", "Yay, what a wonderful day this is!",
    "That is so funny, I love a good joke.", "Wow, I am so happy and excited about that!", "Haha, brilliant, what fun that must be!",
)  # fmt: skip
"""Delight where it does not belong, written for this project."""


def _clashes(pairs: Sequence[tuple[str, str, str]], judges: Judges) -> dict[str, Any]:
    """Share of real pairs that are taken for clashes, and of real prompts in distress with one of `GLEEFUL` as response."""
    real = clash([p for p, _, _ in pairs], [a for _, a, _ in pairs], judges)
    dark = [p for p, _, _ in pairs if clash([p], [GLEEFUL[0]], judges)[0] > 0.5 * clash([DISTRESS], [GLEEFUL[0]], judges)[0]]
    planted = clash(dark, [GLEEFUL[n % len(GLEEFUL)] for n in range(len(dark))], judges)
    return {
        "real": round(float((real >= MOST_CLASH).mean()), 4),
        "prompts_in_distress": len(dark),
        "planted": round(float((planted >= MOST_CLASH).mean()), 3),
    }


DISTRESS = "I am so sad since my mother died, I cry all the time."


def _moved(pairs: Sequence[tuple[str, str, str]], rng: random.Random) -> list[tuple[str, str, str]]:
    """The pairs in an order in which none stands beside its own conversation."""
    return [rng.choice([other for other in pairs if other[2] != pair[2]]) for pair in pairs]


def _consistency(people: Sequence[Speaker]) -> dict[str, Any]:
    """Percentiles of own responses, and of planted ones: the other side's of the same conversation, the same role's of another."""
    profiles = {s.name: profile_by_style(s) for s in people}
    sides: dict[str, list[Speaker]] = {}
    for s in people:
        sides.setdefault(s.name.rpartition("/")[0], []).append(s)
    rng = random.Random(21)
    rows: dict[str, list[tuple[int, float]]] = {"own": [], "other_side": [], "same_role_elsewhere": []}
    for s in people:
        other = rng.choice([o for o in people if o.role == s.role and o is not s]).turns
        strange = {
            "other_side": [t for o in sides[s.name.rpartition("/")[0]] if o is not s for t in o.turns],
            "same_role_elsewhere": list(other),
        }
        planted = [("own", turn, profiles[s.name]) for turn in s.turns]
        for kind, turns in strange.items():  # one at a time taken for the speaker's: it is in the profile, as it would be
            for turn in rng.sample(turns, min(PLANTED, len(turns))):
                planted.append((kind, turn, profile_by_style(replace(s, turns=(*s.turns, turn)))))
        for kind, turn, profile in planted:
            score = consistency_of(turn, profile)
            if score is not None:
                rows[kind].append((int(length_class(len(turn.split()))), score))
    out: dict[str, Any] = {}
    for length in ("all", *range(1, len(LENGTHS) + 1)):
        found = {kind: [score for n, score in values if length in ("all", n)] for kind, values in rows.items()}
        out[str(length)] = {
            "responses": len(found["own"]),
            **{
                f"below_{cut}": {kind: round(float(np.mean(np.asarray(v) < cut)), 3) for kind, v in found.items()}
                for cut in (0.05, 0.2)
            },
            **{f"auc_{kind}": round(auc(found["own"], found[kind]), 3) for kind in ("other_side", "same_role_elsewhere")},
        }
    return out


def style_across_topics(data: Path, judges: Judges, least: int = 4, most_words: int = 600) -> dict[str, Any]:
    """CounselChat's therapists with answers to questions of several topics: halves by topic, is the same therapist's half the nearest?

    AUC of same-therapist against other-therapist likeness, and how often the own half is the nearest of all.
    """
    halves: list[tuple[list[str], list[str]]] = []
    for answers in counselchat_therapists(data).values():
        topics = sorted({topic for topic, _ in answers})
        sides = [[text for topic, text in answers if topic in part] for part in (set(topics[::2]), set(topics[1::2]))]
        if len(topics) >= least and all(len(" ".join(side).split()) >= 300 for side in sides):
            cut = [" ".join(" ".join(side).split()[:most_words]) for side in sides]
            halves.append(([cut[0]], [cut[1]]))
    ways = {"function_words": lambda texts: style_vector(texts), "sentence_vectors": lambda texts: _plain(texts, judges)}
    out: dict[str, Any] = {"therapists": len(halves), "words": most_words}
    vectors = {}
    for name, way in ways.items():
        a, b = (np.stack([way(pair[side]) for pair in halves]) for side in (0, 1))
        vectors[name] = (a, b)
        out[name] = _told_apart(a @ b.T)
    a, b = vectors["sentence_vectors"]
    mean = np.concatenate([a, b]).mean(0)
    a, b = (_unit(x - mean) for x in (a, b))
    out["sentence_vectors_centred"] = _told_apart(a @ b.T)
    f = vectors["function_words"]
    out["both"] = _told_apart(f[0] @ f[1].T + a @ b.T)
    return out


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9))


def _plain(texts: Sequence[str], judges: Judges) -> np.ndarray:
    from attunement.sources.knowledge.segmentation import units

    return _unit(judges.vectors([sentence for text in texts for sentence in units(text)]).mean(0))


def _told_apart(likeness: np.ndarray) -> dict[str, float]:
    same, other = np.diag(likeness), likeness[~np.eye(len(likeness), dtype=bool)]
    return {
        "auc": round(auc(list(same), list(other)), 3),
        "nearest": round(float((likeness.argmax(1) == np.arange(len(same))).mean()), 3),
    }
