"""The master key: the one secret outside of the database. It wraps the data keys and never sees a client's data.

Three places for it: a file that only its owner may read, an environment variable, or a key management service behind
`KmsMasterKey`. Wrapping is AES-256-GCM (NIST SP 800-38D) with what the key is for as associated data, so that a wrapped key
cannot be taken for another's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attunement.errors import ConfigError, IntegrityError
from attunement.security.private_files import read_private, write_private

KEY_BYTES = 32
NONCE_BYTES = 12
PREFIX = "attunement-master-key-1:"


class MasterKey(ABC):
    """Wraps and unwraps small secrets. `key_id` names the key that wraps now; it is no secret."""

    @property
    @abstractmethod
    def key_id(self) -> str: ...

    @abstractmethod
    def wrap(self, secret: bytes, about: bytes) -> bytes:
        """`secret` encrypted, bound to `about`."""

    @abstractmethod
    def unwrap(self, wrapped: bytes, about: bytes, key_id: str) -> bytes:
        """What `wrap` was given, when the key `key_id` did it. Raises `IntegrityError` when it was not wrapped so,

        `ConfigError` when that key is not here.
        """

    def knows(self, key_id: str) -> bool:
        """Whether what that key wrapped can be unwrapped here."""
        return key_id == self.key_id

    def refresh(self) -> None:  # noqa: B027 - most kinds have nothing to look at
        """Looks whether the key was changed elsewhere meanwhile; nothing, where it cannot have been."""


class HeldMasterKey(MasterKey):
    """Keys in this process's memory: the first wraps, all unwrap (the others are former ones, until a rotation is done)."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._set(keys)

    def _set(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}
        self._first = next(iter(self._ciphers))

    @property
    def key_id(self) -> str:
        return self._first

    def knows(self, key_id: str) -> bool:
        return key_id in self._ciphers

    def wrap(self, secret: bytes, about: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[self._first].encrypt(nonce, secret, about)

    def unwrap(self, wrapped: bytes, about: bytes, key_id: str) -> bytes:
        if key_id not in self._ciphers:
            raise ConfigError(f"the master key {key_id} is not here, and what it wrapped cannot be opened without it")
        try:
            return self._ciphers[key_id].decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], about)
        except (InvalidTag, ValueError) as error:
            raise IntegrityError("a wrapped key was changed, or belongs to something else") from error


class FileMasterKey(HeldMasterKey):
    """The key in a file of mode 0600, one line a key, the one that wraps first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(self._read())

    @classmethod
    def create(cls, path: Path) -> FileMasterKey:
        """A new key in a new file. Raises `ConfigError` when there is one: losing it loses everything that it wraps."""
        if path.is_symlink() or path.exists():
            raise ConfigError(f"there is a master key at {path} already: change it with  attune keys rotate")
        write_private(path, _text([os.urandom(KEY_BYTES)]))
        return cls(path)

    def add(self) -> None:
        """A new key that wraps from now on, before the present one. Nothing when a rotation has begun already."""
        keys = self._read()
        if len(keys) == 1:
            write_private(self.path, _text([os.urandom(KEY_BYTES), *keys]))
        self.refresh()

    def drop_former(self) -> None:
        """Forgets all keys but the one that wraps: what is still wrapped by another is lost, and that is meant."""
        write_private(self.path, _text(self._read()[:1]))
        self.refresh()

    @property
    def former(self) -> list[str]:
        """The ids of the keys that wrap no longer."""
        return list(self._ciphers)[1:]

    def refresh(self) -> None:
        self._set(self._read())

    def _read(self) -> list[bytes]:
        if not self.path.exists():
            raise ConfigError(f"there is no master key at {self.path}: make one with  attune keys init")
        return _parse(read_private(self.path, "the master key").decode("ascii", "replace"), f"{self.path}")


class EnvironmentMasterKey(HeldMasterKey):
    """The key in an environment variable, in the form of the file's lines; several are separated by commas or spaces."""

    def __init__(self, variable: str) -> None:
        text = os.environ.get(variable, "")
        if not text.strip():
            raise ConfigError(f"the environment variable {variable} is to hold the master key, and is empty")
        super().__init__(_parse(text.replace(",", "\n"), f"the environment variable {variable}"))


class KmsMasterKey(MasterKey):
    """A key that stays in a key management service: an adapter gives the two calls, and maps its service's errors to

    `ServiceError` (or `TemporaryError`) and a refused decryption to `IntegrityError`. `context` is what services call the
    encryption context: they bind it to the ciphertext as associated data, and keep it in their own log.
    """

    def wrap(self, secret: bytes, about: bytes) -> bytes:
        return self.encrypt(secret, _context(about))

    def unwrap(self, wrapped: bytes, about: bytes, key_id: str) -> bytes:
        return self.decrypt(wrapped, _context(about), key_id)

    @abstractmethod
    def encrypt(self, secret: bytes, context: Mapping[str, str]) -> bytes: ...

    @abstractmethod
    def decrypt(self, wrapped: bytes, context: Mapping[str, str], key_id: str) -> bytes: ...


def _context(about: bytes) -> dict[str, str]:
    """What the key is for, as a hash: a service's log need not learn which client it is."""
    return {"attunement": hashlib.sha256(about).hexdigest()}


def _id_of(key: bytes) -> str:
    """16 hexadecimal digits that name a key and tell nothing of it."""
    return hmac.new(key, b"attunement master key id", hashlib.sha256).hexdigest()[:16]


def _text(keys: Sequence[bytes]) -> bytes:
    return "".join(f"{PREFIX}{base64.b64encode(key).decode()}\n" for key in keys).encode()


def _parse(text: str, where: str) -> list[bytes]:
    keys = []
    for line in text.split():
        try:
            keys.append(base64.b64decode(line.removeprefix(PREFIX), validate=True) if line.startswith(PREFIX) else b"")
        except binascii.Error:
            keys.append(b"")
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigError(f"{where} holds no master key: a line is {PREFIX} and {KEY_BYTES} bytes in base64")
    return keys
