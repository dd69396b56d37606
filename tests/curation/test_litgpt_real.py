"""LitGPT's own `--data JSON` on our export: it finds the files, and turns every row into token ids and labels.

LitGPT 0.5.13 asks for `huggingface-hub<1.4`, which transformers 5 rules out, so no extra can name it. Its data classes
need no hub; this installs them (3 MB) beside what is there:  pip install --no-deps litgpt==0.5.13 psutil==7.2.2
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from attunement.config import load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.storage.files import read_json, read_jsonl

litgpt_data = pytest.importorskip("litgpt.data", reason="needs LitGPT: pip install --no-deps litgpt==0.5.13 psutil==7.2.2")

SAMPLES = Path(str(resources.files("attunement"))) / "samples" / "conversations"
BASE = Path(str(resources.files("attunement"))) / "weights" / "attunement-base"
SPLITS = ("data.validation_share=0.2", "data.test_share=0.1", "embedding.max_tokens=64")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("litgpt") / "dataset"
    sources = [SAMPLES / "letters.csv", SAMPLES / "sessions_by_turn.csv"]
    DataPipeline(load_settings(None, SPLITS).settings, out).process_datasets(sources)
    return out


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """LitGPT's tokenizer over the packaged base's files."""
    from litgpt.tokenizer import Tokenizer

    folder = tmp_path_factory.mktemp("checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, folder / name)
    return Tokenizer(folder)


def module_of(export: Path, tokenizer: Any) -> Any:
    module = litgpt_data.JSON(json_path=export / "litgpt", mask_prompt=True, num_workers=0)
    module.connect(tokenizer, batch_size=4, max_seq_length=512)
    module.setup()
    return module


def test_litgpt_finds_every_row_of_its_splits(export: Path, tokenizer: Any) -> None:
    module = module_of(export, tokenizer)
    for split, seen in (("train", module.train_dataset), ("validation", module.test_dataset)):
        rows = list(read_jsonl(export / f"{split}.jsonl"))
        assert len(seen) == len(rows) > 0
        for row, encoded, instruction in zip(rows, seen, seen.data, strict=True):
            learned = encoded["labels"][encoded["labels"] != -100]
            assert instruction["output"] == row["messages"][-1]["content"]
            if len(encoded["input_ids"]) < 512:  # cut rows lose the end of the reply
                assert learned[-1] == tokenizer.eos_id
                assert tokenizer.decode(learned[:-1]) == tokenizer.decode(tokenizer.encode(instruction["output"], bos=False))


def test_litgpts_prompt_holds_the_talk_and_the_question(export: Path) -> None:
    from litgpt.prompts import PromptStyle

    style = PromptStyle.from_name("alpaca")
    rows = read_json(export / "litgpt" / "train.json")
    assert any(row["input"] for row in rows) and any(not row["input"] for row in rows)
    for row in rows:
        prompt = style.apply(prompt=row["instruction"], **row)
        assert row["instruction"] in prompt and row["input"] in prompt and row["output"] not in prompt.split("### Response")[1]


def test_litgpt_makes_batches_of_it(export: Path, tokenizer: Any) -> None:
    module = module_of(export, tokenizer)
    for loader, rows in ((module.train_dataloader(), module.train_dataset), (module.val_dataloader(), module.test_dataset)):
        batches = list(loader)
        assert sum(len(batch["input_ids"]) for batch in batches) == len(rows)
        assert all(batch["input_ids"].shape == batch["labels"].shape for batch in batches)
