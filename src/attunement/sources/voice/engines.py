"""Who hears: a stretch of speech made into words with times and the engine's own confidence.

`Transcriber` is the seam; it counts and times. `PocketSphinx` is small, offline and US English (its model comes with the package; the
words have no capitals and no punctuation: `punctuating.py`). `Whisper` is faster-whisper, with a model that the user names or puts into
a folder. A piece is at most 30 s, and nothing is kept from one piece to the next but counters: flat memory over any recording.

Sources: Huggins-Daines et al., "PocketSphinx: a free, real-time continuous speech recognition system", ICASSP 2006; Wessel et al.,
"Confidence measures for large vocabulary continuous speech recognition", 2001 (posteriors of words in a lattice);
Radford et al., "Robust speech recognition via large-scale weak supervision", 2022.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.config import VoiceSettings
from attunement.errors import MissingExtraError, ModelError
from attunement.records import SpokenWord

RATE = 16000
LONGEST_SECONDS = 30.0
"""Of a piece: Whisper's window, and what bounds the memory of a lattice."""
_LEVEL = 0.1
"""Root mean square that a piece is brought to (-20 dBFS)."""
_MOST_GAIN = 100.0
"""40 dB: what is softer is not made into speech."""
SPEED = {"ds": 2, "maxhmmpf": 1500}
"""Acoustic scores of every second frame, and 1,500 active models a frame instead of 30,000: where noise drowns the words the search grows,
for nothing. Processor time a second, over clean speech and 10 dB: 1.11 as it comes, 0.35 with 3,000 at the same word errors (0.50, 0.49);
1,500 halves what 5 dB takes (0.85 to 0.46). `ds` 3 hears clean speech worse (0.22 for 0.13)."""
_SILENT = 1e-6
_ALTERNATE = re.compile(r"\(\d+\)$")
Samples = NDArray[np.float32]


class Transcriber(ABC):
    """Hears pieces of a recording. `pieces`, `heard_seconds` and `took_seconds` (wall clock) count over its life."""

    name = ""
    punctuates = False
    """Whether its words carry capitals and punctuation."""

    def __init__(self) -> None:
        self.pieces = 0
        self.heard_seconds = 0.0
        self.took_seconds = 0.0
        self._languages: Counter[str] = Counter()

    def begin(self) -> None:
        """A new recording: forgets which languages were heard."""
        self._languages.clear()

    def hear(self, samples: Samples, start_seconds: float = 0.0) -> list[SpokenWord]:
        """Words of `samples[n]` (mono, 16 kHz, -1..1, at most 30 s); their times count from `start_seconds`, in order."""
        assert samples.ndim == 1, "a piece is mono"
        assert len(samples) <= (LONGEST_SECONDS + 0.5) * RATE, f"a piece is at most {LONGEST_SECONDS:g} s"
        if not len(samples):
            return []
        began = time.perf_counter()
        even = levelled(samples)
        words = self._words(even) if even.any() else []  # of pure silence an engine makes words up
        self.took_seconds += time.perf_counter() - began
        self.heard_seconds += len(samples) / RATE
        self.pieces += 1
        longest = len(samples) / RATE
        return [
            SpokenWord(
                text, start_seconds + min(start, longest), start_seconds + min(max(start, end), longest), round(float(sure), 4)
            )
            for text, start, end, sure in words
            if text
        ]

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of sound."""
        return self.took_seconds / self.heard_seconds if self.heard_seconds else 0.0

    def languages(self) -> Mapping[str, float]:
        """Mean probability of each language since `begin`, by seconds; empty for an engine that does not tell."""
        total = sum(self._languages.values())
        return {code: weight / total for code, weight in self._languages.most_common() if total}

    @abstractmethod
    def _words(self, samples: Samples) -> list[tuple[str, float, float, float]]:
        """(word, start, end, confidence) in seconds within the piece."""


def levelled(samples: Samples) -> Samples:
    """Without offset, at an even loudness; what would clip is limited. Silence stays silence."""
    centred = samples - samples.mean()
    level = float(np.sqrt(np.mean(centred**2)))
    if level < _SILENT:
        return np.zeros_like(samples)
    made: Samples = np.clip(centred * min(_LEVEL / level, _MOST_GAIN), -1.0, 1.0).astype(np.float32)
    return made


class PocketSphinx(Transcriber):
    """The offline default: US English, read speech; a word's confidence is its posterior in the lattice."""

    name = "pocketsphinx"

    def __init__(self) -> None:
        super().__init__()
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise MissingExtraError("transcription", "voice") from error
        self._decoder: Any = Decoder(loglevel="FATAL", **SPEED)

    def _words(self, samples: Samples) -> list[tuple[str, float, float, float]]:
        decoder = self._decoder
        decoder.reinit_feat()  # 0.1 ms; else means and noise of the last piece change what is heard in this one
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        return [
            (_ALTERNATE.sub("", part.word), part.start_frame / 100, (part.end_frame + 1) / 100, min(1.0, part.prob))
            for part in decoder.seg() or ()
            if part.word[0] not in "<[+"  # <s>, <sil>, [NOISE], [SPEECH], ++BREATH++
        ]


class Whisper(Transcriber):
    """faster-whisper. `model`: a folder (nothing is fetched) or a name, which is downloaded once into the cache of Hugging Face."""

    name = "whisper"
    punctuates = True

    def __init__(self, model: str = "large-v3-turbo", device: str = "auto", *, language: str = "", beam_size: int = 5) -> None:
        """`language`: hear everything as this one (ISO 639-1); empty: the engine tells each piece's."""
        super().__init__()
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise MissingExtraError("transcription with Whisper", "voice") from error
        self._check(model)
        self._language, self._beam_size = language, beam_size
        try:
            self._model: Any = WhisperModel(
                model, device=device, compute_type="auto"
            )  # the fastest that the device has: int8, float16
        except (RuntimeError, ValueError, OSError) as error:  # CTranslate2; a wrong name; hub, network, files
            told = str(error).strip().splitlines()
            raise ModelError(
                f"Whisper model '{model}' cannot be had: {told[0] if told else type(error).__name__}. {_NAMES}"
            ) from error

    @staticmethod
    def _check(model: str) -> None:
        """A folder must hold all: without `tokenizer.json` faster-whisper would ask the hub for another model's."""
        folder = Path(model)
        if folder.is_dir():
            if missing := [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]:
                raise ModelError(f"{folder} is no whole faster-whisper model: {', '.join(missing)} is missing. {_NAMES}")
        elif folder.is_absolute() or model.startswith("."):
            raise ModelError(f"there is no folder {folder}. {_NAMES}")

    def _words(self, samples: Samples) -> list[tuple[str, float, float, float]]:
        segments, told = self._model.transcribe(
            samples,
            language=self._language or None,
            beam_size=self._beam_size,
            word_timestamps=True,
            vad_filter=False,  # speech was found before (activity.py)
            condition_on_previous_text=False,  # else one loop of words carries on into all that follows
        )
        seconds = len(samples) / RATE
        for code, sure in told.all_language_probs or [(told.language, told.language_probability)]:
            self._languages[code] += sure * seconds
        return [
            (w.word.strip(), float(w.start), float(w.end), float(w.probability)) for part in segments for w in part.words or ()
        ]


_NAMES = "Give voice.whisper_model a folder with a model for faster-whisper, or a name such as large-v3-turbo while online"


def open_transcriber(settings: VoiceSettings) -> Transcriber:
    """The engine of `settings.engine`. Raises `MissingExtraError`, `ModelError`."""
    if settings.engine == "whisper":
        return Whisper(settings.whisper_model, settings.device)
    return PocketSphinx()
