"""`--encrypt-to`: nothing that people said is left plain in a dataset's folder, and every reader opens it with the identity."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.errors import ConfigError
from attunement.model.base import load_tokenizer
from attunement.security.age_files import IDENTITY_VARIABLE, new_identity, read_jsonl
from attunement.training.data import dataset_of, hash_of, load_examples

LETTERS = Path(str(resources.files("attunement"))) / "samples" / "conversations" / "letters.csv"
RUNNER = CliRunner()
FAST = ("--set", "embedding.max_tokens=32")


def attune(*arguments: object) -> str:
    result = RUNNER.invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_a_sealed_dataset_is_read_by_all_who_have_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(IDENTITY_VARIABLE, raising=False)
    recipient, out = new_identity(tmp_path / "age.key"), tmp_path / "out"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letters.csv").write_bytes(LETTERS.read_bytes())
    bad = RUNNER.invoke(app, ["data", "build", str(tmp_path / "in"), "--out", str(out), "--encrypt-to", "age1nonsense"])
    assert isinstance(bad.exception, ConfigError) and not out.exists()  # told before the work is done
    attune("data", "build", tmp_path / "in", "--out", out, "--encrypt-to", recipient, *FAST)
    assert not (out / "work").exists()
    with pytest.raises(ConfigError, match="is encrypted: say where"):
        list(read_jsonl(out / "train.jsonl"))

    monkeypatch.setenv(IDENTITY_VARIABLE, str(tmp_path / "age.key"))
    rows = list(read_jsonl(out / "train.jsonl"))
    said = [row["messages"][-1]["content"][:30].encode() for row in rows]
    files = [p for p in out.rglob("*") if p.is_file()]
    assert said and not [(p, word) for p in files for word in said if word in p.read_bytes()]
    dataset = dataset_of(out)
    assert len(load_examples(dataset.train, load_tokenizer("attunement-base"), 256)) == len(rows)
    assert hash_of(dataset) == json.loads((out / "manifest.json").read_text())["dataset_sha256"]
    assert json.loads(attune("data", "trace", rows[0]["id"], "--out", out, "--json"))["outcome"] == "kept"

    attune("data", "withdraw", rows[0]["conversation_id"], "--out", out)  # built anew, and sealed again
    assert rows[0]["id"] not in {row["id"] for row in read_jsonl(out / "train.jsonl")}
    files = [p for p in out.rglob("*") if p.is_file()]
    assert not [(p, word) for p in files for word in said if word in p.read_bytes()]
