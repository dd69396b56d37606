"""What the coherence judge learns from: answers to their own question, and answers that fit another one or any."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from pathlib import Path

from attunement.quality.heads import folds_of
from attunement.quality.labelled import Example, counselchat, written
from attunement.quality.own_sets import written_sessions

GENERIC = (
    "I am sorry to hear that. Can you tell me more?", "That must be really hard for you. Tell me more about it.",
    "Thank you for sharing that with me. How does that make you feel?", "I understand. It is important to talk about your feelings.",
    "I hear you, and I am here for you. What else is on your mind?", "Many people feel this way. You are not alone in this.",
    "It sounds like you are going through a lot right now.", "Have you thought about talking to a therapist about this?",
    "That sounds difficult. What do you think would help?", "I appreciate you reaching out. Things will get better with time.",
    "Take it one day at a time and be kind to yourself.", "It is okay to feel what you are feeling. Would you like to say more?",
    "Your feelings are valid, and it takes courage to talk about them.", "Try to stay positive and focus on the good things in life.",
    "I recommend seeking the help of a professional who can support you.", "How long have you been feeling this way?",
    "I see. And how did that make you feel?", "Sorry you are going through this. I am always here to listen.",
    "That is understandable. Please go on.", "Thank you for your message. I want you to know that you matter.",
    "It can be tough at times, but you are stronger than you think.", "I can only imagine how hard this is. Do you want to talk about it?",
    "Everyone has bad days. Tomorrow is a new day.", "What you say is important. Let us explore that together.",
    "I am glad that you opened up to me. What would you like to talk about next?", "That is a great question. It depends on many things.",
    "There is no right or wrong way to feel.", "It is completely normal to feel like that.", "I am here to support you in any way I can.",
    "Remember to breathe and take care of yourself.", "Self-care is very important. Make sure to eat, sleep and rest.",
    "Could you give me some more details about your situation?", "Thanks for trusting me with this. I am proud of you.",
    "I know it is not easy. Keep going, you have got this.", "Life is full of ups and downs, and this too shall pass.",
    "Please know that help is available and that you do not have to do this alone.", "Talking about it is the first step. Well done.",
    "I wish I could make it better for you. Stay strong.", "It is good that you noticed this. Awareness is the beginning of change.",
    "Perhaps writing down your thoughts in a journal could help you.", "Consider mindfulness or meditation to find some calm.",
    "A licensed counselor can help you work through these issues in a safe space.", "Communication is key in every situation.",
    "Have you shared these feelings with somebody you trust?", "Whatever you decide, trust yourself. You know what is best for you.",
    "I am listening. Take all the time you need.", "Hmm, tell me more about that.", "Okay. And what happened then?", "I understand completely.",
    "Hello! How can I help you today?", "Wow, that is a lot. I am sending you positive thoughts.", "You deserve to be happy.",
    "Each person is unique, and so is the path to healing. Be patient with the process and seek support where you need it.",
    "Thank you for your question. What you describe is something that many people struggle with, and reaching out is a brave first step. "
    "I would encourage you to look for a counselor near you with whom you can talk about this.",
    "I am sorry that you have to deal with this. It is important to look after yourself, to surround yourself with people who love you and "
    "to remember that your feelings matter. With time and support things can change.",
    "There may be many reasons for what you feel. It can help to explore where these feelings come from, what sets them off and what you "
    "need. A therapist can be a good companion on this way. Best of luck to you!",
    "First of all, thank you for having the courage to write. Try to take small steps, set goals that you can reach, and celebrate each "
    "success. If it gets too much, do not hesitate to ask for professional help.",
    "It is great that you want to work on this. Change takes time, so be gentle with yourself. What is one small thing that you could do today?",
    "Every relationship and every person is different, so there is no simple answer. What does your gut tell you?",
    "It sounds as if this has been weighing on you. I wonder what it would be like to give these feelings some room.",
    "You are doing the best you can, and that is enough.", "Focus on what you can control and let go of the rest.",
)  # fmt: skip
"""Replies that fit anything, written for this project."""


Exchange = tuple[str, str, str, str]
"""Identity of the question, its topic or '', the question, the answer."""


def coherence_examples(data: Path) -> list[Example]:
    """Fits and misfits: CounselChat's answers to their own and to other questions, and exchanges written for this project.

    The source names the kind of misfit: random, same_topic, nearest, generic. An answer of another question, and a generic
    one, comes from the same fold, so no text stands in two folds; answers to the same question are never misfits of it.
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
    out: list[Example] = []
    for fold, members in in_fold.items():
        generic = [text for text, place in zip(GENERIC, folds_of(GENERIC), strict=True) if place == fold]
        for i in members:
            identity, topic, question, answer = rows[i]
            chance = random.Random(f"{name}:{i}")
            others = [j for j in members if rows[j][0] != identity]
            same = [j for j in others if topic and rows[j][1] == topic]
            near = max(others, key=lambda j: (len(words[i] & words[j]) / (1 + len(words[i] | words[j])), j), default=None)
            chosen = {"random": chance.choice(others), "same_topic": chance.choice(same) if same else None, "nearest": near}
            texts = {kind: rows[j][3] for kind, j in chosen.items() if j is not None}
            if chance.random() < 0.35:
                texts["generic"] = chance.choice(generic)
            out.append(Example(answer, ("fit",), groups[i], f"{name}/fit", "R", (question,)))
            for kind, text in texts.items():
                label = "generic_reply" if kind == "generic" else "answers_another_question"
                out.append(Example(text, (label,), groups[i], f"{name}/{kind}", "R", (question,)))
    return out
