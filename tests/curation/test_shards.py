"""The work folder's lock, as a build that fails leaves it: nothing of its own stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunement.curation.pipeline import DataPipeline
from attunement.curation.shards import Workspace
from attunement.errors import DataError


def test_a_build_that_finds_nothing_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no conversations found"):
        DataPipeline(out=tmp_path / "deep" / "out").process_datasets([tmp_path / "in"])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_build_that_fails_leaves_a_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "own.txt").write_text("the user's")
    with pytest.raises(DataError, match="does not exist"):
        DataPipeline(out=tmp_path / "out").process_datasets([tmp_path / "nowhere"])
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["own.txt"]


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    with Workspace(tmp_path / "out").locked():
        with pytest.raises(DataError, match=r"another build is running in .*out: wait for it or choose another --out"):
            with Workspace(tmp_path / "out").locked():
                pass
        assert (tmp_path / "out" / "work" / "lock").is_file()  # the one refused did not take it away
    assert not (tmp_path / "out").exists()
