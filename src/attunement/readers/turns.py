"""Who speaks and what is said: role names, transcripts, clean text."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from attunement.records import Turn

Spoken = tuple[str, str, float | None] | tuple[str, str, float | None, bool]
"""Speaker's name as the source has it, text, start in seconds if known; a fourth, False, where no model may learn to say it."""

_NAMES = {
    "client": "client patient seeker user human usr speaker help-seeker helpseeker person customer prompter host interviewer "
              "moderator presenter question q caller student child c cl p pt",
    "therapist": "therapist counsellor counselor helper sys agent assistant gpt listener supporter bot ai model chatgpt doctor "
                 "psychologist clinician guest interviewee expert answer a psychiatrist coach response dr t th nurse",
    "narrator": "narrator lecturer professor teacher",
    "system": "system developer tool function",
}  # fmt: skip
ROLE_OF_NAME = {name: role for role, names in _NAMES.items() for name in names.split()}
_TELLING = frozenset(
    "client patient seeker help-seeker therapist counsellor counselor doctor dr psychologist psychiatrist clinician nurse "
    "interviewer interviewee".split()
)
"""Names that tell the role inside a longer one too ("Dr. Smith"); "Student Union" or "Human Resources" would not."""

_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? +"
_SPEAKER_LINE = re.compile(
    rf"^[ \t>-]*(?P<time>[\[(]?(?P<date>{_DATE})?\d{{1,2}}:\d{{2}}(?::\d{{2}})?(?:[.,]\d{{1,3}})?(?:[ \u202f]?[AaPp]\.?[Mm]\.?)?[\])]?"
    r"(?:[ \t]*[-\u2013])?[ \t]*)?"
    r"(?:\**(?P<name>[^\W\d_][\w.'\u2019-]*(?: [\w.'\u2019-]+){0,3}(?: ?\([^)\n]{0,40}\))?)\**[ \t]*:\**"
    r"|[\[(](?P<bracketed>[^\W\d_][\w.' -]{0,30})[\])][ \t]*:?)[ \t]*(?P<text>.*)$"
)
_TAG = re.compile(r"<[^<>]{0,200}>")
_BREAK = re.compile(r"<\s*(?:br|/p|/li|/div|/h\d)\b[^<>]{0,80}>", re.I)
_GLUED = re.compile(r"(?<=[a-z][.!?])(?=[A-Z][a-z'])")
_LOST = dict.fromkeys([0x00, 0x200B, 0x200C, 0x200D, 0xFEFF])
_LONE = re.compile("[\ud800-\udfff]")


def clean(text: str, markup: bool = False) -> str:
    """White space normalised (paragraphs stay); with `markup`, tags and entities too, words kept apart."""
    if markup:
        text = _GLUED.sub(" ", html.unescape(_TAG.sub("", _BREAK.sub("\n", text))))
    text = _LONE.sub("\ufffd", text)  # half a character, which no file can hold
    text = text.translate(_LOST).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[ \t\u00a0\u2028\f\v]+", " ", text)
    return re.sub(r" ?\n[ \n]*", "\n", text).strip()


def detokenise(text: str) -> str:
    """Puts back together what a tokeniser took apart: "did n't ," becomes "didn't,"."""
    text = re.sub(r" (n't|'s|'m|'re|'ve|'ll|'d)\b", r"\1", text)
    text = re.sub(r"(?<! ) +([.,!?;:%)\]])", r"\1", text)
    text = re.sub(r"([(\[$]) +", r"\1", text)
    text = re.sub(r"\b(got|gon|wan) (ta|na)\b", r"\1\2", text)
    return re.sub(r"(?<=\w)([.!?])(?:\1)+(?= |$)", lambda m: m[0] if len(m[0]) > 2 else m[1], text)


def seconds(stamp: str) -> float | None:
    """`[01:02:03.5]` or `2:03` in seconds."""
    parts = re.findall(r"\d+(?:[.,]\d+)?", stamp)
    if not 2 <= len(parts) <= 3:
        return None
    total = 0.0
    for part in parts:
        total = total * 60 + float(part.replace(",", "."))
    return total


def bare_name(name: str) -> str:
    """A speaker's name without what stands in brackets behind it."""
    return re.sub(r"(?<!\s)\s*\([^()]*\)", "", name).strip()


def role_of(name: str) -> str | None:
    """The role that a speaker's name tells: `Client 2`, `Dr. Smith`, `THERAPIST_1`, `Bob (therapist)`, `T`; else None."""
    key = bare_name(name).casefold().rstrip("0123456789").rstrip("_.#- \t\n")
    if key in ROLE_OF_NAME:
        return ROLE_OF_NAME[key]
    words = re.findall(r"[^\W\d_]+", name.casefold())
    return next((ROLE_OF_NAME[w] for w in words if w in _TELLING), None)


