"""Files that stand are whole: atomic writes, JSON lines, hashes.

Every write goes to a temporary file beside the target, is flushed to disk and renamed. JSON is written in one
canonical form (sorted keys, no spaces in lines), so that the same records are the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, overload

from attunement.errors import DataError

T = TypeVar("T")
LOCK_ATTEMPTS = 100
"""Each one lost means that another process took and gave back the lock in that moment."""


def canonical(value: Any) -> str:
    """`value` as JSON in one canonical form: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256 of `value` (a string, bytes, or plain data in canonical form), in hex."""
    if not isinstance(value, bytes):
        value = (value if isinstance(value, str) else canonical(value)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(value).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path, binary: bool = False, *, private: bool = False) -> Iterator[IO[Any]]:
    """A file to write; it takes the place of `path` only when the block ends without an error.

    With `private` it is for its owner only, as are its folder and the one above where they are made for it.
    """
    for folder in reversed(path.parents[:2]) if private else ():  # `parents=True` would make all but the last for everybody
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": "\n"}
        opened = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600 if private else 0o666)
        with open(opened, "wb" if binary else "w", **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(lock: Path, message: str) -> Iterator[None]:
    """One process at a time inside the block, by a lock on the file `lock`. Raises `DataError(message)` for the second.

    Afterwards `lock` is gone, and of the folders that were made for it those that are still empty.
    """
    made = [folder for folder in (lock.parent, *lock.parent.parents) if not folder.exists()]
    with _lock(lock, message) as file:
        try:
            yield
        finally:
            if _is_at(file, lock):  # removed while it is locked: whoever opened it meanwhile sees that and takes a new one
                lock.unlink()
            for folder in made:
                try:
                    folder.rmdir()
                except OSError:  # something was written there
                    break


def _lock(lock: Path, message: str) -> IO[str]:
    """The open file `lock`, locked. Raises `DataError(message)` when another process holds it."""
    for _ in range(LOCK_ATTEMPTS):
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = open(lock, "w")  # noqa: SIM115
        except (FileNotFoundError, FileExistsError):  # its holder just removed the folder
            if lock.parent.exists() and not lock.parent.is_dir():
                raise
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise DataError(message) from error
        if _is_at(file, lock):
            return file
        file.close()  # its holder removed it between our opening and locking it: this lock would keep nobody out
    raise DataError(message)


def _is_at(file: IO[Any], path: Path) -> bool:
    """Whether the open `file` is the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON with sorted keys."""
    write_text(path, json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises `DataError` when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deep to be read") from error


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Writes one canonical JSON line a row; returns how many."""
    count = 0
    with atomic_write(path) as file:
        for row in rows:
            file.write(canonical(row) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[Any]:
    """The rows of a file that `write_jsonl` wrote."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


class JsonlSequence(Sequence[T], Generic[T]):
    """JSON-lines files as one read-only sequence that holds 8 bytes a row in memory; `make` is told a row and its file.

    With `keep` it is the rows that this holds for.
    """

    def __init__(self, paths: Sequence[Path], make: Callable[[Any, Path], T], keep: Callable[[Any], bool] | None = None) -> None:
        self._paths, self._make, self._keep = list(paths), make, keep
        self._file_of, self._offsets = array("L"), array("Q")
        for number, path in enumerate(self._paths):
            offset = 0
            with open(path, "rb") as file:
                for line in file:
                    if line.strip() and (keep is None or keep(json.loads(line))):
                        self._file_of.append(number)
                        self._offsets.append(offset)
                    offset += len(line)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path = self._paths[self._file_of[index]]
        with open(path, "rb") as file:
            file.seek(self._offsets[index])
            return self._make(json.loads(file.readline()), path)

    def __iter__(self) -> Iterator[T]:
        for path in self._paths:
            for row in read_jsonl(path):
                if self._keep is None or self._keep(row):
                    yield self._make(row, path)
