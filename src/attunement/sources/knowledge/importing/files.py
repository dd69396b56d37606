"""Which reader a file needs, and every file below a path in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from attunement.errors import DataError
from attunement.sources.knowledge.importing.found import Found
from attunement.sources.knowledge.importing.obo import read_obo
from attunement.sources.knowledge.importing.origins import DESCRIPTION
from attunement.sources.knowledge.importing.owl import read_owl
from attunement.sources.knowledge.importing.tables import read_table
from attunement.sources.knowledge.importing.textbook import read_textbook

READERS: dict[str, Callable[[Path], Found]] = {
    ".obo": read_obo,
    ".owl": read_owl,
    ".cnxml": read_textbook,
    ".jsonl": read_table,
    ".json": read_table,
    ".csv": read_table,
    ".tsv": read_table,
    ".xlsx": read_table,
}


def reader(path: Path) -> Callable[[Path], Found] | None:
    """The reader for `path` by the end of its name, `.gz` aside; None for other files."""
    name = path.name.lower().removesuffix(".gz")
    return next((function for suffix, function in READERS.items() if name.endswith(suffix)), None)


def files_below(path: Path) -> Iterator[Path]:
    """`path` itself, or the files below it that a reader takes. Raises `DataError` where there are none."""
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.is_file():
        if reader(path) is None:
            raise DataError(f"{path} is of no format that is read: {', '.join(READERS)}")
        yield path
        return
    found = sorted(file for file in path.rglob("*") if file.is_file() and reader(file))
    if not found:
        raise DataError(f"{path} holds no file of a format that is read: {', '.join(READERS)}")
    yield from found


def beside(path: Path) -> list[Path]:
    """Other files that say something about `path`: a description of its folder, the books that its module may belong to."""
    described = [folder / DESCRIPTION for folder in (path.parent, *path.parents[1:2]) if (folder / DESCRIPTION).is_file()]
    books = [book for folder in path.parents[1:4] for book in sorted((folder / "collections").glob("*.xml"))]
    return described + (books if path.suffix == ".cnxml" else [])


def read(path: Path) -> Found:
    """The concepts of one file. A file that cannot be read at all gives one problem and no concept."""
    function = reader(path)
    assert function is not None, f"{path} came through `files_below`"
    try:
        return function(path)
    except DataError as error:
        return Found(problems=[str(error)], unreadable=True)
