"""What judges are asked and what they answer: the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Item:
    """What a judge looks at: `text` after `context` (oldest first), or a whole talk as (speaker, text) in `turns`.

    For coherence `text` is the answer and the question is the last of `context`.
    """

    text: str = ""
    context: tuple[str, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Span:
    """A place in the item's text, in characters, and what stands there."""

    start: int
    end: int
    type: str


@dataclass(frozen=True)
class Verdict:
    """`score` 0-1 as the judge defines it, the likeliest `label`, every label's probability, reason codes, places."""

    score: float
    label: str
    labels: Mapping[str, float] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    spans: Sequence[Span] = ()
