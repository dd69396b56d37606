"""The questionnaires that are built in, and those that an organisation adds as files of its own (docs/change.md)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from attunement.errors import DataError
from attunement.progress.measures.questionnaire import Answer as Answer
from attunement.progress.measures.questionnaire import Band as Band
from attunement.progress.measures.questionnaire import Critical as Critical
from attunement.progress.measures.questionnaire import ExpectedCourse as ExpectedCourse
from attunement.progress.measures.questionnaire import Item as Item
from attunement.progress.measures.questionnaire import Measure as Measure
from attunement.progress.measures.questionnaire import MissingRule as MissingRule
from attunement.progress.measures.questionnaire import Norm as Norm
from attunement.progress.measures.questionnaire import PublishedChange as PublishedChange
from attunement.progress.measures.questionnaire import Reliability as Reliability
from attunement.progress.measures.questionnaire import Scored as Scored
from attunement.progress.measures.questionnaire import cutoff_between as cutoff_between
from attunement.progress.measures.questionnaire import reliable_change as reliable_change

_HERE = Path(__file__).parent


def measures(folder: Path | None = None) -> Mapping[str, Measure]:
    """The measures by code: those built in, and the `*.toml` of `folder`. DataError names file and field of the first fault.

    A file may not take the code of a built-in measure: two clients' PHQ-9 must never be scored by different rules.
    """
    built_in = _built_in()
    return built_in if folder is None else MappingProxyType({**built_in, **_added(folder)})


def measure_of(code: str, folder: Path | None = None) -> Measure:
    """The measure of this code; DataError names the codes that there are."""
    found = measures(folder)
    if code not in found:
        raise DataError(f"there is no measure {code!r}; there are: {', '.join(sorted(found))}")
    return found[code]


def read_measure(path: Path) -> Measure:
    """The measure of a TOML file; DataError is one line that names file and field."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: is not TOML: {error}") from None
    try:
        return Measure.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{path}: {f'{field}: ' if field else ''}{told}") from None


@cache
def _built_in() -> Mapping[str, Measure]:
    found = [read_measure(path) for path in sorted(_HERE.glob("*.toml"))]
    return MappingProxyType({measure.code: measure for measure in found})


def _added(folder: Path) -> dict[str, Measure]:
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; the measures of an organisation lie in one, a TOML file each")
    found = dict[str, Measure]()
    for path in sorted(folder.glob("*.toml")):
        measure = read_measure(path)
        if measure.code in _built_in():
            raise DataError(f"{path}: code: {measure.code!r} is built in; take another")
        if measure.code in found:
            raise DataError(f"{path}: code: {measure.code!r} is in another file of this folder too")
        found[measure.code] = measure
    return found
