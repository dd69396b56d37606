"""Measures the ranges of the packaged encoder's activations on sample texts, for its 8-bit form.

    python scripts/calibrate_encoder.py ../shared/data

Texts come from sets that may be redistributed (CounselChat, GoEmotions); what is written is two numbers a channel
(`src/attunement/weights/minilm-ranges.safetensors`, 35 kB), nothing of the texts.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from attunement.config import EmbeddingSettings
from attunement.embedding import HEADS, RANGES, Packaged
from attunement.onnx_encoder import load_tensors, measure_ranges

EACH = 256


def main(data: Path) -> None:
    csv.field_size_limit(1 << 30)
    with open(data / "goemotions" / "train.tsv", encoding="utf-8") as file:
        short = [line.split("\t")[0] for line in file]
    with open(data / "counselchat" / "counsel_chat.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = ["", *short[:: len(short) // EACH]] + [row["answerText"] for row in rows[:: len(rows) // EACH]]
    packaged = Packaged(EmbeddingSettings())
    batches = [(ids, mask) for _, ids, mask in packaged.batches(texts)]
    ranges = measure_ranges(load_tensors(packaged.folder / "model.safetensors"), HEADS, batches)
    save_file({name: value.astype(np.float16) for name, value in ranges.items()}, RANGES)
    print(f"{RANGES}: {len(ranges)} matrices, {len(texts)} texts")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
