"""What a licence lets us do with a concept: one small table, and no permission that it does not give.

`classes` are those of `data.licence_allow`: R may be redistributed, SA share-alike, NC non-commercial, N none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attunement.errors import DataError
from attunement.sources.knowledge.concepts import Concept

UNKNOWN = "unknown"
USES = ("search", "redistribute", "commercial", "relicense")
"""`search` at one's own desk; `redistribute` as it is or changed, with attribution; `commercial` likewise for money; `relicense`
inside a set under a permissive licence."""

_ALLOWED = {
    "R": frozenset(USES),
    "SA": frozenset({"search", "redistribute", "commercial"}),
    "NC": frozenset({"search", "redistribute"}),
    "N": frozenset({"search"}),
}
_CLASSES = (
    (re.compile(r"CC0-1\.0|CC-BY-\d\.\d|WordNet-3\.0|Apache-2\.0|MIT|BSD-[23]-Clause|public-domain"), "R"),
    (re.compile(r"CC-BY-SA-\d\.\d"), "SA"),
    (re.compile(r"CC-BY-NC(?:-SA)?-\d\.\d"), "NC"),
)
"""Everything else, `unknown` and no-derivatives licences among it, is N: a training example changes what it quotes."""


def licence_class(licence: str) -> str:
    """R, SA, NC or N."""
    return next((name for pattern, name in _CLASSES if pattern.fullmatch(licence)), "N")


def allows(licence: str, use: str) -> bool:
    """Whether `licence` allows `use`, one of `USES`. Raises `DataError` for another use."""
    if use not in USES:
        raise DataError(f"a use is one of {', '.join(USES)}, not '{use}'")
    return use in _ALLOWED[licence_class(licence)]


def usable(concepts: Iterable[Concept], use: str) -> list[Concept]:
    """Those of `concepts` whose licence allows `use`: what an export may take."""
    return [concept for concept in concepts if allows(concept.licence, use)]
