"""The packaged samples: all are read, nobody can be known from them, and the one broken file is the only fault."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from attunement.readers.files import ReadFailure, discover, read
from attunement.records import Conversation

SAMPLES = Path(str(resources.files("attunement"))) / "samples" / "conversations"
PRIVATE = re.compile(r"[\w.]+@[\w.]+\.\w+|https?://|www\.|\+?\d[\d ()-]{7,}\d|\b\d{3}-\d{2}-\d{4}\b")


def found() -> list[Conversation | ReadFailure]:
    return [item for file in discover([SAMPLES]) for item in read(file, max_record_bytes=1_000_000)]


def test_all_are_read_but_the_broken_one() -> None:
    talks = [item for item in found() if isinstance(item, Conversation)]
    faults = [item for item in found() if isinstance(item, ReadFailure)]
    assert len(talks) == 125 and [f.file for f in faults] == ["broken/truncated.json"]
    assert {t.origin.licence for t in talks} == {"Apache-2.0"} and {t.origin.licence_class for t in talks} == {"R"}
    assert {t.share for t in talks} == {"standard", "voice"}


def test_everyone_has_a_role() -> None:
    for talk in found():
        if isinstance(talk, Conversation):
            roles = {turn.role for turn in talk.turns}
            assert roles >= {"client", "therapist"} or (talk.origin.file.startswith("talks/") and "narrator" in roles)


def test_nobody_can_be_known_from_them() -> None:
    for talk in found():
        if isinstance(talk, Conversation):
            for turn in talk.turns:
                assert not PRIVATE.search(turn.text), f"{talk.origin.file}: {PRIVATE.search(turn.text)}"
