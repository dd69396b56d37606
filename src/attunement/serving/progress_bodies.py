"""What the routes of the journal are sent and answer, beside the records of `attunement.progress` themselves."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from attunement.progress.journey import EVENTS
from attunement.progress.tables import YEARS
from attunement.security.codes import ID

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d", re.ASCII)


def _text(value: object) -> object:
    """Pydantic would take a number, and one in text, for seconds since 1970."""
    if not isinstance(value, str) or not _DATE.match(value):
        raise PydanticCustomError("no_time", "no time")
    return value


def _near(value: datetime) -> datetime:
    if not YEARS[0] <= value.year <= YEARS[1]:
        raise PydanticCustomError("far_time", "far")
    return value


Name = Annotated[str, StringConstraints(max_length=64, pattern=f"^{ID.pattern}$")]
Words = Annotated[str, StringConstraints(max_length=20_000)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Answer = Annotated[int, Field(ge=0, le=100)]
When = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_near), Field(strict=False)]
"""A time as the description says it: text, with its zone."""
_WHEN = "2026-03-02T10:00:00+01:00"


class Body(BaseModel):
    """What else is sent is refused, not overlooked."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # true is not 1, "5" is not 5


class SaidIn(Body):
    """Something said in a session."""

    role: Literal["client", "therapist"] = Field(description="Who said it.")
    text: Words = Field(description="What was said.")


class FeltIn(Body):
    """How the client felt, by the clinician's eye."""

    emotions: dict[Annotated[str, StringConstraints(max_length=40)], Annotated[float, Field(ge=0, le=1)]] = Field(
        max_length=40, description="Emotions with their strength, 0-1."
    )
    valence: float = Field(0.0, ge=-1, le=1, description="-1 unpleasant to 1 pleasant.")
    arousal: float = Field(0.0, ge=-1, le=1, description="-1 calm to 1 aroused.")


class SessionIn(Body):
    """A session. What is left empty is made of the transcript, where there is one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "session_id": "s-12", "timestamp": _WHEN, "measures": {"phq9": [1, 1, 2, 1, 0, 1, 1, 0, 0]},
                    "transcript": [{"role": "client", "text": "I slept through twice this week."}, {"role": "therapist", "text": "What was different?"}],
                }
            ]
        }
    )  # fmt: skip
    session_id: Name = Field(description="Yours to choose; the same session sent again changes nothing.")
    timestamp: When = Field(description="When it took place, with its time zone.")
    transcript: list[SaidIn] = Field(default=[], max_length=2000, description="What was said, in order.")
    from_service: bool = Field(False, description="Take the transcript that this service kept of the session instead.")
    conversation_summary: Words = Field("", description="Summary.")
    emotional_state: FeltIn | None = Field(
        None, description="How the client felt; estimated from the transcript where it is left out."
    )
    therapeutic_goals: list[Title] = Field(default=[], max_length=50, description="Ids of goals, or words.")
    progress_notes: Words = Field("", description="Progress notes.")
    therapist_observations: Words = Field("", description="Observations. They never go into a prompt.")
    next_session_focus: Words = Field("", description="What comes next.")
    measures: dict[Name, list[Answer | None] | float] = Field(
        default={}, max_length=20, description="Questionnaires by code: answers in order (null: left out), or the total alone."
    )
    crisis_level: Literal["", "none", "possible", "elevated", "imminent"] = Field(
        "", description="Danger; judged from the transcript where empty; without a transcript it is not assessed then."
    )
    attended: bool = Field(True, description="False: the client did not come.")


class ChangesIn(Body):
    """An edit of a session."""

    version: int = Field(ge=1, description="The version that was read: another one by now is a conflict.")
    conversation_summary: Words | None = Field(None, description="Summary.")
    therapeutic_goals: list[Title] | None = Field(None, max_length=50, description="Goals.")
    progress_notes: Words | None = Field(None, description="Progress notes.")
    therapist_observations: Words | None = Field(None, description="Observations.")
    next_session_focus: Words | None = Field(None, description="What comes next.")


class VersionIn(Body):
    """Which version is meant."""

    version: int = Field(ge=1, description="The version that was read.")


class MeasureIn(Body):
    """A questionnaire that was filled in."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"measure": "gad7", "answers": [1, 2, 1, 0, 1, 1, 0], "at": _WHEN}]}
    )
    measure: Name = Field(description="Its code, see GET /api/v1/measures.")
    answers: list[Answer | None] | float = Field(description="Answers in order (null: left out), or the total alone.")
    at: When = Field(description="When, with its time zone.")


class CorrectedIn(Body):
    """Right answers for a questionnaire."""

    version: int = Field(ge=1, description="The version that was read; 1 where it was never corrected.")
    answers: list[Answer | None] | float = Field(description="Answers in order, or the total alone.")


class GoalIn(Body):
    """A therapeutic goal."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Leave the house every day", "at": _WHEN, "goal_id": "g-out"}]}
    )
    title: Title = Field(description="The goal.")
    at: When = Field(description="When it was set.")
    levels: dict[Literal["-2", "-1", "0", "1", "2"], Title] = Field(default={}, description="What each attainment means.")
    weight: float = Field(1.0, gt=0, le=100, description="Its weight among the client's goals.")
    goal_id: Name | Literal[""] = Field("", description="Yours to choose; empty: one is made.")


class RatingIn(Body):
    """How far a goal is: by attainment or by percent."""

    at: When = Field(description="When.")
    attainment: Annotated[int, Field(ge=-2, le=2)] | None = Field(None, description="-2 to 2; 0 is what was expected.")
    percent: Annotated[float, Field(ge=0, le=100)] | None = Field(None, description="0 to 100.")
    note: Words = Field("", description="Why.")


class ClosingIn(Body):
    """When a goal is closed."""

    at: When = Field(description="When.")


class EventIn(Body):
    """Something on the time line."""

    kind: Literal[EVENTS] = Field(description="Its kind.")  # type: ignore[valid-type]
    title: Title = Field(description="What.")
    at: When = Field(description="When.")


class MilestoneIn(Body):
    """A milestone set by hand."""

    title: Title = Field(description="What was reached.")
    at: When = Field(description="When.")
    note: Words = Field("", description="By what it is known.")


class ContextIn(Body):
    """What history is wanted for. In the body, for what somebody says must stand in no address."""

    said: Words = Field("", description="What the client said last.")
    lookback_days: int = Field(0, ge=0, le=36_500, description="How far back; 0 is progress.lookback_days.")
    tokens: int = Field(0, ge=0, le=8192, description="Most tokens; 0 is progress.context_tokens.")


class Id(BaseModel):
    """What was kept."""

    id: str = Field(description="Its id.")


class MeasureOut(BaseModel):
    """A questionnaire."""

    code: str = Field(description="Its code.")
    title: str = Field(description="Its name.")
    items: list[str] = Field(description="Its items, in order.")
    answers: dict[str, int] = Field(description="What may be answered, with its points.")
    low: float = Field(description="Lowest total.")
    high: float = Field(description="Highest total.")
    cutoff: float | None = Field(description="Clinical cut-off.")
    source: str = Field(description="Where its figures are from.")
