from __future__ import annotations

import pytest

from attunement.quality.content_type import content_type
from attunement.records import Turn

LECTURE = "Sleep is the first thing that worry takes. " * 8


@pytest.mark.parametrize(
    ("turns", "kind"),
    [
        ([Turn("client", "I cannot sleep."), Turn("therapist", "Since when?"), Turn("client", "May.")], "interview"),
        ([Turn("client", "I cannot sleep."), Turn("therapist", LECTURE)], "interview"),
        ([Turn("narrator", LECTURE)], "monologue"),
        ([Turn("narrator", f"Good evening everyone. {LECTURE} I thank you all for coming, ladies and gentlemen.")], "speech"),
        (
            [
                Turn("client", "Welcome back to the show. Our guest today writes on sleep."),
                Turn("therapist", f"Hello. {LECTURE}"),
            ],
            "podcast",
        ),
    ],
)
def test_kinds(turns: list[Turn], kind: str) -> None:
    assert content_type(turns) == kind
