"""The engine that answers now, and how another takes its place without a reply being dropped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from attunement.errors import ModelError, ServiceError, UserError
from attunement.model.checkpoint import DESCRIPTION, find_checkpoint
from attunement.records import GenerationConfig
from attunement.serving.engines import Engine, Messages, Piece

NO_MODEL = "no model is loaded: start the service with  attune serve --model RUN"
FAILURES = (UserError, OSError, RuntimeError, ValueError, MemoryError)
"""What loading may end in: ours, a missing file, a device without memory, files that are not what they say."""
_ALERTS = logging.getLogger("attunement.alerts")


@dataclass
class _Held:
    """An engine and how many replies it has in the making; `retired` closes with the last of them."""

    engine: Engine
    replies: int = 0
    retired: bool = False


class EngineHolder:
    """Holds the engine. `make` gives an engine of a checkpoint's folder, not started; all methods may be called by many at once."""

    def __init__(self, make: Callable[[Path], Engine]) -> None:
        self._make = make
        self._held: _Held | None = None
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self.alert = ""
        """What operators should know of the last load; empty when it did what it was asked to. In the health, too."""

    @property
    def engine(self) -> Engine | None:
        """The engine that new replies come from."""
        held = self._held
        return held.engine if held else None

    def load(self, path: Path) -> Engine:
        """Has the model at `path` answer from now on; replies in the making are ended by the engine that began them.

        When it cannot be loaded, operators are alerted, and the model that answers now goes on; where there is none, the checkpoint
        before it in the run is taken, and the one before that. Raises what the first failed with when there is none of these.
        """
        with self._loading:
            try:
                engine = self._started(path)
            except FAILURES as error:
                engine, first = self._fallen_back(path, error), error
                self.alert = f"{_named(path)} could not be loaded ({_line(first)}); {engine.version} answers"
                _ALERTS.error("model: %s", self.alert)
                if self._held and engine is self._held.engine:
                    return engine
            else:
                self.alert = ""
            self._put(engine)
            return engine

    def stream(
        self, messages: Messages, generation: GenerationConfig, deadline: float | None = None, seed: int | None = None
    ) -> Generator[Piece]:
        """`Engine.stream` of the engine that answers when the first piece is asked for. Raises `ServiceError` without one, too."""
        with self._lock:
            held = self._held
            if held is None:
                raise ServiceError(NO_MODEL)
            held.replies += 1
        try:
            yield from held.engine.stream(messages, generation, deadline, seed)
        finally:
            with self._lock:
                held.replies -= 1
                over = held.retired and not held.replies
            if over:
                held.engine.close()

    def close(self) -> None:
        """Closes the engine at once."""
        with self._lock:
            held, self._held = self._held, None
        if held:
            held.engine.close()

    def _put(self, engine: Engine) -> None:
        with self._lock:
            before, self._held = self._held, _Held(engine)
            over = before is not None and not before.replies
            if before is not None:
                before.retired = True
        if before is not None and over:
            before.engine.close()

    def _started(self, path: Path) -> Engine:
        engine = self._make(path)
        try:
            engine.start()
        except BaseException:
            engine.close()
            raise
        return engine

    def _fallen_back(self, path: Path, error: Exception) -> Engine:
        """What answers instead. Raises `error` where nothing can."""
        if self._held:
            return self._held.engine
        for earlier in checkpoints_before(path):
            try:
                return self._started(earlier)
            except FAILURES as another:
                _ALERTS.error("model: %s could not be loaded either (%s)", _named(earlier), _line(another))
        raise error


def checkpoints_before(path: Path) -> list[Path]:
    """The checkpoints of a run that are older than the one that `path` means, the youngest first; none outside of a run."""
    try:
        checkpoint = find_checkpoint(path)
    except ModelError:
        return []
    if checkpoint.parent.name != "checkpoints" or not checkpoint.parent.is_dir():
        return []
    # their names begin with the epoch and the step, in as many digits: the order of the names is that of time
    names = sorted((each.name for each in checkpoint.parent.iterdir() if (each / DESCRIPTION).is_file()), reverse=True)
    return [checkpoint.parent / name for name in names if name < checkpoint.name]


def _named(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
