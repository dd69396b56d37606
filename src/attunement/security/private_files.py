"""Files that hold secrets: for their owner only, and wiped when they are replaced.

Wiping overwrites the file's bytes in place. Flash memory, snapshots and copy-on-write file systems may keep older bytes
all the same: against those helps that the key which opened them is gone (`attune keys rotate`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attunement.errors import ConfigError
from attunement.storage.files import atomic_write

MOST_BYTES = 1 << 30


def read_private(path: Path, what: str) -> bytes:
    """The bytes of a secret file. Raises `ConfigError` when it is missing, or when others than its owner may read it."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
                raise ConfigError(f"{what} {path} is open to others: close it with  chmod 600 {path}")
            if found.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"{what} {path} belongs to another user: it must belong to the one that runs attune")
            if found.st_size > MOST_BYTES:
                raise ConfigError(f"{what} {path} is too large to be one")
            return file.read()
    except FileNotFoundError as error:
        raise ConfigError(f"{what} {path} does not exist") from error
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error


def write_private(path: Path, content: bytes) -> None:
    """`content` in the place of `path`, which only the owner may read; what was there before is wiped."""
    with wiping_former(path), atomic_write(path, binary=True, private=True) as file:
        file.write(content)


@contextmanager
def wiping_former(path: Path) -> Iterator[None]:
    """Wipes what `path` was when the block began, once the block has put something else in its place without an error."""
    before = _open_for_wiping(path)
    try:
        yield
        if before is not None:
            _wipe(before)
    finally:
        if before is not None:
            os.close(before)


def wipe(path: Path) -> None:
    """Overwrites and removes a file, where there is one."""
    before = _open_for_wiping(path)
    if before is not None:
        try:
            _wipe(before)
        finally:
            os.close(before)
        path.unlink()


def _open_for_wiping(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _wipe(file: int) -> None:
    left, zeros, place = os.fstat(file).st_size, bytes(1 << 20), 0
    while left > 0:
        written = os.pwrite(file, zeros[: min(left, len(zeros))], place)
        left, place = left - written, place + written
    os.fsync(file)
