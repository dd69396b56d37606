"""Answers on disk under the hash of what was asked: a run that was killed pays for none of them twice.

One file an answer, for its owner only: generated talk may be about anybody's worst day. No key and no header is ever in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attunement.errors import DataError
from attunement.providers import Completion, Request
from attunement.records import to_dict
from attunement.storage.files import atomic_write, canonical, content_hash, read_json

FIELDS = ("text", "model", "prompt_tokens", "completion_tokens", "cost_usd", "finish")


class CompletionCache:
    """A folder of answers. `provider` and its address are part of what is asked: another one answers anew."""

    def __init__(self, folder: Path, provider: str, address: str) -> None:
        self.folder = folder
        self._who = [provider, address]

    def _path(self, request: Request) -> Path:
        asked = {name: value for name, value in to_dict(request).items() if name != "made_up"}
        name = content_hash([*self._who, asked])
        return self.folder / name[:2] / f"{name}.json"

    def get(self, request: Request) -> Completion | None:
        """The answer that was had before, marked `cached`. Raises `DataError` where its file was damaged."""
        path = self._path(request)
        return _read(path) if path.exists() else None

    def has(self, request: Request) -> bool:
        return self._path(request).exists()

    def put(self, request: Request, completion: Completion) -> None:
        with atomic_write(self._path(request), private=True) as file:
            file.write(canonical({name: getattr(completion, name) for name in FIELDS}) + "\n")

    def all(self) -> Iterator[Completion]:
        """Every answer in the folder, whoever asked."""
        for path in sorted(self.folder.glob("??/*.json")):
            yield _read(path)


class Forgetful(CompletionCache):
    """Keeps nothing: for answers about a person, which must not lie on disk in the clear."""

    def __init__(self) -> None:
        super().__init__(Path(), "", "")

    def get(self, request: Request) -> Completion | None:
        return None

    def has(self, request: Request) -> bool:
        return False

    def put(self, request: Request, completion: Completion) -> None:
        """Does nothing."""

    def all(self) -> Iterator[Completion]:
        return iter(())


def _read(path: Path) -> Completion:
    found = read_json(path)
    if not isinstance(found, dict) or set(found) != set(FIELDS):
        raise DataError(f"{path} is not an answer that was kept: remove it, and it is asked for again")
    return Completion(**found, cached=True)
