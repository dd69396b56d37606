"""Who a voice sounds like, as numbers: the GE2E speaker encoder (Wan 2018) over windows of speech.

Three LSTM layers read the mel spectrogram of 1.6 seconds and give a vector of length 1; vectors of one voice lie near each other
whatever it says. The weights are Resemblyzer's (`weights/README.md`); front end and network are written here, since that package is
unkept and brings librosa and webrtcvad. Chosen over statistics of MFCCs by the error rates in `benchmarks/results/voice.json`.

Shapes: n samples at 16 kHz, t frames of 10 ms, w windows.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = Path(__file__).parent / "weights" / "ge2e.safetensors"
RATE, FFT, HOP, MELS = 16_000, 400, 160, 40
"""The front end: windows of 25 ms every 10 ms, 40 mel bands."""
WINDOW_FRAMES = 160
"""1.6 seconds: what the encoder was trained on."""
DIMENSIONS, LAYERS = 256, 3
LOUDNESS_DB = -30.0
"""Quieter speech is made so loud (RMS over full scale): the spectrogram is not a logarithm, so loudness tells."""
HUM_PERCENTILE = 25
"""What each band holds even in the quieter quarter of the frames is taken for noise and taken away: with pink noise 5 dB below the
speech, of four voices' monologues none is then heard as two speakers (before: one), and two alike voices stay two (before: one)."""
LEAST_COVERED = 0.75
"""A last window that holds less speech than this share of it is left out, unless it is the only one."""
BATCH = 256
Samples = NDArray[np.float32]


class SpeakerEncoder:
    """Vectors of voices. The weights load at the first call; deterministic on one machine."""

    def __init__(self, weights: Path = WEIGHTS, step_seconds: float = 0.4) -> None:
        self.weights = weights
        self.step_frames = max(1, round(step_seconds * RATE / HOP))

    def windows(self, samples: Samples, start_seconds: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Times `[w, 2]` (seconds from `start_seconds`' zero) and unit vectors `[w, 256]` of windows of 1.6 s at every step.

        `samples` `[n]` are mono at 16 kHz, -1 to 1, mostly speech. What is shorter than a window gives one vector, of silence behind it.
        """
        if not len(samples):
            return np.zeros((0, 2)), np.zeros((0, DIMENSIONS), dtype=np.float32)
        starts = self._starts(len(samples))
        length = (starts[-1] + WINDOW_FRAMES) * HOP
        padded = np.pad(louder(samples), (0, max(0, length - len(samples))))
        mel = without_hum(mel_spectrogram(padded), frames=len(samples) // HOP)
        vectors = self.vectors(np.stack([mel[start : start + WINDOW_FRAMES] for start in starts]))
        begins = np.asarray(starts) * HOP / RATE
        ends = np.minimum(begins + WINDOW_FRAMES * HOP / RATE, len(samples) / RATE)
        return np.stack([begins, ends], axis=1) + start_seconds, vectors

    def _starts(self, count: int) -> list[int]:
        """First frames of the windows over `count` samples."""
        frames = -(-count // HOP)
        starts = list(range(0, max(1, frames - WINDOW_FRAMES + self.step_frames), self.step_frames))
        if len(starts) > 1 and frames - starts[-1] < LEAST_COVERED * WINDOW_FRAMES:
            starts.pop()
        return starts

    def vectors(self, mels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors `[w, 256]` of mel spectrograms `[w, t, 40]`."""
        import torch

        with torch.inference_mode():
            parts = [self._network(torch.from_numpy(mels[at : at + BATCH])) for at in range(0, len(mels), BATCH)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    @cached_property
    def _network(self) -> nn.Module:
        from safetensors.torch import load_file

        network = _network()
        network.load_state_dict({name: value.float() for name, value in load_file(self.weights).items()})
        return network.eval()


def _network() -> nn.Module:
    """The encoder's layers, without weights."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(MELS, DIMENSIONS, LAYERS, batch_first=True)
            self.linear = nn.Linear(DIMENSIONS, DIMENSIONS)

        def forward(self, mels: torch.Tensor) -> Any:
            _, (hidden, _) = self.lstm(mels)
            return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)

    return Encoder()


def louder(samples: Samples) -> Samples:
    """`samples` at -30 dB if they are quieter (silence stays silence)."""
    power = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    wanted = 10 ** (LOUDNESS_DB / 20)
    return samples if not 0 < power < wanted else np.asarray(samples * (wanted / power), dtype=np.float32)


def mel_spectrogram(samples: Samples) -> NDArray[np.float32]:
    """Power in mel bands `[1 + n / 160, 40]`: the same as librosa's `melspectrogram` with these sizes (zeros beyond both ends)."""
    padded = np.pad(samples, FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames * window))).astype(np.float32)
    return np.asarray(power @ _mel_bands().T, dtype=np.float32)


def without_hum(mel: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Mel spectrogram `[t, 40]` less the steady part of its first `frames`."""
    return np.asarray(np.maximum(mel - np.percentile(mel[: max(1, frames)], HUM_PERCENTILE, axis=0), 0), dtype=np.float32)


@lru_cache(maxsize=1)
def _mel_bands() -> NDArray[np.float32]:
    """Triangles of equal area `[40, 201]` on the mel scale of Slaney's Auditory Toolbox (linear to 1 kHz, then logarithmic)."""
    linear, step = 1000.0, np.log(6.4) / 27.0
    top = 15.0 + np.log(RATE / 2 / linear) / step
    mels = np.linspace(0.0, top, MELS + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, linear * np.exp(step * (mels - 15.0)))
    bins = np.arange(FFT // 2 + 1) * RATE / FFT
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    bands = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return np.asarray(bands, dtype=np.float32)
