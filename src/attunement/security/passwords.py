"""Passwords: argon2id, and the rules of NIST SP 800-63B-4: length, a list of what everybody takes, no rules of composition.

Lists of broken passwords hold few of 15 characters and more, so it is what remains of a password without its common words,
runs and repetitions that must have some length.
"""

from __future__ import annotations

import re
import secrets
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from attunement.config import AccessSettings
from attunement.errors import AccessError, DataError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MOST_CHARACTERS = 256
"""Longer ones are refused, not cut: NIST asks for at least 64, and the time of hashing must have a limit."""
LEAST_OF_ITS_OWN = 8
"""Characters that must remain without common words, runs and repetitions: what NIST asks of a password beside another factor."""
AT_ONCE, MOST_WAITING = 4, 12
"""Hashes computed at the same time, and sign-ins under way: each hash takes 64 MiB, each that waits one of the server's 40
threads, and signing in is open to everybody."""
_LEET = str.maketrans("0134578@$!", "oieastbasi")
_RUNS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop")
_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"


def one_time_password() -> str:
    """A first password: 24 characters without look-alikes in groups of six, 137 bits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(6)) for _ in range(4))


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._slots, self._seats = threading.BoundedSemaphore(AT_ONCE), threading.BoundedSemaphore(MOST_WAITING)
        self._dummy = ""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A place among those who sign in now. Raises `AccessError` when all are taken."""
        if not self._seats.acquire(blocking=False):
            raise AccessError("wait", "too many sign in at this moment: try again", 1.0)
        try:
            yield
        finally:
            self._seats.release()

    def hash(self, password: str) -> str:
        """An argon2id hash with its parameters and a salt of its own."""
        with self._slots:
            return self._hasher().hash(_normal(password))

    def matches(self, stored: str | None, password: str) -> bool:
        """Whether `password` is the one that was hashed. Without a hash (no such account) it takes as long and is false."""
        from argon2.exceptions import InvalidHashError, VerificationError

        if not self._dummy:
            self._dummy = self.hash(secrets.token_urlsafe(16))
        try:
            with self._slots:
                return self._hasher().verify(stored or self._dummy, _normal(password)[:MOST_CHARACTERS]) and stored is not None
        except (VerificationError, InvalidHashError):
            return False

    def is_outdated(self, stored: str) -> bool:
        """Whether the settings ask for other parameters than those of a hash."""
        return self._hasher().check_needs_rehash(stored)

    def check(self, password: str, context: Iterable[str] = ()) -> None:
        """Raises `DataError` that says what is wrong with a new password; `context` is the account's name and the like."""
        least = self._settings.min_password_length
        text = _normal(password)
        if len(text) < least:
            raise DataError(f"the password is shorter than {least} characters: take a few words that do not belong together")
        if len(text) > MOST_CHARACTERS:
            raise DataError(f"the password is longer than {MOST_CHARACTERS} characters")
        words = {*_common(), "attunement", "attune", *(w for c in context for w in re.split(r"\W+", _plain(c)) if len(w) > 2)}
        if len(_of_its_own(_plain(text), words)) < LEAST_OF_ITS_OWN:
            raise DataError(
                "the password is made of common words, runs or repetitions: take a few words that do not belong together"
            )

    def _hasher(self) -> PasswordHasher:
        from argon2 import PasswordHasher, Type

        s = self._settings
        memory = max(s.argon2_memory_kib, 8 * s.argon2_lanes)
        return PasswordHasher(time_cost=s.argon2_passes, memory_cost=memory, parallelism=s.argon2_lanes, type=Type.ID)


def _normal(password: str) -> str:
    """One form of each character, whatever the keyboard sent; half characters (unpaired surrogates) become marks."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace").decode()


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@cache
def _common() -> frozenset[str]:
    text = resources.files("attunement.security").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.split() if not line.startswith("#"))


def _of_its_own(text: str, words: Iterable[str]) -> str:
    """What is left of `text` without common words (also in digits for letters), keyboard runs and repetitions."""
    ordered = sorted(words, key=len, reverse=True)
    readings = {text, text.translate(_LEET)}
    return min((_without(reading, ordered) for reading in readings), key=len)


def _without(text: str, words: Iterable[str]) -> str:
    for word in words:
        text = text.replace(word, " ")
    for run in _RUNS:
        for sequence in (run, run[::-1]):
            parts = (sequence[i : i + n] for n in range(len(sequence), 2, -1) for i in range(len(sequence) - n + 1))
            for part in parts:
                text = text.replace(part, " ")
    unit, kept = "", []
    for word in text.split():
        found = next((n for n in range(1, len(word) // 2 + 1) if (word[:n] * len(word))[: len(word)] == word), len(word))
        unit = word[:found]
        if unit not in kept:
            kept.append(unit)
    return "".join(kept)
