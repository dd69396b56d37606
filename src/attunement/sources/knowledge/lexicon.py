"""Names of concepts as they stand in running text: tokens, spellings, inflections, abbreviations, longest match.

A name is found whatever its case (but `Open Dialogue`, a title, only with its capitals), with British or American spelling, with or without hyphens and plural endings. Names in
capitals keep their case, because `ACT`, `PE` or `CAT` are words in lower case; a few that are no words (`ptsd`) may be small.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attunement.sources.knowledge.concepts import Concept

LOWER_MAY_STAND = frozenset("ptsd cptsd ocd adhd cbt dbt emdr bpd gad rebt mdma nssi cbti".split())
"""Abbreviations that no English word is spelt like, so that they are known in lower case too."""
SURE = LOWER_MAY_STAND | frozenset("mbct mbsr cbasp ipsrt".split())
"""Abbreviations that mean one thing in texts on mental health; others need a context that fits."""
_TOKEN = re.compile(r"[A-Za-z0-9]+(?:['\u2019][A-Za-z]+)?")
_STOPS = re.compile(r"[.!?;:]\s|\n\s*\n")
"""No name goes on over the end of a sentence."""
_ISE = re.compile(r"(?<=[a-z]{2})is(e|es|ed|ing|ation|ations|er|ers)$")


@dataclass(frozen=True)
class Token:
    """A word of a text: its characters `[start, end)`, as written and in the form that is compared."""

    start: int
    end: int
    written: str
    form: str


@dataclass(frozen=True)
class Mention:
    """A name in a text, and the ids of the concepts that bear it. `doubtful`: the name alone does not decide.

    `key` is the name in compared forms, words parted by a space.
    """

    start: int
    end: int
    name: str
    key: str
    concept_ids: tuple[str, ...]
    doubtful: bool


@dataclass(frozen=True)
class _Name:
    text: str
    capitals: tuple[str, ...]
    """Per token the spelling that must stand, or an empty string where any case will do."""
    concept_id: str


def tokens(text: str) -> list[Token]:
    return [Token(m.start(), m.end(), m[0], form(m[0])) for m in _TOKEN.finditer(text)]


def form(word: str) -> str:
    """`word` without case, possessive, plural ending and British spelling: equal for forms of one word, no stem."""
    word = word.casefold().replace("\u2019", "'").removesuffix("'s").removesuffix("s'")
    word = (
        _ISE.sub(r"iz\1", word).replace("iour", "ior").replace("lling", "ling").replace("llor", "lor").replace("fence", "fense")
    )
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def is_abbreviation(name: str) -> bool:
    return " " not in name and len(name) <= 8 and sum(c.isupper() for c in name) >= 2


class Lexicon:
    """The names of many concepts, ready to be found in texts: a look-up per token, whatever the number of names."""

    def __init__(self, concepts: Iterable[Concept]) -> None:
        self._names: dict[str, list[tuple[tuple[str, ...], _Name]]] = {}
        for concept in concepts:
            for name in dict.fromkeys((concept.label, *concept.synonyms)):
                self._add(name, concept.concept_id)
        for found in self._names.values():
            found.sort(key=lambda entry: -len(entry[0]))

    def _add(self, name: str, concept_id: str) -> None:
        parts = tokens(name)
        if not parts or len(name) < 2:
            return
        title = len(parts) > 1 and all(t.written[0].isupper() or len(t.written) < 4 for t in parts)
        kept = tuple(
            t.written if (title and t.written[0].isupper()) or (_keeps_case(t.written) and t.form not in LOWER_MAY_STAND) else ""
            for t in parts
        )
        forms = tuple(t.form for t in parts)
        self._names.setdefault(forms[0], []).append((forms, _Name(name, kept, concept_id)))

    def mentions(self, text: str) -> Iterator[Mention]:
        """The names in `text`, longest first at each place, from left to right, none over another."""
        parts = tokens(text)
        shouted = _is_shouted(text)
        place = 0
        while place < len(parts):
            found = self._at(text, parts, place, shouted)
            if not found:
                place += 1
                continue
            forms, names = found
            last = parts[place + len(forms) - 1]
            ids = tuple(dict.fromkeys(n.concept_id for n in names))
            doubtful = len(ids) > 1 or _is_doubtful(names[0].text, len(forms))
            yield Mention(parts[place].start, last.end, names[0].text, " ".join(forms), ids, doubtful)
            place += len(forms)

    def _at(self, text: str, parts: list[Token], place: int, shouted: bool) -> tuple[tuple[str, ...], list[_Name]] | None:
        """The longest name that begins at `place`, and all names of that length there."""
        best: tuple[str, ...] | None = None
        names: list[_Name] = []
        for forms, name in self._names.get(parts[place].form, ()):
            if best is not None and len(forms) < len(best):
                break
            window = parts[place : place + len(forms)]
            if tuple(t.form for t in window) != forms or _STOPS.search(text[window[0].start : window[-1].end]):
                continue
            if _case_fits(window, name, shouted):
                best = forms
                names.append(name)
        return (best, names) if best is not None else None


def _is_doubtful(name: str, words: int) -> bool:
    return form(name.replace("-", "")) not in SURE if is_abbreviation(name) else words == 1


def _keeps_case(written: str) -> bool:
    return sum(c.isupper() for c in written) >= 2


def _case_fits(window: list[Token], name: _Name, shouted: bool) -> bool:
    for token, wanted in zip(window, name.capitals, strict=True):
        if wanted and (shouted or token.written.removesuffix("s").removesuffix("'") != wanted.removesuffix("s")):
            return False
    return True


def _is_shouted(text: str) -> bool:
    """Whether a text stands in capitals as a whole, so that they tell nothing."""
    letters = [c for c in text if c.isalpha()]
    return len(letters) > 20 and sum(c.isupper() for c in letters) > 0.6 * len(letters)
