"""Whatever is logged of whom and in whatever order: a client's context, report and sessions hold nothing of another client."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.cli.tables import know_all
from attunement.config import Settings
from attunement.progress.journey import SessionData
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import EmotionalState, Timeframe, to_dict
from attunement.security.acting import Act
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault

know_all()
NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
MARKS = {"c-1": "zebrawood", "c-2": "quagmire", "c-3": "xylophone"}
"""A word in everything that is logged of a client."""
steps = st.lists(
    st.tuples(
        st.sampled_from(sorted(MARKS)),
        st.sampled_from(["session", "crisis", "goal", "event", "milestone", "edit"]),
        st.integers(0, 700),
        st.sampled_from(["sleep", "work", "father", "the exam"]),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=12, deadline=None)
@given(steps)
def test_nothing_of_another_client(done: list[tuple[str, str, int, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        FileMasterKey.create(home / "master.key")
        with Vault.open(Settings(home=home), clock=lambda: NOW) as vault:
            system = ProgressTrackingSystem(vault, Act("os:test"))
            for number, step in enumerate(done):
                _do(system, number, *step)
            for client, mark in MARKS.items():
                span = Timeframe(NOW - timedelta(days=800), NOW)
                given_out = [
                    system.retrieve_historical_context(client, timedelta(days=800), "I could not sleep because of work"),
                    system.sessions(client), system.track_progress(client, span), system.track_milestones(client), system.goals(client),
                ]  # fmt: skip
                told = json.dumps([to_dict(each) for each in given_out])
                for other, word in MARKS.items():
                    assert other == client or (word not in told and f'"{other}"' not in told)
                mine = [step for step in done if step[0] == client and step[1] in ("session", "crisis")]
                assert not mine or mark in told


def _do(system: ProgressTrackingSystem, number: int, client: str, what: str, days: int, about: str) -> None:
    at, text = NOW - timedelta(days=days), f"{about} and the {MARKS[client]} {number}"
    felt = EmotionalState({"fear": 0.3})
    if what in ("session", "crisis"):
        level = "elevated" if what == "crisis" else "none"
        system.log_session(client, SessionData(f"s-{number}", (), text, felt, next_session_focus=text, crisis_level=level), at)
    elif what == "goal":
        system.set_goal(client, text, at)
    elif what == "event":
        system.add_event(client, "life_event", text, at)
    elif what == "milestone":
        system.set_milestone(client, text, at)
    elif logged := system.sessions(client):
        system.correct_session(client, logged[0].log.session_id, logged[0].version, {"conversation_summary": text})
