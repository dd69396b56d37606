"""Log records without protected health information: a filter for `logging` handlers."""

from __future__ import annotations

import logging
import threading

from attunement.security.phi.detector import PHIDetector

MOST = 20_000
"""Characters of a message that are read; what stands behind is cut, as it was not read."""


class Sanitiser(logging.Filter):
    """Puts typed placeholders in the place of what it finds, in message, arguments and tracebacks; drops no record.

    Add it to handlers, not to loggers: a logger's filter does not see what its children log. The default detector has patterns and
    lists of names but no learned tagger. In tracebacks names are sought in what an exception says alone, not in lines of code.
    """

    def __init__(self, detector: PHIDetector | None = None) -> None:
        super().__init__()
        self.detector = detector or PHIDetector(model=False)
        self._forms = PHIDetector(model=False, lists=False)
        self._lock = threading.Lock()  # a handler filters before it locks, and finders are for one thread

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record is changed."""
        with self._lock:
            self._sanitise(record)
        return True

    def _sanitise(self, record: logging.LogRecord) -> None:
        record.msg, record.args = self._clean(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = "\n".join(map(self._line, record.exc_text[:MOST].splitlines()))
        if record.stack_info:
            record.stack_info = self._forms.redact(record.stack_info[:MOST])

    def _line(self, line: str) -> str:
        kind, colon, told = line.partition(": ")
        if not colon or line.startswith(" "):
            return self._forms.redact(line)
        return f"{kind}: {self._clean(told)}"

    def _clean(self, text: str) -> str:
        return self.detector.redact(text[:MOST]) + ("... [cut]" if len(text) > MOST else "")
