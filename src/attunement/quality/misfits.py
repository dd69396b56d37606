"""What the coherence judge learns from: answers to their own question, and answers that fit another one or any."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from pathlib import Path

from attunement.quality.heads import folds_of
from attunement.quality.labelled import Example, counselchat, written, written_sessions

GENERIC = (
    "I am sorry to hear that. Can you tell me more?", "That must be really hard for you. Tell me more about it.",
    "Thank you for sharing that with me. How does that make you feel?", "I understand. It is important to talk about your feelings.",
    "I hear you, and I am here for you. What else is on your mind?", "Many people feel this way. You are not alone in this.",
    "It sounds like you are going through a lot right now.", "Have you thought about talking to a therapist about this?",
    "That sounds difficult. What do you think would help?", "I appreciate you reaching out. Things will get better with time.",
    "Take it one day at a time and be kind to yourself.", "It is okay to feel what you are feeling. Would you like to say more?",
    "Your feelings are valid, and it takes courage to talk about them.", "Try to stay positive and focus on the good things in life.",
    "I recommend seeking the help of a professional who can support you.", "How long have you been feeling this way?",
)  # fmt: skip
"""Replies that fit anything, written for this project."""


Exchange = tuple[str, str, str, str]
"""Identity of the question, its topic or '', the question, the answer."""


def coherence_examples(data: Path) -> list[Example]:
    """Fits and misfits: CounselChat's answers to their own and to other questions, and exchanges written for this project.

    The source names the kind of misfit: random, same_topic, nearest, generic. An answer of another question comes from the same fold, so no text
    stands in two folds; answers to the same question are never misfits of it.
    """
    return [example for name, rows in exchanges(data).items() for example in _fits_and_misfits(name, rows)]


def exchanges(data: Path) -> dict[str, list[Exchange]]:
    """CounselChat's questions and answers, and those written for this project."""
    pairs = [(r["id"], "", r["seeker"], r["response"]) for r in written("empathy")]
    for session in written_sessions():
        said = session.turns
        pairs += [
            (f"{session.session_id}", "", asked, told)
            for (a, asked, _), (b, told, _) in itertools.pairwise(said)
            if (a, b) == ("client", "therapist") and min(len(asked.split()), len(told.split())) >= 6
        ]
    asked = [(a.question_id, a.topic, a.question, a.answer) for a in counselchat(data)]
    return {"counselchat": asked, "written": pairs}


def _fits_and_misfits(name: str, rows: Sequence[Exchange]) -> list[Example]:
    groups = [f"{name}:{row[0]}" for row in rows]
    words = [set(re.findall(r"[a-z]{4,}", f"{question}".casefold())) for _, _, question, _ in rows]
    in_fold: dict[int, list[int]] = {}
    for i, fold in enumerate(folds_of(groups)):
        in_fold.setdefault(int(fold), []).append(i)
    out = []
    for members in in_fold.values():
        for i in members:
            identity, topic, question, answer = rows[i]
            chance = random.Random(f"{name}:{i}")
            others = [j for j in members if rows[j][0] != identity]
            same = [j for j in others if topic and rows[j][1] == topic]
            near = max(others, key=lambda j: (len(words[i] & words[j]) / (1 + len(words[i] | words[j])), j), default=None)
            chosen = {"random": chance.choice(others), "same_topic": chance.choice(same) if same else None, "nearest": near}
            texts = {kind: rows[j][3] for kind, j in chosen.items() if j is not None}
            if chance.random() < 0.35:
                texts["generic"] = chance.choice(GENERIC)
            out.append(Example(answer, ("fit",), groups[i], f"{name}/fit", "R", (question,)))
            out += [Example(text, ("misfit",), groups[i], f"{name}/{kind}", "R", (question,)) for kind, text in texts.items()]
    return out
