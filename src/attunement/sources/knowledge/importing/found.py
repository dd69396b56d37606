"""What a reader found in one file: concepts, and in one line each what it could not read."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing import cleaning

MAX_BYTES = 256_000_000
"""Of one file, unpacked: a packed file that grows beyond it is refused."""


@dataclass(frozen=True)
class Node:
    """An entry's place in its source: its name, and its parents by id or by name. Entries without a definition have one, too."""

    label: str
    parents: tuple[str, ...]


@dataclass
class Found:
    """`problems` are sentences for the user; `left_out` counts entries by reason (`undefined`, `upper_ontology`, `obsolete`)."""

    concepts: list[Concept] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    hierarchy: dict[str, Node] = field(default_factory=dict)
    unreadable: bool = False
    """Nothing of the file could be read: what it gave before stays."""

    def add(self, concept: Concept) -> None:
        """Cleans `concept` and keeps it, unless nothing defines it; its place in the hierarchy is kept in any case."""
        text, name = cleaning.definition(concept.content), cleaning.label(concept.label)
        if name:
            self.hierarchy[concept.concept_id] = Node(name, tuple(concept.parents))
        if not text or not name or cleaning.normalised(text) == cleaning.normalised(name):
            self.left_out["undefined"] += 1
            return
        own = cleaning.normalised(name)
        synonyms = {cleaning.normalised(s): cleaning.label(s) for s in concept.synonyms}
        kept = tuple(s for key, s in synonyms.items() if key and key != own)
        self.concepts.append(replace(concept, label=name, content=text, synonyms=kept))


def unpacked(path: Path) -> bytes:
    """The bytes of `path`, unpacked where they are gzip. Raises `DataError` beyond `MAX_BYTES` or when they are damaged."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} is longer than {MAX_BYTES // 1_000_000} MB unpacked: split it")
    return data


def decoded(path: Path) -> str:
    """The text of `path` in UTF-8; raises `DataError` for anything else, naming the first byte that is not."""
    try:
        return unpacked(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def texts(value: Any) -> tuple[str, ...]:
    """A cell or field as a list of texts: lists as they are, a text split at `|` or `;`."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.replace(";", "|").split("|") if part.strip())
    return tuple(str(part).strip() for part in (value if isinstance(value, list | tuple) else [value]) if str(part).strip())
