"""Makes `sources/voice/weights/ge2e.safetensors` of the checkpoint in Resemblyzer's wheel: numbers only, in 16 bits.

    pip download --no-deps resemblyzer==0.1.4
    python scripts/convert_speaker_encoder.py Resemblyzer-0.1.4-py3-none-any.whl

The checkpoint also holds the optimiser's state (two thirds of its 17 MB) and the two scalars of the training loss: neither is kept.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

TARGET = Path(__file__).parents[1] / "src" / "attunement" / "sources" / "voice" / "weights" / "ge2e.safetensors"


def convert(wheel: Path, target: Path = TARGET, kind: torch.dtype = torch.float16) -> None:
    """Writes the encoder's weights that `wheel` carries to `target`."""
    with zipfile.ZipFile(wheel) as archive:
        data = io.BytesIO(archive.read("resemblyzer/pretrained.pt"))
    state = torch.load(data, map_location="cpu", weights_only=True)["model_state"]
    kept = {name: value.to(kind).contiguous() for name, value in state.items() if name.startswith(("lstm.", "linear."))}
    save_file(kept, target, metadata={"origin": "resemblyzer 0.1.4 pretrained.pt", "licence": "Apache-2.0"})


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.1f} MB")
