"""The service's logs after a run full of personal data: nothing of it stands in any of them."""

from __future__ import annotations

import io
import logging

import pytest

from attunement.serving.run import sanitise_logs

WORDS = ("Kowalczyk", "555-0147", "mailbox.example")
SAID = "My name is Agnieszka Kowalczyk, call (212) 555-0147 or a.k@mailbox.example"


def test_every_handler_is_sanitised(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: io.StringIO() for name in ("", "uvicorn", "attunement")}
    added = {name: logging.StreamHandler(stream) for name, stream in streams.items()}
    for name, handler in added.items():
        logging.getLogger(name).addHandler(handler)
    try:
        sanitise_logs()
        sanitise_logs()
        for name in ("attunement.serving", "uvicorn.error", "elsewhere"):
            log = logging.getLogger(name)
            log.warning("a request said %s", SAID)
            log.warning("no reply in time (%s)", "BusyError")
            try:
                raise ValueError(SAID)
            except ValueError:
                log.exception("it failed")
        assert all(len(handler.filters) == 1 for handler in added.values())
        assert logging.lastResort is not None and len(logging.lastResort.filters) == 1
    finally:
        for name, handler in added.items():
            logging.getLogger(name).removeHandler(handler)
        if logging.lastResort is not None:
            logging.lastResort.filters.clear()
    for stream in streams.values():
        text = stream.getvalue()
        assert (
            "it failed" in text
            and "in time (BusyError)" in text
            and "[NAME]" in text
            and not [word for word in WORDS if word in text]
        )
