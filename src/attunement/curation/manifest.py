"""The manifest of a dataset: what it was made from and how, the hashes of what it is, and what was withdrawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attunement import __version__
from attunement.config import DataSettings, EmbeddingSettings, Settings
from attunement.curation.balance import SPLITS
from attunement.errors import DataError
from attunement.readers.files import SourceFile
from attunement.storage.files import content_hash, file_hash, read_json, write_json

OUTPUTS = (
    *(f"{split}.jsonl" for split in SPLITS),
    "litgpt/train.json",
    "litgpt/val.json",
    "litgpt/test.json",
    "rejected.jsonl",
    "provenance.jsonl",
    "quality_report.json",
    "quality_report.html",
    "dataset_card.md",
)
WITHDRAWALS = "withdrawals.json"
HISTORY = "history.json"


@dataclass(frozen=True)
class Manifest:
    """What an earlier build in the same folder left: nothing, or its `manifest.json`; and the withdrawals."""

    data: dict[str, Any]
    withdrawals: list[dict[str, str]]

    @classmethod
    def load(cls, out: Path) -> Manifest:
        data = read_json(out / "manifest.json") if (out / "manifest.json").exists() else {}
        withdrawals = read_json(out / WITHDRAWALS) if (out / WITHDRAWALS).exists() else []
        return cls(data, withdrawals)

    def withdraws_file(self, file: SourceFile) -> bool:
        """Whether all of the file's source is withdrawn."""
        return any(w["kind"] == "source" and w["value"] in (file.source, file.name) for w in self.withdrawals)

    def withdrawn_in(self, file: SourceFile) -> list[str]:
        """Ids of the withdrawn conversations of this file, and the hashes of all withdrawn records.

        A record that comes back in a file of another name, or at another place, is withdrawn all the same.
        """
        ids = [w["value"] for w in self.withdrawals if w["kind"] == "conversation" and w["file"] == file.name]
        return ids + [w["record_sha256"] for w in self.withdrawals if "record_sha256" in w]

    def settings(self) -> dict[str, Any]:
        """The sections of the settings that the build was made with."""
        kept = self.data["settings"]
        return {"data": DataSettings(**kept["data"]), "embedding": EmbeddingSettings(**kept["embedding"])}

    def sources(self) -> tuple[list[Path], str | None]:
        """The paths and the preset of the build. Raises `DataError` when there was none."""
        if not self.data:
            raise DataError("this folder holds no dataset: build one first with  attune data build SOURCE --out DIR")
        return [Path(p) for p in self.data["paths"]], self.data["preset"]


def earlier_datasets(out: Path) -> list[str]:
    """The hashes of all datasets that this folder has held, the present one last."""
    history = read_json(out / HISTORY) if (out / HISTORY).exists() else []
    manifest = out / "manifest.json"
    now = [read_json(manifest)["dataset_sha256"]] if manifest.exists() else []
    return [h for h in history if h not in now] + now


def _remember(out: Path, dataset_sha256: str) -> None:
    """Before the manifest is written anew: a run that was trained on what this folder held must be found later."""
    if earlier := [h for h in earlier_datasets(out) if h != dataset_sha256]:
        write_json(out / HISTORY, earlier)


def write_manifest(
    out: Path,
    paths: Sequence[Path],
    preset: str | None,
    files: Sequence[SourceFile],
    settings: Settings,
    withdrawals: list[dict[str, str]],
) -> None:
    """`manifest.json`. `dataset_sha256` names the dataset: it is the hash of its splits' hashes."""
    hashes = {name: file_hash(out / name) for name in OUTPUTS}
    dataset_sha256 = content_hash([hashes[f"{split}.jsonl"] for split in SPLITS])
    _remember(out, dataset_sha256)
    write_json(
        out / "manifest.json",
        {
            "attunement": __version__,
            "paths": [str(p.resolve()) for p in paths],
            "preset": preset,
            "settings": {
                "data": settings.data.model_dump(mode="json"),
                "embedding": settings.embedding.model_dump(mode="json", exclude={"device"}),
            },
            "sources": [
                {
                    "file": f.name,
                    "source": f.source,
                    "sha256": f.sha256,
                    "bytes": f.size_bytes,
                    "licence": f.licence,
                    "licence_class": f.licence_class,
                    "share": f.share,
                }
                for f in files
                if f.skip_reason is None
            ],
            "files": hashes,
            "dataset_sha256": dataset_sha256,
            "withdrawals": [{k: w[k] for k in ("kind", "value")} for w in withdrawals if w["kind"] != "record"],
        },
    )
