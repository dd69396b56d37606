"""Source files: which ones there are, what they are, and the conversations in them.

`discover` walks files and folders; `read` streams the conversations of one file. What cannot be read is one
`ReadFailure` with one clear line, and the rest goes on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.readers.decoding import Found, Unreadable
from attunement.readers.formats import columns_of, format_of, records
from attunement.readers.mapping import conversations_of
from attunement.readers.sets import OWN_RECIPE, FileRecipe, SourceSet, by_columns, by_path, catalogue, own_set
from attunement.readers.turns import Spoken, to_turns
from attunement.records import Conversation, Origin
from attunement.storage.files import content_hash, file_hash

PIXELATED = ("ai/lightning", "ai/lightning/pixelated-training", "ai/lightning/pixelated-v2", ".notes/pixel-training")
"""The contract's four source folders."""
_NOT_DATA = {".md", ".rst", ".py", ".ipynb", ".html", ".css", ".js", ".toml", ".yaml", ".yml", ".png", ".jpg", ".jpeg", ".gif", ".svg",
             ".pdf", ".docx", ".lock", ".cfg", ".ini", ".sh", ".license", ".bib"}  # fmt: skip
_NOT_DATA_NAMES = {"license", "licence", "copying", "readme", "makefile", "notice", "changelog", "citation"}


@dataclass(frozen=True)
class SourceFile:
    """A file to read. `name` is its path below the given root; `skip_reason` is set for a file without conversations."""

    path: Path
    name: str
    source: str
    size_bytes: int
    sha256: str
    licence: str
    licence_class: str
    share: str
    skip_reason: str | None = None
    recipe: FileRecipe = field(default_factory=FileRecipe)
    fault: str | None = None
    examples: Path | None = None


@dataclass(frozen=True)
class ReadFailure:
    """Something that could not be read: where, and why in one line."""

    file: str
    locator: str
    error: str


def discover(paths: Sequence[Path], *, preset: str | None = None) -> list[SourceFile]:
    """The files below `paths`, sorted by name. Hidden files, READMEs and licences are not listed.

    Raises `DataError` when a path does not exist or the preset finds no folder.
    """
    if preset is not None:
        paths = _preset_folders(paths, preset)
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist: give files or folders with conversations")
    seen: set[Path] = set()
    found: list[SourceFile] = []
    clash = len({p.resolve().name for p in paths}) < len(paths)
    for number, root in enumerate(paths):
        prefix = f"{number}-{root.resolve().name}/" if clash else f"{root.resolve().name}/" if len(paths) > 1 else ""
        for path in [root] if not root.is_dir() else _walk(root):
            if path.resolve() not in seen and not _beside_the_point(path, asked_for=path == root):
                seen.add(path.resolve())
                name = prefix + (path.name if path == root else path.relative_to(root).as_posix())
                found.append(_describe(path, root if root.is_dir() else root.parent, name))
    return sorted(found, key=lambda f: f.name)


def _preset_folders(paths: Sequence[Path], preset: str) -> list[Path]:
    if preset != "pixelated":
        raise DataError(f"there is no preset '{preset}': they are 'full' and 'pixelated'")
    folders = [root / folder for root in paths for folder in PIXELATED if (root / folder).is_dir()]
    if not folders:
        raise DataError(f"none of {', '.join(PIXELATED)} exists below {', '.join(map(str, paths))}")
    return folders


def _walk(root: Path) -> Iterator[Path]:
    """Files, and the folders that cannot be opened or are links: those are told as passed over."""
    closed: list[Path] = []
    for folder, inner, names in os.walk(root, followlinks=False, onerror=lambda error: closed.append(Path(error.filename))):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder) / name for name in inner if (Path(folder) / name).is_symlink())
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))
    yield from closed


def _beside_the_point(path: Path, *, asked_for: bool) -> bool:
    return not asked_for and (path.name == OWN_RECIPE or path.name.split(".")[0].casefold() in _NOT_DATA_NAMES)


def _describe(path: Path, root: Path, name: str) -> SourceFile:
    mode = path.lstat()
    plain = SourceFile(path, name, _default_source(path, root), mode.st_size, "", "not stated", "unknown", "standard")
    if not stat.S_ISREG(mode.st_mode):
        return _with(plain, skip_reason="not a regular file, or a folder that cannot be opened (links are not followed)")
    if path.suffix.casefold() in _NOT_DATA:
        return _with(plain, skip_reason=f"a {path.suffix} file holds no conversations")
    try:
        plain = _with(plain, sha256=file_hash(path))
        kind, encoding = format_of(path)
    except Unreadable as error:
        return _with(plain, fault=error.error)
    except OSError as error:
        return _with(plain, fault=f"cannot be opened: {error.strerror}")
    known = _known(path, root, kind, encoding)
    if known is None:
        return plain
    source, recipe, folder = known
    return _with(plain, source=source.name, licence=source.licence, licence_class=source.licence_class, share=recipe.share or source.share,
                 skip_reason=recipe.skip or None, recipe=recipe,
                 examples=folder / source.examples if folder and source.examples else None)  # fmt: skip


def _known(path: Path, root: Path, kind: str, encoding: str) -> tuple[SourceSet, FileRecipe, Path | None] | None:
    """The nearest `source.toml` above the file decides (and the folder that it stands in), then the catalogue by path, then by columns."""
    for folder in [path.parent, *path.parent.parents]:
        if own := own_set(folder):
            return *(by_path(path, [own]) or (own, FileRecipe())), folder
        if folder == root:
            break
    found = by_path(path, catalogue()) or by_columns(columns_of(path, kind, encoding), catalogue())
    return (*found, None) if found else None


def _default_source(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    return parts[0] if len(parts) > 1 else path.stem


def _with(file: SourceFile, **changes: Any) -> SourceFile:
    return replace(file, **changes)


def read(file: SourceFile, *, max_record_bytes: int) -> Iterator[Conversation | ReadFailure]:
    """The conversations of one file, in its order; nothing of a skipped one. An empty conversation comes with no turns."""
    if file.skip_reason is not None:  # a pipe must not even be opened
        return
    if file.fault is not None:
        yield ReadFailure(file.name, "file", file.fault)
        return
    try:
        kind, encoding = format_of(file.path)
        any_found = False

        def make() -> Iterator[Found]:
            return records(file.path, kind, encoding, max_record_bytes)

        for found in conversations_of(make, file.recipe, file.path, max_record_bytes):
            any_found = True
            yield _conversation(file, found) if found.error is None else ReadFailure(file.name, found.locator, found.error)
        if not any_found:
            yield ReadFailure(file.name, "file", "holds no records")
    except Unreadable as error:
        yield ReadFailure(file.name, error.locator, error.error)
    except OSError as error:
        yield ReadFailure(file.name, "file", f"cannot be read: {error.strerror}")


def _conversation(file: SourceFile, found: Found) -> Conversation:
    spoken: list[Spoken] = found.record["spoken"]
    metadata: Mapping[str, Any] = found.record["metadata"]
    turns = to_turns(spoken, file.recipe.roles)
    said = [[turn.role, turn.text] for turn in turns]
    origin = Origin(
        file.source, file.name, file.sha256, found.locator, content_hash([said, dict(metadata)]), file.licence, file.licence_class
    )
    identity = "c-" + content_hash([file.source, file.name, found.locator, said])[:16]
    return Conversation(identity, turns, origin, file.share, file.recipe.source_type or None, metadata)
