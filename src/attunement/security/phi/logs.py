"""Log records without protected health information: a filter for `logging` handlers.

What is data is what a program was given, not what a programmer wrote: arguments and what exceptions say. Words of a message that stand
as they are in the code that logs it (its template, the fixed parts of an f-string) are code, and no name in them is anybody's; only
identifiers with a form (numbers, addresses) are taken out of them too.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

from attunement.security.phi.detector import PHIDetector

MOST = 20_000
"""Characters of a message that are read; what stands behind is cut, as it was not read."""
CONVERSION = re.compile(r"%(?:%|(?:\((\w+)\))?[-#0 +]{0,5}(?:\d{1,4})?(?:\.\d{1,4})?[hlL]?([diouxXeEfFgGcrsa]))")
"""Those of `%` whose values can be told apart; a message with others is data as a whole."""
FAULT = re.compile(r"[A-Z]\w{2,60}(?:Error|Exception|Warning|Timeout)")
"""What a class of exceptions is called: nobody's name, and what an operator looks for."""
Region = tuple[int, int]


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
        if record.__dict__.get("_sanitised") is not record.msg:  # by the filter of another handler
            with self._lock:
                self._sanitise(record)
            record.__dict__["_sanitised"] = record.msg
        return True

    def _sanitise(self, record: logging.LogRecord) -> None:
        try:
            text, given = _formatted(record)
            record.msg = self._clean(text, _fixed(record, text, given))
        except Exception as error:  # whatever an argument raises: logging would write all of them to stderr as they are
            record.msg = f"a message cannot be formatted: {type(error).__name__}"
        record.args = None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = self._told(record.exc_info[1])
            record.exc_info = None  # a formatter of its own would write it as it is
        elif record.exc_text:
            record.exc_text = "\n".join(map(self._line, record.exc_text[:MOST].splitlines()))
        if record.stack_info:
            record.stack_info = self._forms.redact(record.stack_info[:MOST])

    def _told(self, error: BaseException) -> str:
        """The traceback, everything that its exceptions say searched as a whole: it may have many lines."""
        whole = traceback.TracebackException.from_exception(error)
        text = "".join(whole.format()).rstrip("\n")[:MOST]
        for said in sorted(set(_said(whole)), key=len, reverse=True):
            clean = self._clean(said)
            if clean != said:
                text = text.replace(said, clean)
                before, after = said.splitlines(), clean.splitlines()
                if len(before) == len(after):  # in a group of exceptions each line is indented
                    for one, other in zip(before, after, strict=True):
                        text = text.replace(one, other) if one.strip() else text
        return "\n".join(map(self._forms.redact, text.splitlines()))

    def _line(self, line: str) -> str:
        kind, colon, told = line.partition(": ")
        if not colon or line.startswith(" "):
            return self._forms.redact(line)
        return f"{kind}: {self._clean(told)}"

    def _clean(self, text: str, fixed: list[Region] | None = None) -> str:
        """`text` with placeholders; in `fixed` regions only in the place of what has a form."""
        cut, clean = text[:MOST], text[:MOST]
        for span in reversed(self.detector.told(self.detector.detect(cut))):
            start, end = span.start, span.end
            if not span.recogniser.startswith("pattern:") and FAULT.fullmatch(cut, start, end):
                continue
            if fixed and not span.recogniser.startswith("pattern:"):
                start, end = _beside(cut, start, end, fixed)
            if start < end:
                clean = f"{clean[:start]}[{span.type}]{clean[end:]}"
        return clean + ("... [cut]" if len(text) > MOST else "")


def _formatted(record: logging.LogRecord) -> tuple[str, list[Region] | None]:
    """The message, and where its arguments stand in it; None where there are none, or where that cannot be told."""
    text = record.getMessage()
    if not record.args or not isinstance(record.msg, str):
        return text, None
    mapping, values = (record.args, ()) if isinstance(record.args, Mapping) else (None, record.args)
    left, out, at, given = iter(values), "", 0, list[Region]()
    for match in CONVERSION.finditer(record.msg):
        out += record.msg[at : match.start()]
        at = match.end()
        value: Any = None
        if match[0] != "%%":
            value = mapping if mapping is not None else (next(left, None),)
        piece = "%" if match[0] == "%%" else match[0] % value
        if match[0] != "%%":
            given.append((len(out), len(out) + len(piece)))
        out += piece
    return text, given if out + record.msg[at:] == text else None


def _fixed(record: logging.LogRecord, text: str, given: list[Region] | None) -> list[Region]:
    """The regions of `text` that stand in the code which logged it. What cannot be known to be code is data."""
    frame = _frame_of(record)
    if frame is None or not isinstance(
        record.msg, str
    ):  # in another thread, as behind a queue: a template that has arguments is one
        return _between(given, len(text)) if given else []
    if _is_written(record.msg, frame):
        return _between(given, len(text)) if given is not None else [] if record.args else [(0, len(text))]
    free = [(0, len(text))] if given is None else _between(given, len(text))
    return [found for part in _texts(frame.f_code) for found in _places(part, text, free)]


def _frame_of(record: logging.LogRecord) -> FrameType | None:
    """Where the record was made, as long as that runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame and not (frame.f_code.co_filename == record.pathname and frame.f_lineno == record.lineno):
        frame = frame.f_back
    return frame


def _is_written(text: str, frame: FrameType) -> bool:
    """Whether `text` is a constant of the function or of its module."""
    return text in _texts(frame.f_code) or any(value is text for name, value in frame.f_globals.items() if name.isupper())


def _texts(code: CodeType) -> set[str]:
    return {part for part in code.co_consts if isinstance(part, str)}


def _places(part: str, text: str, free: list[Region]) -> Iterator[Region]:
    """Where `part` stands in the `free` regions of `text`, without the words that it would cut."""
    if not any(map(str.isalpha, part)):
        return
    at = -1
    while (at := text.find(part, at + 1)) >= 0:
        start, end = at, at + len(part)
        while start < end and start and text[start - 1].isalnum() and text[start].isalnum():
            start += 1
        while end > start and end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
            end -= 1
        if start < end and any(a <= start and end <= b for a, b in free):
            yield start, end


def _between(regions: list[Region], length: int) -> list[Region]:
    """What is left of a text beside `regions`, which are in order."""
    edges = [0, *(edge for region in regions for edge in region), length]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _beside(text: str, start: int, end: int, fixed: list[Region]) -> Region:
    """The part of a span from its first to its last letter or digit that is not `fixed`; nothing where all of them are."""
    data = [i for i in range(start, end) if text[i].isalnum() and not any(a <= i < b for a, b in fixed)]
    return (data[0], data[-1] + 1) if data else (start, start)


def _said(error: traceback.TracebackException) -> Iterator[str]:
    """What an exception and those before and inside it say, each as a whole."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield "".join(one.format_exception_only()).partition(": ")[2].rstrip("\n")[:MOST]
        waiting += [other for other in (one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())) if other]
