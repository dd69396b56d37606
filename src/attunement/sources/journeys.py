"""Journeys of consented clients as conversations to learn from: a therapist tells a supervisor of a course, and hears what it shows.

What is read are the lines of `attunement.progress.training_journeys` (weeks, no dates; nobody's name). Each journey is one talk of two or three
exchanges along time. The answers are made of the journey's figures by rules, so that they can be traced: the change of each measure against
what its unreliability explains, how far goals are, what was reached, danger first; and never that the therapy did it. A sentence that a
clinician wrote of the next session is quoted as it stands. Journeys with danger wait for a clinician (`attune review`). The system message keeps this voice apart from how a model speaks to a client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attunement.errors import DataError
from attunement.records import Conversation, Origin, Turn
from attunement.storage.files import content_hash, file_hash, write_jsonl, write_text

SYSTEM = (
    "You are an experienced supervisor. A therapist tells of a course of therapy, in weeks since its first session. Say what changed, how sure that is,"
    " and what to look at next."
)
FILE = "journeys.jsonl"
SOURCE, LICENCE, LICENCE_CLASS = "attunement-journeys", "clients' consent", "N"
"""Consent to training is none to publish."""
PARTS = 3
MOST_SESSIONS, MOST_WORDS = 5, 40
"""Of a part: the sessions that are told of, and the words of each."""
ASKED = (
    "How is this going, and what should I look at next?",
    "What has changed so far, and can I rely on it?",
    "What do you make of this course?",
    "Is this moving, and where would you put your attention?",
    "Before I see the client again: what stands out to you?",
)
LEVELS = {
    -2: "much less than expected",
    -1: "less than expected",
    0: "what was expected",
    1: "more than expected",
    2: "much more than expected",
}
DANGER = ("elevated", "imminent")


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Session(_Row):
    week: int = Field(ge=0)
    summary: str = ""
    crisis: Literal["none", "possible", "elevated", "imminent"] = "none"
    next_focus: str = ""
    valence: float | None = None


class _Rating(_Row):
    week: int = Field(ge=0)
    attainment: int | None = Field(None, ge=-2, le=2)
    percent: float | None = Field(None, ge=0, le=100)


class _Goal(_Row):
    title: str
    set_week: int = Field(ge=0)
    ratings: list[_Rating] = []
    closed_week: int | None = None


class _Score(_Row):
    week: int = Field(ge=0)
    measure: str
    total: float


class _Measure(_Row):
    title: str
    cutoff: float
    higher_is_worse: bool
    reliable: float = Field(gt=0)


class _Mark(_Row):
    week: int = Field(ge=0)
    kind: str = Field(pattern=r"^[a-z][a-z0-9_]*$")


class TrainingJourney(_Row):
    """A line of the file. Weeks count from the journey's first session or score."""

    journey: str = Field(pattern=r"^[0-9a-z-]+$")
    weeks: int = Field(ge=0)
    sessions: list[_Session] = Field(min_length=1)
    goals: list[_Goal] = []
    scores: list[_Score] = []
    measures: dict[str, _Measure] = {}
    events: list[_Mark] = []
    milestones: list[_Mark] = []


def read_journeys(path: Path) -> Iterator[TrainingJourney]:
    """The journeys of a file. Raises `DataError` with file, line and field of the first fault."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} (full.journeys) cannot be read: give a file of journeys as docs/sources.md describes it ({error})"
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = TrainingJourney.model_validate(json.loads(line))
        except (json.JSONDecodeError, ValidationError) as error:
            what = "is not JSON"
            if isinstance(error, ValidationError):
                fault = error.errors(include_input=False, include_url=False)[0]
                what = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            raise DataError(f"{path}:{number}: {what}") from None
        if unknown := {score.measure for score in found.scores} - set(found.measures):
            raise DataError(f"{path}:{number}: scores.measure: nothing is said of {', '.join(sorted(unknown))} under `measures`")
        yield found


def conversations(path: Path) -> Iterator[Conversation]:
    """The talks that the journeys of a file give, with where they come from; a journey that shows nothing gives none."""
    digest = file_hash(path)
    for journey in read_journeys(path):
        if turns := turns_of(journey):
            record = content_hash(journey.model_dump())
            origin = Origin(SOURCE, path.name, digest, journey.journey, record, LICENCE, LICENCE_CLASS)
            metadata: dict[str, Any] = {"journey": journey.journey, "weeks": journey.weeks}
            if any(session.crisis in DANGER for session in journey.sessions):
                metadata |= {"clinical_review_required": True, "review_reasons": "danger_in_journey"}
            yield Conversation(f"journey-{journey.journey}", turns, origin, share="standard", metadata=metadata)


def write_share(folder: Path, talks: Sequence[Conversation]) -> None:
    """Writes talks (`conversations`) as a folder that `attune data build` reads; nothing where there are none."""
    roles = {"system": "system", "client": "user", "therapist": "assistant"}
    rows = [
        {
            "id": talk.conversation_id,
            "messages": [{"role": roles[turn.role], "content": turn.text} for turn in talk.turns],
            **talk.metadata,
        }
        for talk in talks
    ]
    if rows:  # an empty file would count as one that cannot be read
        write_text(folder / "source.toml", _RECIPE)
        write_jsonl(folder / FILE, rows)


_RECIPE = f"""name = "{SOURCE}"
title = "Courses of therapy of consented clients, de-identified, and what they show"
licence = "{LICENCE}"
licence_class = "{LICENCE_CLASS}"
share = "standard"

