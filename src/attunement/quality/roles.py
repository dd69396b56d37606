"""Who says a turn: therapist or client, host or guest. The turns that the judge `role` learns from, as written and as a recogniser hears them.

Speech recognition gives neither punctuation nor capitals, so every second turn is learnt without them (`as_heard`). What ships has learnt
from sessions, scenes and transcripts of our own. AnnoMI's interlocutors (no licence stated) join where a user trains the judge with `--data`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import xxhash

from attunement.quality import labelled, own_sets
from attunement.quality.labelled import Example, Session, written
from attunement.quality.techniques import written_needs, written_techniques
from attunement.storage.files import read_json

TURN_ROLES = ("client", "guest", "host", "therapist")
"""What a turn can tell of `SPEAKER_ROLES`; a lecturer is told by who holds the floor (`content_type`)."""
BEFORE = 2


def as_heard(text: str) -> str:
    """`text` without capitals and punctuation, as a speech recogniser gives it; apostrophes within words stay."""
    return " ".join(re.findall(r"\w+(?:['\u2019]\w+)*", text.casefold()))


def heard_too(example: Example) -> Example:
    """The same turn and what was said before as a recogniser gives them."""
    return replace(example, text=as_heard(example.text), context=tuple(as_heard(said) for said in example.context))


def mixed(examples: Iterable[Example]) -> list[Example]:
    """Half of the turns (by the hash of their text) as written, half as heard; without what is nothing but punctuation."""
    kept = (e for e in examples if as_heard(e.text))
    return [heard_too(e) if xxhash.xxh64_intdigest(e.text.encode()) % 2 else e for e in kept]


def turns_by_role(sessions: Iterable[Session]) -> list[Example]:
    """Every turn with the role of who says it, after the two before it."""
    out = []
    for session in sessions:
        texts = [text for _, text, _ in session.turns]
        for i, (role, text, _) in enumerate(session.turns):
            if role in TURN_ROLES and text.strip():
                context = tuple(texts[max(0, i - BEFORE) : i])
                out.append(Example(text, (role,), session.session_id, session.source, session.licence, context))
    return out


def written_roles() -> list[Session]:
    """Transcripts of our own whose speakers' roles were read off (`talk_roles.jsonl`): therapy, interviews and podcasts."""
    roles = {row["id"]: row["roles"] for row in written("talk_roles")}
    out = []
    for row in (*written("content_type"), *written("content_type_more")):
        if named := roles.get(row["id"]):
            turns = tuple((named.get(t["speaker"], ""), t["text"], "") for t in row["turns"])
            out.append(Session(row["id"], turns, "", "written/talk_roles", "R"))
    return out


def written_scenes() -> list[Example]:
    """Turns of the written edge cases: a therapist's after the client's of the same beat, a client's after the beat that it follows."""
    folder = Path(str(resources.files("attunement").joinpath("sources", "written", "edge_cases")))
    return [example for path in sorted(folder.glob("*.json")) for example in _scene(path)]


def _scene(path: Path) -> Iterator[Example]:
    beats = {beat["id"]: beat for beat in read_json(path)["beats"]}
    led = {after: beat for beat in beats.values() for after in beat.get("after", ())}

    def told(role: str, text: str, *before: str) -> Example:
        text, *said = (line.replace("{name}", "Sam").replace("{age}", "thirty") for line in (text, *before))
        return Example(text, (role,), f"scene:{path.stem}", "written/edge_cases", "R", tuple(said))

    for identifier, beat in beats.items():
        before = led.get(identifier)
        said = (before["client"][0], before["therapist"][0]) if before else ()
        yield told("client", beat["client"][0], *said)
        yield told("therapist", beat["therapist"][0], *said[1:], beat["client"][0])


def written_turns() -> list[Example]:
    """Single turns of our own: techniques of therapists and needs of clients."""
    found = [replace(e, labels=("therapist",)) for e in written_techniques()]
    return found + [replace(e, labels=("client",)) for e in written_needs()]


def written_helpers() -> list[Example]:
    """Good replies of helpers, and what they answer."""
    rows = own_sets.written_helper()
    found = [replace(e, labels=("therapist",)) for e in rows if e.labels == ("good",)]
    asked = {e.context: e for e in rows if e.context}
    return found + [replace(e, text=said[-1], labels=("client",), context=said[:-1]) for said, e in asked.items()]


def annomi_roles(data: Path) -> list[Example]:
    """AnnoMI's turns by interlocutor (Wu 2022)."""
    return turns_by_role(labelled.annomi(data))
