"""Ctrl-C and SIGTERM while a run trains: noted, so that the step in hand and a checkpoint come first."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

NOTED = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Inside the block the first of `NOTED` is kept in `caught`; a second one ends the process at once.

    Outside the main thread, where Python allows no handlers, nothing is noted.
    """

    def __init__(self) -> None:
        self.caught = 0
        """The signal's number; 0: none yet."""
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.caught)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.getsignal(each) for each in NOTED}
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def listen(self) -> None:
        """Takes the signals, also back from Lightning: its trainer puts a handler of its own before ours, which leaves the loop at
        SIGTERM with an exit code of 0 wherever it stands."""
        if not self.caught:
            for each in self._before:
                signal.signal(each, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.caught = number
        self._put_back()

    def _put_back(self) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