[[files]]
match = "{FILE}"
instruction = true
group = "journeys/{{journey}}"
metadata = ["journey", "weeks", "clinical_review_required", "review_reasons"]
"""


# --- a journey as a talk --------------------------------------------------------------------------------------


def turns_of(journey: TrainingJourney) -> list[Turn]:
    """System message, then question and answer along the journey; empty where no part of it shows anything."""
    sessions = sorted(journey.sessions, key=lambda session: session.week)
    parts = min(PARTS, max(1, len(sessions) // 2))
    turns = [Turn("system", SYSTEM)]
    before = -1
    for part in range(parts):
        end = journey.weeks if part == parts - 1 else sessions[(part + 1) * len(sessions) // parts - 1].week
        told = [session for session in sessions if before < session.week <= end]
        shown = _shown(journey, told, before, end)
        if told and shown:
            asked = ASKED[int(content_hash([journey.journey, part])[:8], 16) % len(ASKED)]
            turns += [Turn("client", f"{_told(journey, told, before, end)}\n{asked}"), Turn("therapist", shown)]
            before = end
    return turns if len(turns) > 1 else []


def _told(journey: TrainingJourney, sessions: Sequence[_Session], after: int, end: int) -> str:
    """Weeks `after` + 1 to `end` as the therapist tells of them: scores, sessions, events."""
    lines = [f"From week {after + 1} to week {end}."]
    for code, measure in journey.measures.items():
        scores = [score for score in journey.scores if score.measure == code and after < score.week <= end]
        if scores:
            lines.append(f"{_short(measure)}: {', '.join(f'{s.total:g} in week {s.week}' for s in scores)}.")
    step = max(1.0, (len(sessions) - 1) / (MOST_SESSIONS - 1))
    for place in dict.fromkeys(round(i * step) for i in range(min(MOST_SESSIONS, len(sessions)))):
        words = sessions[place].summary.split()
        if words:
            more = [] if len(words) <= MOST_WORDS else ["\u2026"]
            lines.append(f"Week {sessions[place].week}: {' '.join([*words[:MOST_WORDS], *more])}")
    lines += [f"Week {e.week}: {e.kind.replace('_', ' ')}." for e in journey.events if after < e.week <= end]
    return "\n".join(lines)


def _shown(journey: TrainingJourney, sessions: Sequence[_Session], after: int, end: int) -> str:
    """What the journey shows by the end of week `end`, danger first; empty where that is nothing."""
    said = [*_danger(sessions)]
    changes = [line for code, measure in journey.measures.items() if (line := _change(code, measure, journey.scores, end))]
    said += changes
    if any("than its unreliability explains" in line for line in changes):
        said.append("What brought the change these scores cannot say: many courses move without treatment, too.")
    said += _goals(journey.goals, end)
    reached = [f"{m.kind.replace('_', ' ')} in week {m.week}" for m in journey.milestones if after < m.week <= end]
    if reached:
        said.append(f"Reached: {', '.join(reached)}.")
    focus = next((session.next_focus for session in reversed(sessions) if session.next_focus.strip()), "")
    if said and focus:
        said.append(f"For the next session: {' '.join(focus.split())}")
    return " ".join(said)


def _danger(sessions: Sequence[_Session]) -> list[str]:
    weeks = [session.week for session in sessions if session.crisis in DANGER]
    if not weeks:
        return []
    told = ", ".join(str(week) for week in dict.fromkeys(weeks))
    return [f"Safety first: danger was found in week {told}; begin with an assessment of risk and go through the safety plan."]


def _change(code: str, measure: _Measure, scores: Sequence[_Score], end: int) -> str:
    mine = [score for score in sorted(scores, key=lambda score: score.week) if score.measure == code and score.week <= end]
    if not mine:
        return ""
    first, last = mine[0], mine[-1]
    if len(mine) == 1:
        return f"{_short(measure)} was {first.total:g} in week {first.week}: one score shows no course yet, so measure again."
    change = last.total - first.total
    better = (change < 0) == measure.higher_is_worse
    moved = f"{_short(measure)} went from {first.total:g} in week {first.week} to {last.total:g} in week {last.week}"
    if abs(change) < measure.reliable:
        return f"{moved}. That is within what its unreliability explains ({measure.reliable:.1f} points): a change cannot be told from chance yet."
    crossed = _clinical(measure, first.total) and not _clinical(measure, last.total)
    return (
        f"{moved}: {abs(change):g} points {'better' if better else 'worse'}, more than its unreliability explains ({measure.reliable:.1f})"
        f"{f', and across the clinical cut-off of {measure.cutoff:g}' if crossed else ''}."
        f"{'' if better else ' Review the plan with the client, and ask what changed.'}"
    )


def _short(measure: _Measure) -> str:
    """The short name in the brackets of a title, as people say it. The long ones are taken for places by who looks for personal data."""
    return measure.title.rpartition("(")[2].removesuffix(")") if measure.title.endswith(")") else measure.title


def _clinical(measure: _Measure, total: float) -> bool:
    return total >= measure.cutoff if measure.higher_is_worse else total <= measure.cutoff


def _goals(goals: Sequence[_Goal], end: int) -> Iterator[str]:
    for goal in goals:
        ratings = [rating for rating in goal.ratings if rating.week <= end]
        if goal.set_week > end or (goal.closed_week is not None and goal.closed_week <= end and not ratings):
            continue
        if not ratings:
            yield f"The goal \u201c{goal.title}\u201d has no rating yet: rate it with the client."
            continue
        last = max(ratings, key=lambda rating: rating.week)
        far = f"{last.attainment:+d}, {LEVELS[last.attainment]}" if last.attainment is not None else f"{last.percent or 0:g} %"
        yield f"The goal \u201c{goal.title}\u201d was last rated {far}, in week {last.week}."
