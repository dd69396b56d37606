"""Labelled training text for the PHI tagger: templates with slots, real texts with names and places put into them, and both disturbed.

A text is (text, spans), a span (start, end, type). What a real text has of its own that may be a name but is not labelled becomes
type `?`: the tagger learns nothing from it.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from slots import Slots

Spans = list[tuple[int, int, str]]
Labelled = tuple[str, Spans]
SLOT = re.compile(r"\{([A-Za-z_]+)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")
KIN = r"(?i)\b(my|her|his) (sister|brother|mother|mom|mum|dad|father|husband|wife|boyfriend|girlfriend|gf|bf|friend|best friend|boss|cousin|aunt|uncle|son|daughter|ex|roommate|partner|teacher|therapist|neighbor)\b(?! (?:and|is not|who))"
PLACES = (
    (re.compile(KIN), "{0} {FIRST}", 0.5),
    (
        re.compile(
            r"(?<![A-Za-z'’])(?:He|She)(?= (?:is|was|said|told|never|always|has|had|just|wants|does|left|got|keeps|would|will|can)\b)"
        ),
        "{FIRST}",
        0.35,
    ),
    (
        re.compile(
            r"(?<=[a-z,] )(?:he|she)(?= (?:is|was|said|told|never|always|has|had|just|wants|does|left|got|keeps|would|will|can)\b)"
        ),
        "{FIRST}",
        0.25,
    ),
    (re.compile(r"(?<=(?:with|from) )(?:him|someone|somebody)\b"), "{NAME}", 0.35),
    (re.compile(r"(?<= (?:to|at|by|of|on) )(?:him|someone|somebody)\b"), "{NAME}", 0.35),
    (re.compile(r"\b(?:somebody|someone|this guy|this girl|a guy|a girl)\b"), "{NAME}", 0.3),
    (re.compile(r"(?<= )(?:at work|at my job)\b"), "at {ORG}", 0.4),
    (re.compile(r"(?<=[a-z] )(?:at school|in school|at college|in college)\b"), "at {SCHOOL}", 0.4),
    (re.compile(r"\b(?:the hospital|a hospital|the ER|the clinic|a psych ward)\b"), "{FACILITY}", 0.5),
    (re.compile(r"(?<=[a-z] )(?:in town|in my town|in my city|around here|at home)\b"), "in {CITY}", 0.35),
    (
        re.compile(
            r"(?<=[a-z] )(?:recently|a few (?:months|weeks|years) ago|last (?:week|month|year)|a (?:year|month|week) ago|yesterday)\b"
        ),
        "{TIMED}",
        0.4,
    ),
    (re.compile(r"\b(?:my doctor|a doctor|the doctor|my psychiatrist)\b"), "{TITLE} {LASTN}", 0.35),
)
VOCATIVE = 0.06
MASK = re.compile(r"\[(NAME|RELIGION)\]")


def expanded(template: str, rng: random.Random) -> str:
    """`template` with one of each choice taken."""
    while match := CHOICE.search(template):
        template = template[: match.start()] + rng.choice(match[1].split("|")) + template[match.end() :]
    return template.replace("\\n", "\n")


def filled(template: str, slots: Slots) -> Labelled:
    """`template` with its slots filled, and where they stand."""
    out, spans, at = "", [], 0
    for match in SLOT.finditer(template):
        out += template[at : match.start()]
        kind, value = slots.value(match[1])
        if kind:
            spans.append((len(out), len(out) + len(value), kind))
        out += value
        at = match.end()
    return out + template[at:], spans


def read_templates(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip() and not line.startswith("# ")]


def real_texts(data: Path, own: Path) -> dict[str, list[str]]:
    """Comments with masked names, and texts for substitution: sets that may train what ships (class R), and talks of our own."""
    masked, plain = [], []
    for name in ("train.tsv", "dev.tsv"):
        for line in (data / "goemotions" / name).read_text(encoding="utf-8").splitlines():
            text = line.split("\t")[0].strip('"')
            if "[NAME]" in text:
                masked.append(text)
            elif "[" not in text:
                plain.append(text)
    posts = []
    for path in sorted((data / "imhi").rglob("*.csv")):
        with open(path, encoding="utf-8", errors="replace", newline="") as rows:
            for row in csv.DictReader(rows):
                text = (row.get("post") or "").removeprefix("Post:").replace("‚Äô", "’").strip()
                if len(text) > 30 and "‚Ä" not in text:
                    posts.append(text[:700])
    talks = [
        str(turn.get("text"))
        for line in (own / "sessions.jsonl").read_text(encoding="utf-8").splitlines()
        for turn in json.loads(line).get("turns", [])
        if isinstance(turn, dict)
    ]
    return {"masked": masked, "plain": plain, "posts": list(dict.fromkeys(posts)), "talks": talks}


def unmasked(text: str, slots: Slots) -> Labelled:
    """A comment whose masked names are filled in; other words with a capital inside a sentence become `?`."""
    text = MASK.sub(
        lambda m: (
            ("{FIRST}" if slots.chance(0.5) else "{NAME}" if slots.chance(0.6) else "{LAST}") if m[1] == "NAME" else "faith"
        ),
        text,
    )
    return doubtful(*filled(text, slots))


def doubtful(text: str, spans: Spans) -> Labelled:
    """With type `?` for what may be a name that nobody labelled."""
    more = []
    for match in re.finditer(r"(?<=[a-z,;] )[A-Z][A-Za-z'’.-]+(?: [A-Z][A-Za-z'’-]+)*|\d[\d,./-]*", text):
        if match[0] not in {"I", "I'm", "I've", "I'd", "I’m", "OK"} and not any(
            s < match.end() and match.start() < e for s, e, _ in spans
        ):
            more.append((match.start(), match.end(), "?"))
    return text, sorted([*spans, *more])


def substituted(text: str, slots: Slots) -> Labelled:
    """A real text with names, places and dates in the place of what may be one."""
    text = text.replace("{", "(").replace("}", ")")
    for pattern, put, share in PLACES:

        def with_slot(m: re.Match[str], put: str = put, share: float = share) -> str:
            if not slots.chance(share):
                return m[0]
            found = put.replace(
                "{TIMED}",
                slots.rng.choice(
                    (
                        "on {DATE}",
                        "in {CITY} in {YEAR}",
                        "in {MONTHYEAR}",
                        "last {WEEKDAY}",
                        "since {DATE}",
                        "when we lived in {CITY}",
                    )
                ),
            )
            return found.replace("{0}", m[0])

        text = pattern.sub(with_slot, text)
    if slots.chance(VOCATIVE):
        text = slots.rng.choice(
            (
                "{FIRST}, " + text[:1].lower() + text[1:],
                text.rstrip(".!") + ", {FIRST}.",
                "Hi {FIRST}, " + text,
                text + "\n- {FIRST}",
                "Dear {NAME},\n" + text,
            )
        )
    return doubtful(*filled(text, slots))


def disturbed(found: Labelled, rng: random.Random) -> Labelled:
    """As it is, in lower case, without punctuation (speech), or in capitals."""
    text, spans = found
    roll = rng.random()
    if roll < 0.7:
        return found
    if roll < 0.84 or len(text.lower()) != len(text):
        return (text.lower() if len(text.lower()) == len(text) else text), spans
    if roll < 0.96:
        keep = [
            not (c in ',.;:!?"' and not any(s <= i < e and k not in {"NAME", "LOCATION", "ORGANIZATION"} for s, e, k in spans))
            for i, c in enumerate(text)
        ]
        place = [0]
        for k in keep:
            place.append(place[-1] + k)
        out = "".join(c for c, k in zip(text, keep, strict=True) if k)
        return (out.lower() if len(out.lower()) == len(out) and rng.random() < 0.8 else out), [
            (place[s], place[e], k) for s, e, k in spans if place[e] > place[s]
        ]
    return (text.upper() if len(text.upper()) == len(text) else text), spans


def examples(templates: list[str], real: dict[str, list[str]], slots: Slots) -> Iterator[Labelled]:
    """Without end."""
    rng = slots.rng
    while True:
        roll = rng.random()
        if roll < 0.5:
            count = rng.choice((1, 1, 1, 2, 3))
            parts = [filled(expanded(rng.choice(templates), rng), slots) for _ in range(count)]
            gap = rng.choice((" ", "\n"))
            text, spans = "", []
            for part, own in parts:
                text += gap if text else ""
                spans += [(s + len(text), e + len(text), k) for s, e, k in own]
                text += part
            found = (text, spans)
        elif roll < 0.68:
            found = unmasked(rng.choice(real["masked"]), slots)
        else:
            found = substituted(rng.choice(real[rng.choice(("plain", "posts", "posts", "talks"))]), slots)
        yield disturbed(found, rng)
