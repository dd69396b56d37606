"""Datasets, checkpoints and backups as age files (age-encryption.org/v1; X25519, ChaCha20-Poly1305), written and read as streams.

Whoever writes needs the recipient alone (`age1...`), which is no secret: a machine can write what it cannot read. Plain text
never touches the disk on either way: what is written goes through a pipe of 64 KiB, and what is read comes out of one, or into
memory as a whole (`read_bytes`: the size of the file once). The age command opens the same files.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyrage

from attunement.errors import ConfigError, DataError, IntegrityError
from attunement.security.private_files import read_private, wiping_former, write_private
from attunement.storage.files import atomic_write

IDENTITY_VARIABLE = "ATTUNE_SECURITY__AGE_IDENTITY"
"""The setting `security.age_identity` as a variable: what reads a file deep in a stage, or in another process, finds it there."""
MAGIC = b"age-encryption.org/v1\n"


def new_identity(path: Path) -> str:
    """Makes an identity in a new file of mode 0600, and returns its recipient. Raises `ConfigError` when there is a file."""
    if path.exists():
        raise ConfigError(f"there is a file at {path} already: an identity opens what was written for it, so keep it")
    identity = pyrage.x25519.Identity.generate()
    write_private(path, f"# recipient: {identity.to_public()}\n{identity}\n".encode())
    return str(identity.to_public())


def identities_in(path: Path) -> list[Any]:
    """The identities in a file as age-keygen writes it. Raises `ConfigError` when it is open to others, or holds none."""
    text = read_private(path, "the age identity").decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError as error:
        raise ConfigError(f"{path} holds a line that is no age identity (AGE-SECRET-KEY-1...)") from error
    if not found:
        raise ConfigError(f"{path} holds no age identity (AGE-SECRET-KEY-1...): make one with  attune keys identity")
    return found


def use_identity(path: Path | None) -> None:
    """Has this process, and those that it starts, open age files with the identity in `path`; None leaves it as it is."""
    if path is not None:
        os.environ[IDENTITY_VARIABLE] = str(path.expanduser())


def recipients_of(texts: Sequence[str]) -> list[Any]:
    """The recipients that `texts` name. Raises `ConfigError`."""
    out = []
    for text in texts:
        try:
            out.append(pyrage.x25519.Recipient.from_str(text.strip()))
        except pyrage.RecipientError as error:
            raise ConfigError(
                f"'{text}' is no age recipient: it looks like age1..., and age-keygen -y or the file tells it"
            ) from error
    return out


def is_encrypted(path: Path) -> bool:
    """Whether a file is an age file, by its first line."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def encrypting(target: IO[bytes], recipients: Sequence[Any]) -> Iterator[IO[bytes]]:
    """A file to write plain bytes to, which come into `target` encrypted; they are all there when the block ends."""
    read_end, write_end = os.pipe()
    failed: list[BaseException] = []

    def work() -> None:
        with open(read_end, "rb") as source:
            try:
                pyrage.encrypt_io(source, target, list(recipients))
            except BaseException as error:
                failed.append(error)

    thread = threading.Thread(target=work, name="age-encrypt")
    thread.start()
    try:
        with open(write_end, "wb") as plain:
            yield plain
    except BrokenPipeError:
        if not failed:
            raise
    finally:
        thread.join()
    if failed:
        raise DataError(f"the encrypted file could not be written: {failed[0]}") from failed[0]


@contextmanager
def encrypted_write(path: Path, recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    """`atomic_write` of an age file for `recipients` (`age1...`): plain bytes go in, `path` appears when the block ends well."""
    found = recipients_of(recipients)
    with atomic_write(path, binary=True, private=True) as target, encrypting(target, found) as plain:
        yield plain


class _Decrypting(io.RawIOBase):
    """What an age file holds, as it is decrypted by another thread; a chunk comes only after its tag held."""

    def __init__(self, source: IO[bytes], identities: Sequence[Any], told: str) -> None:
        self._told, self._failed = told, list[BaseException]()
        self._read_end, write_end = os.pipe()

        def work() -> None:
            with source, open(write_end, "wb") as target:
                try:
                    pyrage.decrypt_io(source, target, list(identities))
                except BaseException as error:
                    self._failed.append(error)

        self._thread = threading.Thread(target=work, name="age-decrypt", daemon=True)
        self._thread.start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = os.read(self._read_end, len(buffer))
        if not part:  # the end, or where it broke off
            self._thread.join()
            if self._failed:
                raise _as_ours(self._failed[0], self._told)
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            os.close(self._read_end)  # a reader who stops early: the thread's next write fails, and it ends
            self._thread.join()
        super().close()


def decrypting(source: IO[bytes], identities: Sequence[Any], told: str) -> IO[bytes]:
    """The plain bytes of an age stream, which is closed with it; `told` names it in errors.

    Reading raises `IntegrityError` for a changed or cut file, `DataError` when no identity opens it.
    """
    return io.BufferedReader(_Decrypting(source, identities, told), 1 << 16)


def open_file(path: Path, identity: Path | None = None) -> IO[bytes]:
    """The bytes of a file as a stream, decrypted where it is an age file, by `identity` or the one that is set (`use_identity`).

    Raises as `decrypting`; `ConfigError` without an identity.
    """
    if not is_encrypted(path):
        return open(path, "rb")
    if identity is None and (named := os.environ.get(IDENTITY_VARIABLE)):
        identity = Path(named)
    if identity is None:
        raise ConfigError(f"{path} is encrypted: say where your age identity lies with  --set security.age_identity=FILE")
    identities = identities_in(identity.expanduser())
    return decrypting(open(path, "rb"), identities, str(path))


def read_bytes(path: Path, identity: Path | None = None) -> bytes:
    """All bytes of a file in memory, decrypted where it is an age file: for weights, which are read from a buffer."""
    with open_file(path, identity) as file:
        return file.read()


def read_jsonl(path: Path, identity: Path | None = None) -> Iterator[Any]:
    """The rows of a file of JSON lines, as a stream, decrypted where it is an age file (`storage.files.read_jsonl` for both)."""
    with open_file(path, identity) as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def seal_file(path: Path, recipients: Sequence[str]) -> None:
    """Puts the encrypted form of a file in its place, under its name (it is known by its first line), and wipes the plain one."""
    with wiping_former(path), open(path, "rb") as source, encrypted_write(path, recipients) as target:
        while part := source.read(1 << 20):
            target.write(part)


def _as_ours(error: BaseException, told: str) -> Exception:
    if isinstance(error, pyrage.DecryptError) and "matching" in str(error).lower():
        return DataError(f"{told} was not encrypted for your age identity: it needs that of one of its recipients")
    return IntegrityError(f"{told} was changed or cut: it does not decrypt ({error})")
