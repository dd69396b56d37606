"""The inventory of assets: stores, files of the home, data sets, models, providers; with sizes, and hashes where a thing is finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from attunement.compliance.scene import Finding, Scene, look, passed
from attunement.errors import UserError
from attunement.security.age_files import is_encrypted
from attunement.storage.files import file_hash, read_json
from attunement.storage.sql import FILE

Row = dict[str, Any]
DEPTH = 4
"""How deep below a folder data sets and checkpoints are sought."""
MANIFEST, CHECKPOINT, WEIGHTS = "manifest.json", "moe.json", "adapter.safetensors"


def assets(scene: Scene) -> Finding:
    rows = [*stores(scene), *home_files(scene), *data_sets(scene), *models(scene), *providers(scene)]
    kinds = sorted({row["kind"] for row in rows})
    told = (
        ", ".join(f"{sum(row['kind'] == kind for row in rows)} {kind}" for kind in kinds)
        or "no store, file, data set, model or provider was found"
    )
    before = {_identity(row) for row in _before(scene)}
    new, gone = len({_identity(row) for row in rows} - before), len(before - {_identity(row) for row in rows})
    if scene.before is None or not (new or gone):
        return passed(told, rows=rows)
    return look(
        f"{told}; since the last assessment: {new} new or changed, {gone} gone",
        "look through the inventory in the report",
        rows=rows,
    )


def _before(scene: Scene) -> list[Row]:
    findings = (scene.before or {}).get("findings", [])
    return next((list(f.get("rows", [])) for f in findings if f.get("id") == "inventory.assets"), [])


def _identity(row: Row) -> tuple[str, str, str]:
    return row["kind"], row["name"], row.get("sha256", "")


def stores(scene: Scene) -> Iterator[Row]:
    security = scene.settings.security
    for name, text, file in (("data", security.store, FILE), ("keys", security.key_store, "keys.db")):
        path = scene.home / file
        if text:
            yield {"kind": "store", "name": f"{name}: {sa.make_url(text).render_as_string()}"}
        elif path.exists():
            yield {"kind": "store", "name": f"{name}: {path}", "bytes": path.stat().st_size}


def home_files(scene: Scene) -> Iterator[Row]:
    """What lies in the home, folder by folder; databases are stores."""
    if not scene.home.exists():
        return
    for path in sorted(scene.home.iterdir()):
        if path.is_symlink() or path.name.startswith(FILE) or path.name.startswith("keys.db"):
            continue
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and not p.is_symlink()]
        yield {
            "kind": "file" if path.is_file() else "folder",
            "name": str(path),
            "files": len(files),
            "bytes": sum(p.stat().st_size for p in files),
        }


def data_sets(scene: Scene) -> list[Row]:
    """Folders with a manifest of ours; `encrypted` when every split is an age file."""
    found = []
    for path in _named(scene, MANIFEST):
        try:
            manifest = read_json(path)
        except UserError:
            continue
        if not isinstance(manifest, dict) or "dataset_sha256" not in manifest:
            continue
        texts = [p for p in path.parent.rglob("*.jsonl") if p.is_file()]
        size = sum(p.stat().st_size for p in path.parent.rglob("*") if p.is_file())
        row = {"kind": "data set", "name": str(path.parent), "bytes": size, "sha256": str(manifest["dataset_sha256"])}
        found.append({**row, "encrypted": bool(texts) and all(is_encrypted(p) for p in texts)})
    return found


def models(scene: Scene) -> Iterator[Row]:
    """Checkpoints of ours; the base models that they name are the organisation's downloads."""
    for path in _named(scene, CHECKPOINT):
        weights = path.parent / WEIGHTS
        if weights.is_file():
            yield {
                "kind": "model",
                "name": str(path.parent),
                "bytes": weights.stat().st_size,
                "sha256": file_hash(weights),
                "encrypted": is_encrypted(weights),
            }


def providers(scene: Scene) -> Iterator[Row]:
    """Who outside could be sent something by the settings."""
    settings = scene.settings
    for name, value in (("providers.base_url", settings.providers.base_url), ("access.oidc_issuer", settings.access.oidc_issuer)):
        if value:
            yield {"kind": "provider", "name": f"{name}: {value}"}
    if settings.providers.model and not settings.providers.base_url:
        yield {"kind": "provider", "name": f"providers.model: {settings.providers.model}"}


def _named(scene: Scene, name: str) -> Iterator[Path]:
    folders = [scene.home, *scene.folders]
    seen: set[Path] = set()
    for folder in (f for f in folders if f.is_dir()):
        for depth in range(DEPTH):
            for path in sorted(folder.glob("/".join(["*"] * depth + [name]))):
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    yield path
