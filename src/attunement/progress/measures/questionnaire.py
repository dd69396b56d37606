"""What a questionnaire is: its items, how it is scored, and how sure a score is. Values only; where they come from is said beside each of them.

`Measure` is read from a TOML file (docs/change.md shows one), checked as a whole, and never changes. A difference between two scores is
reliable when unreliability alone would give one as large in fewer than 5 of 100 pairs (Jacobson and Truax 1991):
RCI = 1.96 x sqrt(2) x SD x sqrt(1 - r).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from attunement.errors import DataError

Z_95 = 1.96
"""As Jacobson and Truax wrote it: published figures use 1.96 and not 1.959964."""
Words = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Answer(_Part):
    """What may be ticked, and its value before an item is reversed."""

    label: Words
    value: int


class Item(_Part):
    """A question. A `reverse` one counts the other way: least + greatest answer - answer."""

    text: Words
    reverse: bool = False


class Band(_Part):
    """A range of totals, both ends in it, with the name that the source gives it."""

    name: Words
    low: float
    high: float


class MissingRule(_Part):
    """Up to `allowed` items may be left out: each then counts as the mean of those that were answered."""

    allowed: int = Field(ge=0)
    source: Words
    checked: Words


class Critical(_Part):
    """An item (from 1) whose answer above `above` is a crisis. `reason` is a code, never text of a client."""

    item: int = Field(ge=1)
    above: int
    reason: str = Field(default="self_harm", pattern=r"^[a-z][a-z0-9_]*$")


class Reliability(_Part):
    """How far the same person would score the same. `alpha` is within one filling in, `retest` between two.

    `sd` is the standard deviation of the sample that the reliable change is wanted for; `sample` says of both who was asked. `checked` says
    honestly what was read to make sure of the figures, or that nothing could be. `why` stands on the one that is the measure's default.
    """

    kind: Literal["alpha", "retest"]
    value: float = Field(gt=0, lt=1)
    sd: float = Field(gt=0)
    sample: Words
    source: Words
    checked: Words
    interval: str = ""
    default: bool = False
    why: str = ""

    @property
    def error(self) -> float:
        """Standard error of measurement of one score: SD x sqrt(1 - r)."""
        return self.sd * math.sqrt(1 - self.value)

    @property
    def reliable(self) -> float:
        """The least difference of two scores that is reliable: 1.96 x sqrt(2) x standard error."""
        return Z_95 * math.sqrt(2) * self.error

    def explained(self) -> str:
        """The reliable change in words, so that a reader can work it out again."""
        kind = "internal consistency (Cronbach's alpha)" if self.kind == "alpha" else "test-retest reliability"
        over = f" over {self.interval}" if self.interval else ""
        return (
            f"1.96 x sqrt(2) x SD {self.sd:g} x sqrt(1 - {self.value:g}) = {self.reliable:.2f}: "
            f"{kind}{over}, {self.sample} ({self.source}; {self.checked})."
        )


class Norm(_Part):
    """Mean and standard deviation of a group: `clinical` in treatment or with the disorder, `general` everybody."""

    group: Literal["clinical", "general"]
    mean: float
    sd: float = Field(gt=0)
    sample: Words
    source: Words
    checked: Words
    n: int = Field(default=0, ge=0)


class PublishedChange(_Part):
    """A reliable change that somebody else published or uses. Shown beside the one that is computed here; nothing is decided by it."""

    value: float = Field(gt=0)
    source: Words
    checked: Words


class ExpectedCourse(_Part):
    """The usual course of those who begin in the clinical range: `start` + `linear` x weeks + `quadratic` x weeks squared, flat from its turn on.

    Only its shape is used: a client's expected score is the first score x course(weeks) / course(0). `spread` is the standard deviation
    between people at its end, as a share of the first score.
    """

    start: float = Field(gt=0)
    linear: float
    quadratic: float
    spread: float = Field(gt=0)
    horizon_weeks: float = Field(default=26, gt=0)
    sample: Words
    source: Words
    checked: Words

    @property
    def turn_weeks(self) -> float:
        """Weeks after which nothing more is expected."""
        turn = -self.linear / (2 * self.quadratic) if self.quadratic else self.horizon_weeks
        return min(turn, self.horizon_weeks) if turn > 0 else self.horizon_weeks

    def share(self, weeks: float) -> float:
        """The share of the first score that is expected after `weeks`."""
        at = min(max(weeks, 0.0), self.turn_weeks)
        return (self.start + self.linear * at + self.quadratic * at * at) / self.start

    def part(self, weeks: float) -> float:
        """How much of the whole expected change has come after `weeks`, 0 to 1."""
        whole = 1 - self.share(self.turn_weeks)
        return (1 - self.share(weeks)) / whole if whole else 1.0


@dataclass(frozen=True)
class Scored:
    """A questionnaire's total. `critical` are the numbers of items (from 1) that mean a crisis, `critical_unknown` those that were not answered.

    `prorated` says that items were left out and counted as the mean of the rest.
    """

    total: float
    prorated: bool
    band: str
    critical: tuple[int, ...] = ()
    critical_unknown: tuple[int, ...] = ()


class Measure(_Part):
    """A questionnaire, its scoring, and what is known of its scores (module docstring).

    `cutoff` is where the clinical range begins, itself in it; `recovered` the worst score that counts as out of it at the end, where that is
    another one (PCL-5: 31 begins it, 28 ends it). `important` is the least difference that matters to people (minimal important difference).
    """

    code: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    title: Words
    about: Words
    instruction: str = ""
    items: tuple[Item, ...] = Field(min_length=1)
    answers: tuple[Answer, ...] = Field(min_length=2)
    low: float
    high: float
    higher_is_worse: bool
    cutoff: float
    recovered: float | None = None
    important: float = Field(gt=0)
    important_source: Words
    bands: tuple[Band, ...] = Field(min_length=1)
    missing: MissingRule
    critical: tuple[Critical, ...] = ()
    reliabilities: tuple[Reliability, ...] = Field(min_length=1)
    norms: tuple[Norm, ...] = ()
    published_changes: tuple[PublishedChange, ...] = ()
    expected: ExpectedCourse | None = None
    licence: Words
    source: Words
    checked: Words

    @field_validator("reliabilities")
    @classmethod
    def _one_default(cls, found: tuple[Reliability, ...]) -> tuple[Reliability, ...]:
        chosen = [one for one in found if one.default]
        if len(chosen) != 1 or not chosen[0].why:
            raise ValueError("exactly one must have `default = true`, and say `why`")
        return found

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for fault in self._faults():
            raise ValueError(fault)
        return self

    def _faults(self) -> Iterator[str]:
        values = sorted(answer.value for answer in self.answers)
        if len(set(values)) != len(values):
            yield "answers: two of them have the same value"
        least, most = values[0] * len(self.items), values[-1] * len(self.items)
        if not (self.low == least and self.high == most):
            yield f"low and high: {len(self.items)} items give {least} to {most}, not {self.low:g} to {self.high:g}"
        if not self.low < self.cutoff < self.high:
            yield f"cutoff: {self.cutoff:g} is not between {self.low:g} and {self.high:g}"
        if self.recovered is not None and self.is_clinical(self.recovered):
            yield f"recovered: {self.recovered:g} is in the clinical range"
        if self.missing.allowed >= len(self.items):
            yield f"missing.allowed: {self.missing.allowed} of {len(self.items)} items cannot be left out"
        for number, one in enumerate(self.critical):
            if one.item > len(self.items):
                yield f"critical.{number}.item: there is no item {one.item}"
        edge = self.low
        for number, band in enumerate(self.bands):
            if band.low != edge or band.high < band.low:
                yield f"bands.{number}: must begin at {edge:g}, where the one before ends, and not end before it begins"
            edge = band.high + 1
        if edge - 1 != self.high:
            yield f"bands: the last one must end at {self.high:g}"

    # --- what a score means ----------------------------------------------------------------------

    @property
    def default(self) -> Reliability:
        """The reliability that decides here what is reliable; its `why` says why this one."""
        return next(one for one in self.reliabilities if one.default)

    @property
    def error(self) -> float:
        """Standard error of measurement of a score."""
        return self.default.error

    @property
    def reliable(self) -> float:
        """The least reliable difference of two scores."""
        return self.default.reliable

    @property
    def worse(self) -> int:
        """1 where a higher score is worse, -1 where it is better: multiplied by it, more is worse."""
        return 1 if self.higher_is_worse else -1

    def is_clinical(self, total: float) -> bool:
        """Whether a total lies in the clinical range."""
        return self.worse * total >= self.worse * self.cutoff

    def is_recovered(self, total: float) -> bool:
        """Whether a total at the end counts as out of the clinical range."""
        if self.recovered is None:
            return not self.is_clinical(total)
        return self.worse * total <= self.worse * self.recovered

    def norm(self, group: str) -> Norm | None:
        """The first norm of a group: the one that is used."""
        return next((one for one in self.norms if one.group == group), None)

    @property
    def between(self) -> float | None:
        """Jacobson and Truax's cut-off c = (s0 m1 + s1 m0) / (s0 + s1): as likely of the one group as of the other. None without both norms."""
        ill, well = self.norm("clinical"), self.norm("general")
        return None if ill is None or well is None else cutoff_between(well.mean, well.sd, ill.mean, ill.sd)

    def changes_explained(self) -> list[str]:
        """Every reliable change that is known of this measure in words, the default first with its reason."""
        ordered = sorted(self.reliabilities, key=lambda one: not one.default)
        lines = [one.explained() + (f" Used here: {one.why}" if one.default else "") for one in ordered]
        return lines + [f"{one.value:g} points: {one.source} ({one.checked})." for one in self.published_changes]

    # --- scoring ---------------------------------------------------------------------------------

    def score(self, answers: Sequence[int | None]) -> Scored:
        """The total of the answers in order of the items, None where one was left out; DataError when they cannot be scored."""
        if len(answers) != len(self.items):
            raise DataError(
                f"{self.code}: {len(answers)} answers for {len(self.items)} items; give null for one that was left out"
            )
        allowed = {answer.value for answer in self.answers}
        for number, given in enumerate(answers, 1):
            if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given not in allowed):
                raise DataError(
                    f"{self.code}: item {number} has the answer {given!r}; it must be one of {sorted(allowed)} or null"
                )
        ends = min(allowed) + max(allowed)
        counted = [
            ends - given if item.reverse else given for item, given in zip(self.items, answers, strict=True) if given is not None
        ]
        left_out = len(answers) - len(counted)
        if left_out > self.missing.allowed:
            raise DataError(
                f"{self.code}: {left_out} of {len(answers)} items were left out; with more than {self.missing.allowed} there is no total"
            )
        total = float(sum(counted))
        if left_out:  # half a point goes up, as in the manuals' examples of rounding
            total = float(math.floor(total + left_out * total / len(counted) + 0.5))
        over = [one.item for one in self.critical if (given := answers[one.item - 1]) is not None and given > one.above]
        blank = [one.item for one in self.critical if answers[one.item - 1] is None]
        return Scored(total, bool(left_out), self.band(total), tuple(over), tuple(blank))

    def of_total(self, total: float) -> Scored:
        """What is known when only the total is; no critical item can be looked at then."""
        if isinstance(total, bool) or not isinstance(total, int | float) or not math.isfinite(total):
            raise DataError(f"{self.code}: the total must be a number from {self.low:g} to {self.high:g}")
        if not self.low <= total <= self.high:
            raise DataError(f"{self.code}: the total {total:g} is not between {self.low:g} and {self.high:g}")
        return Scored(float(total), False, self.band(total), (), tuple(one.item for one in self.critical))

    def band(self, total: float) -> str:
        """The name of the band that a total lies in."""
        return next(band.name for band in self.bands if total < band.high + 1)


def reliable_change(sd: float, reliability: float) -> float:
    """Jacobson and Truax's least reliable difference, of a standard deviation and a reliability."""
    return Z_95 * math.sqrt(2) * sd * math.sqrt(1 - reliability)


def cutoff_between(well_mean: float, well_sd: float, ill_mean: float, ill_sd: float) -> float:
    """Jacobson and Truax's cut-off c of two groups: weighted by the other group's standard deviation."""
    return (well_sd * ill_mean + ill_sd * well_mean) / (well_sd + ill_sd)
