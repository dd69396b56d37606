"""Every error that Attunement raises on purpose.

    AttunementError                 anything that went wrong on purpose
    └── UserError                   one line that says what to do; no traceback at the command line
        ├── ConfigError             a setting is unknown, of the wrong type or impossible
        ├── DataError               input that cannot be read or used
        │   └── IntegrityError      a checksum or a manifest does not match what is on disk
        ├── MissingExtraError       an optional dependency is not installed; names the extra
        ├── ModelError              a model or checkpoint that cannot be loaded or trained
        └── ServiceError            the service cannot start or cannot answer

Exit codes of `attune`: 0 done; 1 a bug (a traceback is worth reporting); 2 wrong usage; 3 a `UserError`;
4 done, but some input failed (only with `--strict`); 130 interrupted by Ctrl-C.
"""

EXIT_BUG = 1
EXIT_USER_ERROR = 3
EXIT_PARTIAL = 4
EXIT_INTERRUPTED = 130


class AttunementError(Exception):
    """Root of all errors that this package raises on purpose."""


class UserError(AttunementError):
    """Something the user can mend: the message is one sentence that says how."""


class ConfigError(UserError):
    """A setting is unknown, of the wrong type or impossible."""


class DataError(UserError):
    """Input that cannot be read or used."""


class IntegrityError(DataError):
    """A checksum or a manifest does not match what is on disk."""


class MissingExtraError(UserError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: install it with  pip install 'attunement[{extra}]'")


class ModelError(UserError):
    """A model or checkpoint that cannot be loaded or trained."""


class ServiceError(UserError):
    """The service cannot start or cannot answer."""
