"""Every error that Attunement raises on purpose.

    AttunementError                 anything that went wrong on purpose
    └── UserError                   one line that says what to do; no traceback at the command line
        ├── ConfigError             a setting is unknown, of the wrong type or impossible
        ├── DataError               input that cannot be read or used
        │   ├── IntegrityError      a checksum or a manifest does not match what is on disk
        │   ├── StoreDownError      a database does not answer now: worth another try after some seconds
        │   ├── ConflictError       what is there already is another: somebody else was first
        │   ├── DocumentError       a document that is not taken, or is not there
        │   └── RecordingError      a recording that gives nothing: broken, silent, no speech, licence not allowed
        ├── MissingExtraError       an optional dependency is not installed; names the extra
        ├── ModelError              a model or checkpoint that cannot be loaded or trained
        ├── AccessError             somebody may not do this, or has not shown who they are
        └── ServiceError            the service, or a provider of text, cannot start or cannot answer
            ├── TemporaryError      worth another try: too many requests, a time-out, a server's fault
            ├── AnswerError         a provider's answer that cannot be used: refused, cut, garbage
            └── BudgetError         what a run may cost is spent

Exit codes of `attune`: 0 done; 1 a bug (a traceback is worth reporting); 2 wrong usage; 3 a `UserError`;
4 done, but some input failed (only with `--strict`); 130 interrupted by Ctrl-C, a training also by SIGTERM.
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


class StoreDownError(DataError):
    """A database does not answer now, is busy, or its circuit is open: worth another try after `after_seconds`."""

    def __init__(self, told: str, after_seconds: float = 2.0) -> None:
        super().__init__(told)
        self.after_seconds = after_seconds


class ConflictError(DataError):
    """What is there already says something else: somebody was first, or changed it meanwhile. Read it again."""


class DocumentError(DataError):
    """A document that is not taken, or is not there. `reason` is its code: title, media_type, too_large, content, unknown."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(told)
        self.reason = reason


class RecordingError(DataError):
    """A recording that gives nothing; the others go on. `reason` is its code: broken, no_audio, silent, no_speech, licence, ..."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(told)
        self.reason = reason


class MissingExtraError(UserError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: install it with  pip install 'attunement[{extra}]'")


class ModelError(UserError):
    """A model or checkpoint that cannot be loaded or trained."""


class AccessError(UserError):
    """Somebody may not do this, or has not shown who they are. `reason` is its code: not_granted, credentials, wait, ..."""

    def __init__(self, reason: str, told: str, after_seconds: float | None = None) -> None:
        super().__init__(told)
        self.reason = reason
        self.after_seconds = after_seconds


class ServiceError(UserError):
    """The service, or a provider of text, cannot start or cannot answer."""


class TemporaryError(ServiceError):
    """Worth another try, after `after_seconds` where the provider said so. `may_be_billed` where the answer was lost on the way."""

    def __init__(self, told: str, after_seconds: float | None = None, *, may_be_billed: bool = False) -> None:
        super().__init__(told)
        self.after_seconds = after_seconds
        self.may_be_billed = may_be_billed


class AnswerError(ServiceError):
    """A provider's answer that cannot be used. `reason` is its code: refused, cut, not_json, wrong_shape, wrong_language..."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(told)
        self.reason = reason


class BudgetError(ServiceError):
    """What a run may cost is spent."""