def to_turns(spoken: Iterable[Spoken], roles: Mapping[str, str] | None = None) -> list[Turn]:
    """Turns with roles; adjacent ones of one speaker are joined, empty ones left out.

    A name that neither `roles` nor the table knows: the first such speaker is the client, others the therapist;
    whoever speaks alone is the narrator.
    """
    given = {k.casefold(): v for k, v in (roles or {}).items()}
    spoken = [row for row in spoken if row[1]]
    told = {bare_name(row[0]): row[0] for row in reversed(spoken)}
    rows = [(bare_name(row[0]), row[1], row[2], row[3] if len(row) == 4 else True) for row in spoken]
    names = list(dict.fromkeys(row[0] for row in rows))
    table: dict[str, str] = {}
    for name in names:
        key = name.casefold()
        role = given.get(key) or role_of(told[name])
        if role is None:
            role = "client" if "client" not in table.values() else "therapist"
        table[name] = role
    talking = [n for n in names if table[n] != "system"]
    if len(talking) == 1 and talking[0].casefold() not in given:
        table[talking[0]] = "narrator"
    out: list[Turn] = []
    for name, text, at, learn in rows:
        if out and out[-1].role == table[name] and out[-1].speaker == name:
            last = out[-1]
            out[-1] = Turn(last.role, f"{last.text}\n{text}", name, last.start_seconds, last.learn and learn)
        else:
            out.append(Turn(table[name], text, name, at, learn))
    return out


class Label(NamedTuple):
    """A line that begins with a speaker: `Name: text`, `[00:12] Name: text`, `>> NAME: text`, `[Therapist] text`, a chat's export."""

    name: str
    text: str
    start_seconds: float | None
    dated: bool = False


def label_of(row: str) -> Label | None:
    """The label of a line, if it has one. A name in brackets alone must tell a role: `[laughs]` is none."""
    match = _SPEAKER_LINE.match(row)
    if match is None or (match["bracketed"] and role_of(match["bracketed"]) is None):
        return None
    at = seconds(match["time"]) if match["time"] and not match["date"] else None  # with a date it is the time of day
    return Label(match["name"] or match["bracketed"], match["text"], at, bool(match["date"]))


def transcript(text: str, roles: Mapping[str, str] | None = None) -> list[Spoken] | None:
    """The speakers and texts of a plain-text transcript (`Name: text`, time marks allowed), or None if it is none.

    A name counts when it is a known role or comes at least twice, so that "Note: ..." within a turn stays in it.
    Where two of the names in `roles` speak, nobody else does: a "Teacher: ..." that the client quotes stays theirs.
    """
    rows = text.splitlines()
    found = [label for label in map(label_of, rows) if label]
    names = Counter(bare_name(label.name).casefold() for label in found)
    given = {n for n in names if n in {name.casefold() for name in roles or ()}}
    known = {n for n in names if n in ROLE_OF_NAME}
    if len(given) >= 2:
        speakers = given
    elif dated := {bare_name(label.name).casefold() for label in found if label.dated}:
        speakers = dated  # a messenger's export puts a date before each name and before nothing else
    elif len({ROLE_OF_NAME[n] for n in known}) >= 2:
        speakers = known
    else:
        speakers = {n for n, count in names.items() if count > 1 or n in known} or set(names)
    if len(speakers) < 2 and not (len(speakers) == 1 and names[next(iter(speakers))] > 2):
        return None
    return _collect(rows, speakers)


def _collect(rows: Sequence[str], speakers: set[str]) -> list[Spoken] | None:
    out: list[tuple[str, list[str], float | None]] = []
    before = 0
    for row in rows:
        label = label_of(row)
        if label and bare_name(label.name).casefold() in speakers:
            out.append((label.name, [label.text], label.start_seconds))
        elif out:
            out[-1][1].append(row)
        else:
            before += bool(row.strip())
    if before > max(5, len(rows) // 2):  # a few lines of heading are fine; prose with a colon somewhere is no transcript
        return None
    return [(name, _unquoted(clean("\n".join(parts))), at) for name, parts, at in out]


def _unquoted(text: str) -> str:
    """`text` without the quotes around all of it."""
    quoted = len(text) > 2 and text[0] in '"\u201c' and text[-1] in '"\u201d' and not re.search('["\u201c\u201d]', text[1:-1])
    return text[1:-1].strip() if quoted else text
