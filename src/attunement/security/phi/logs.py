"""Log records without protected health information: a filter for `logging` handlers."""

from __future__ import annotations

import logging

from attunement.security.phi.detector import PHIDetector

MOST = 20_000
"""Characters of a message that are read; what stands behind is cut, as it was not read."""


class Sanitiser(logging.Filter):
    """Puts typed placeholders in the place of what it finds, in message, arguments and tracebacks; drops nothing.

    Add it to handlers, not to loggers: a logger's filter does not see what its children log. The default detector has patterns alone
    and no learned tagger: it costs microseconds a record.
    """

    def __init__(self, detector: PHIDetector | None = None) -> None:
        super().__init__()
        self.detector = detector or PHIDetector(model=False)

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record is changed."""
        record.msg, record.args = self._clean(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._clean(record.exc_text)
        if record.stack_info:
            record.stack_info = self._clean(record.stack_info)
        return True

    def _clean(self, text: str) -> str:
        cut = text[:MOST]
        return self.detector.redact(cut) + ("... [cut]" if len(text) > MOST else "")
