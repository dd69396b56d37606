"""What is written about an invented session: drawn from a stock of lines, so that search and context have something real to find."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numpy.random import Generator

STEP = 0.25
"""So many SD from the session before and a session is called better or worse."""


@cache
def stock() -> Mapping[str, Any]:
    """The lines of `stock.toml`."""
    return tomllib.loads((Path(__file__).parent / "stock.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Written:
    """The texts of a session's log."""

    summary: str
    notes: str
    observations: str
    focus: str


class Writer:
    """Writes about one client: two or three themes that come back, a person and a place that stay the same."""

    def __init__(self, rng: Generator, trauma: bool) -> None:
        self._rng = rng
        lines = stock()
        self._names = {"who": self.one(lines["who"]), "place": self.one(lines["place"])}
        fitting = [theme for theme in lines["themes"] if theme["trauma"] or not trauma]
        first = self.one([theme for theme in fitting if theme["trauma"] == trauma])
        others = [theme for theme in lines["themes"] if theme is not first and not theme["trauma"]]
        self.themes = [
            first,
            *(others[int(place)] for place in rng.choice(len(others), size=int(rng.integers(1, 3)), replace=False)),
        ]

    def one(self, options: Sequence[Any]) -> Any:
        """One of them, by chance."""
        return options[int(self._rng.integers(len(options)))]

    def filled(self, line: str) -> str:
        """The line with this client's person and place."""
        return line.format(**self._names) if "{" in line else line

    def goals(self) -> list[str]:
        """Titles of goals: one or two of the first theme, one of another."""
        own = list(self.themes[0]["goals"])[: int(self._rng.integers(1, 3))]
        return [self.filled(title) for title in (*own, self.one(self.themes[1]["goals"]))]

    def session(self, step: float, crisis: bool) -> Written:
        """A session after which the client was `step` SD worse (below 0: better) than at the one before."""
        lines = stock()
        way = "better" if step < -STEP else "worse" if step > STEP else "same"
        theme = self.themes[0] if self._rng.random() < 0.6 else self.one(self.themes)
        topics = [self.one(theme["topics"]), self.one(theme["topics"])]
        told = topics[0] if topics[0] == topics[1] else " and ".join(topics)
        summary = f"{self.one(lines[way])} Talked about {told}."
        if crisis:
            summary += f" {self.one(lines['crisis'])}"
        notes = f"{self.one(lines['techniques'])} Homework: {self.one(lines['homework'])}."
        return Written(*map(self.filled, (summary, notes, self.one(lines[f"observations_{way}"]), self.one(theme["focus"]))))
