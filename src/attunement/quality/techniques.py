"""What a therapist's turn does, in eight techniques, and what a client needs: the turns that the judges `technique` and `need` learn from.

AnnoMI (Wu 2022) parts reflections into simple and complex, questions into open and closed and a therapist's input into information,
advice, options and negotiation; the last two propose what to do and count as advice here. It has no label for affirmation: what says
that something is understandable, brave or well done is `validation`, and only texts of our own teach it. On AnnoMI's turns it is read
as `other`, which is where AnnoMI's annotators left it (`of_annomi`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attunement.quality.labelled import Example, Session, path_of, rows_of, turns_of, written
from attunement.quality.own_sets import written_sessions

TECHNIQUES = (
    "reflection_simple", "reflection_complex", "question_open", "question_closed", "advice", "information", "validation", "other",
)  # fmt: skip
BEHAVIOUR_OF: Mapping[str, str] = {
    "reflection_simple": "reflection", "reflection_complex": "reflection", "question_open": "question",
    "question_closed": "question", "advice": "therapist_input", "information": "therapist_input", "validation": "other",
    "other": "other",
}  # fmt: skip
"""AnnoMI's four behaviours, of which the published figures are."""
NEEDS = ("listening", "thought_work")
"""What would help a client most in the next minutes, short of danger: to be heard, or to look at a thought. The judge `need` says which."""
_INPUT = {"information": "information", "advice": "advice", "options": "advice", "negotiation": "advice"}


def of_annomi(row: Mapping[str, str]) -> str:
    """The technique of an AnnoMI row; '' where it names a behaviour and no kind of it."""
    behaviour = row["main_therapist_behaviour"]
    if behaviour == "therapist_input":
        return _INPUT.get(row["therapist_input_subtype"], "")
    if behaviour in ("reflection", "question"):
        name = f"{behaviour}_{row[f'{behaviour}_subtype']}"
        return name if name in TECHNIQUES else ""
    return "other" if behaviour == "other" else ""


def annomi_techniques(data: Path) -> list[Example]:
    """AnnoMI's therapist turns by technique; of several annotators' labels the most frequent one, the first in a tie."""
    talks: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows_of(path_of(data, "annomi", "AnnoMI-full.csv")):
        turn = talks.setdefault(row["transcript_id"], {}).setdefault(int(row["utterance_id"]), {**row, "votes": []})
        turn["votes"].append(of_annomi(row) if row["interlocutor"] == "therapist" else "")
    sessions = []
    for identifier, turns in talks.items():
        rows = [turns[i] for i in sorted(turns)]
        said = tuple((t["interlocutor"], t["utterance_text"], max(t["votes"], key=t["votes"].count)) for t in rows)
        sessions.append(Session(f"annomi:{identifier}", said, rows[0]["mi_quality"], "annomi", "N"))
    return turns_of(sessions, "therapist")


def written_techniques() -> list[Example]:
    """Turns written for this project; in a scene every technique answers the same client, so that no topic tells a technique."""
    return [
        Example(
            row["text"], (row["technique"],), row["scene"], "written/technique", "R", (row["before"],) if row["before"] else ()
        )
        for row in written("technique")
    ]


def written_needs() -> list[Example]:
    """Clients' turns written for this project, both needs on each theme, so that no theme tells a need."""
    return [
        Example(row["text"], (row["need"],), row["scene"], "written/need", "R", (row["before"],) if row["before"] else ())
        for row in written("need")
    ]


def session_techniques() -> list[Example]:
    """Therapist turns of our own written sessions, labelled anew by technique (`technique_sessions.jsonl`: turn number to label)."""
    labels: dict[str, dict[str, str]] = {row["id"]: row["turns"] for row in written("technique_sessions")}
    told: Sequence[Session] = [
        replace(session, source="written/technique_sessions", turns=_labelled(session, labels[session.session_id]))
        for session in written_sessions()
        if session.session_id in labels
    ]
    return turns_of(told, "therapist")


def _labelled(session: Session, labels: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    return tuple((role, text, labels.get(str(i), "")) for i, (role, text, _) in enumerate(session.turns))
