"""A dataset at rest: what holds words of people becomes age files, under the same names; the figures stay readable.

Whoever reads a dataset (training, evaluation, trace, review) knows a sealed file by its first line and opens it with the age
identity that is set. While a build runs its files are plain: let it run on an encrypted disk, or in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from attunement.curation.balance import SPLITS
from attunement.curation.export import LITGPT_FILES
from attunement.curation.review import EDITS, HELD
from attunement.security.age_files import is_encrypted, seal_file
from attunement.security.private_files import wipe
from attunement.storage.files import read_json, write_json

TEXTS = (*(f"{split}.jsonl" for split in SPLITS), *(f"litgpt/{name}" for name in LITGPT_FILES.values()), "rejected.jsonl", "provenance.jsonl", str(HELD))  # fmt: skip
WORK, SEALED = "work", "sealed.json"


def sealed_for(folder: Path) -> list[str]:
    """The recipients that a dataset's folder was sealed for before; what is built in it anew is sealed for them again."""
    return list(read_json(folder / SEALED)) if (folder / SEALED).is_file() else []


def seal_dataset(folder: Path, recipients: Sequence[str]) -> int:
    """Seals every file of a dataset that holds text, for `recipients` (`age1...`), and wipes `work/`; returns how many.

    The next build in the folder does all its work again, from the sources. Called again it does what was left.
    """
    write_json(folder / SEALED, list(recipients))
    held = [folder / name for name in TEXTS] + sorted((folder / EDITS).glob("*.json"))
    plain = [path for path in held if path.is_file() and not is_encrypted(path)]
    for path in plain:
        seal_file(path, recipients)
    for path in (p for p in (folder / WORK).rglob("*") if p.is_file()):
        wipe(path)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return len(plain)
