"""One recording listened to: what is said, by whom, how; made into a `Transcript`.

Each pass streams the sound, so memory does not grow with its length: where there is speech, what is said in each stretch, who
speaks when, the pitch and loudness. What is heard is written stretch by stretch: a run that was killed goes on behind the last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attunement.config import VoiceSettings
from attunement.errors import RecordingError
from attunement.records import SpokenSegment, SpokenWord, Transcript, to_dict
from attunement.sources.voice.activity import speech_spans
from attunement.sources.voice.audio import pieces
from attunement.sources.voice.diarisation import Diariser, Stretch
from attunement.sources.voice.download import Recording
from attunement.sources.voice.engines import Transcriber
from attunement.sources.voice.segments import segmented
from attunement.storage.files import canonical, content_hash, read_json, write_json

VERSION = 1
"""Goes up when the same sound would give another transcript."""


@dataclass(frozen=True)
class Ears:
    """What listens. `settings` decide what is left out."""

    transcriber: Transcriber
    diariser: Diariser
    settings: VoiceSettings

    @property
    def fingerprint(self) -> str:
        """Changes with everything that decides what a transcript says."""
        return content_hash([VERSION, self.transcriber.name, self.diariser.name, self.settings.model_dump(mode="json")])


Tick = Callable[[str, float, float], None]


def listen(recording: Recording, ears: Ears, work: Path, tick: Tick = lambda *_: None) -> Transcript:
    """The transcript of a recording. `work` is a folder of its own for what is heard so far; `tick` gets (step, done, total).

    Raises `RecordingError` where there is nothing to hear, or nothing that is good enough.
    """
    segments, engine = _captioned(recording, ears, work, tick) or _heard(recording, ears, work, tick)
    ...
