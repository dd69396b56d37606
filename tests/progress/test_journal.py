"""The journal: once and only once, at its time and in its zone, every version kept, nobody else's, nothing in the clear; SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from attunement.cli.tables import know_all
from attunement.config import SecuritySettings, Settings
from attunement.errors import ConflictError, DataError
from attunement.progress.alarms import Alarm, Raised
from attunement.progress.findings import NOT_ENOUGH
from attunement.progress.journey import SessionData
from attunement.progress.tables import entries, former, sessions
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import EmotionalState, Timeframe, Turn, to_dict
from attunement.security.acting import Act
from attunement.security.keys import ShreddedError
from attunement.security.master_key import FileMasterKey
from attunement.security.rights import correct_client, delete_client, export_client
from attunement.security.vault import Vault

know_all()
ACT = Act("a-dr-bo", "r-1")
NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
CALM = EmotionalState({"relief": 0.5}, 0.3, -0.1)
PHQ9 = [1, 1, 1, 1, 1, 1, 1, 1, 0]


class Heard:
    """Where alarms are told of: they are counted, and put into no table."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []
        self.told = 0

    def __call__(self, alarm: Alarm, act: Act) -> Raised:
        self.alarms.append(alarm)
        return Raised((), (), self._tell)

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture(params=["sqlite", "postgres"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("server").new("journal")
    FileMasterKey.create(tmp_path / "home" / "master.key")
    security = SecuritySettings(store=url, key_cache_seconds=0.0)
    with Vault.open(Settings(home=tmp_path / "home", security=security), clock=lambda: NOW) as made:
        yield made


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def system(vault: Vault, heard: Heard) -> ProgressTrackingSystem:
    return ProgressTrackingSystem(vault, ACT, alarms=heard)


def said(session: str, summary: str = "slept better-zq", **more: object) -> SessionData:
    return SessionData(session, conversation_summary=summary, emotional_state=CALM, next_session_focus="sleep", **more)  # type: ignore[arg-type]


def count(vault: Vault, table: sa.Table) -> int:
    with vault.store.snapshot() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def actions(vault: Vault, client: str) -> list[str]:
    return [r.action for r in vault.audit.records(client=client)]


def test_sent_twice_it_is_stored_once_and_on_record_once(system: ProgressTrackingSystem, vault: Vault, heard: Heard) -> None:
    data = said("s-1", measures={"phq9": [*PHQ9[:8], 1]})
    first = system.log_session("c-1", data, NOW)
    again = system.log_session("c-1", data, NOW)
    assert first == again
    assert (count(vault, sessions), count(vault, entries)) == (1, 1)
    assert actions(vault, "c-1") == ["client:write"]
    assert (len(heard.alarms), heard.told) == (1, 1)


def test_another_session_under_the_same_id_is_refused(system: ProgressTrackingSystem, vault: Vault) -> None:
    system.log_session("c-1", said("s-1"), NOW)
    with pytest.raises(ConflictError, match="choose another session id"):
        system.log_session("c-1", said("s-1", "another talk"), NOW)
    system.log_session("c-2", said("s-1", "another client's"), NOW)
    assert count(vault, sessions) == 2


def test_many_callers_with_the_same_session_store_it_once(system: ProgressTrackingSystem, vault: Vault) -> None:
    given: list[object] = []
    work = [threading.Thread(target=lambda: given.append(system.log_session("c-1", said("s-1"), NOW))) for _ in range(8)]
    for each in work:
        each.start()
    for each in work:
        each.join()
    assert len(given) == 8
    assert len({repr(log) for log in given}) == 1
    assert count(vault, sessions) == 1


def test_late_sessions_land_at_their_time_in_their_zone(system: ProgressTrackingSystem) -> None:
    berlin = datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("Europe/Berlin"))  # an hour before the clocks change
    offset = datetime(2026, 3, 28, 23, 0, tzinfo=timezone(-timedelta(hours=3, minutes=30)))
    system.log_session("c-1", said("s-2"), berlin)
    system.log_session("c-1", said("s-1"), offset)
    first, second = system.sessions("c-1")
    assert (first.log.session_id, second.log.session_id) == ("s-2", "s-1")
    assert first.log.timestamp == berlin
    assert first.log.timestamp.isoformat() == "2026-03-29T01:30:00+01:00"
    assert second.log.timestamp.isoformat() == "2026-03-28T23:00:00-03:30"
    with pytest.raises(DataError, match="time zone"):
        system.log_session("c-1", said("s-3"), datetime(2026, 3, 29, 1, 30))


@pytest.mark.parametrize(
    "when", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))]
)
def test_a_time_of_no_living_client_is_refused(system: ProgressTrackingSystem, vault: Vault, when: datetime) -> None:
    for call in (
        lambda: system.log_session("c-1", said("s-1"), when),
        lambda: system.add_measure("c-1", "gad7", [1] * 7, when),
        lambda: system.set_goal("c-1", "Sleep", when),
        lambda: system.add_event("c-1", "note", "Moved", when),
    ):
        with pytest.raises(DataError, match="look at its year"):
            call()
    assert count(vault, sessions) == count(vault, entries) == 0


def test_edits_keep_every_version_and_a_signature_is_of_one(system: ProgressTrackingSystem) -> None:
    system.log_session("c-1", said("s-1", progress_notes="first"), NOW)
    system.sign_session("c-1", "s-1", 1)
    edited = system.by(Act("a-dr-cy")).correct_session(
        "c-1", "s-1", 1, {"progress_notes": "second", "therapeutic_goals": ["g-1"]}
    )
    assert (edited.version, edited.signed_by, edited.log.progress_notes) == (2, "", "second")
    first, now = system.history("c-1", "s-1")
    assert (first.version, first.signed_by, first.log.progress_notes) == (1, "a-dr-bo", "first")
    assert now.log.therapeutic_goals == ("g-1",)
    with pytest.raises(ConflictError, match="version 2 stands"):
        system.sign_session("c-1", "s-1", 1)
    system.sign_session("c-1", "s-1", 2)
    with pytest.raises(ConflictError, match="signed it already"):
        system.sign_session("c-1", "s-1", 2)
    with pytest.raises(DataError, match="can be edited"):
        system.correct_session("c-1", "s-1", 2, {"session_id": "s-9"})
    assert actions(system.vault, "c-1").count("session:sign") == 2


def test_of_two_who_edit_at_once_one_is_told(system: ProgressTrackingSystem) -> None:
    system.log_session("c-1", said("s-1"), NOW)
    outcomes: list[str] = []
    gate = threading.Barrier(6)

    def edit(number: int) -> None:
        gate.wait()
        try:
            system.correct_session("c-1", "s-1", 1, {"progress_notes": f"note {number}"})
            outcomes.append("done")
        except ConflictError:
            outcomes.append("told")

    work = [threading.Thread(target=edit, args=(n,)) for n in range(6)]
    for each in work:
        each.start()
    for each in work:
        each.join()
    assert sorted(outcomes) == ["done"] + ["told"] * 5
    assert [each.version for each in system.history("c-1", "s-1")] == [1, 2]


def test_critical_answers_alarm_and_old_ones_do_not(system: ProgressTrackingSystem, heard: Heard) -> None:
    score = system.add_measure("c-1", "phq9", [*PHQ9[:8], 2], NOW)
    assert score.total == 10
    (alarm,) = heard.alarms
    assert (alarm.client, alarm.priority, alarm.reasons[1]) == ("c-1", "elevated", "phq9_item_9")
    assert "item 9" in alarm.talk[0]["content"]
    system.add_measure("c-1", "phq9", [*PHQ9[:8], 2], NOW)  # the same again
    system.add_measure("c-1", "phq9", PHQ9, NOW + timedelta(hours=1))
    system.add_measure("c-1", "phq9", [*PHQ9[:8], 3], NOW - timedelta(days=400))
    assert len(heard.alarms) == 1
    assert [s.total for s in system.journal.journey("c-1").scores] == [11, 10, 8]


def test_danger_in_a_session_is_told_and_without_a_queue_logged(
    system: ProgressTrackingSystem, vault: Vault, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    system.log_session("c-1", said("s-1", crisis_level="imminent"), NOW)
    assert heard.alarms[0].priority == "imminent"
    assert heard.told == 1
    ProgressTrackingSystem(vault, ACT).log_session("c-2", said("s-2", crisis_level="elevated"), NOW)
    assert "reaches nobody" in caplog.text
    assert "slept" not in caplog.text


@pytest.mark.parametrize(
    ("words", "priority"), [("I am going to kill myself tonight.", "imminent"), ("I want to die.", "possible")]
)
def test_danger_that_software_read_in_a_talk(system: ProgressTrackingSystem, heard: Heard, words: str, priority: str) -> None:
    found = system.logged("c-1", SessionData("s-1", (Turn("therapist", "How are you?"), Turn("client", words))), NOW)
    assert found.crisis.level in ("elevated", "imminent")
    assert heard.alarms[0].priority == priority and heard.alarms[0].talk[-1] == {"role": "user", "content": words}


@pytest.mark.parametrize("level", ["", "imminent"])
def test_a_reviewer_sees_the_turns_that_tell_of_danger_and_not_the_session(
    system: ProgressTrackingSystem, heard: Heard, level: str
) -> None:
    talk = [
        Turn(role, text)
        for n in range(20)
        for role, text in (("therapist", f"And what of day {n}?"), ("client", f"On day {n} I planted beans."))
    ]
    talk[15] = Turn("client", "I am going to kill myself tonight.")
    system.log_session("c-1", SessionData("s-1", tuple(talk), crisis_level=level), NOW)
    shown = [turn["content"] for turn in heard.alarms[0].talk]
    assert "I am going to kill myself tonight." in shown
    assert "On day 1 I planted beans." not in shown and "On day 18 I planted beans." not in shown
    assert len(shown) == 7 and {turn["role"] for turn in heard.alarms[0].talk} == {"user", "assistant"}


def test_answers_are_corrected_and_kept(system: ProgressTrackingSystem, vault: Vault) -> None:
    score = system.add_measure("c-1", "gad7", [1, 1, 1, 1, 1, 1, 1], NOW)
    new = system.correct_measure("c-1", score.entry_id, 1, [2, 1, 1, 1, 1, 1, 1])
    assert (new.total, new.at) == (8, NOW)
    with pytest.raises(ConflictError):
        system.correct_measure("c-1", score.entry_id, 1, [3, 1, 1, 1, 1, 1, 1])
    with pytest.raises(DataError):
        system.correct_measure("c-2", score.entry_id, 2, [3, 1, 1, 1, 1, 1, 1])
    assert count(vault, former) == 1


def test_goals_with_ratings_events_and_marks(system: ProgressTrackingSystem) -> None:
    given = {"goal_id": "g-out", "levels": {0: "once a day"}}
    goal = system.set_goal("c-1", "Leave the house", NOW - timedelta(days=90), **given)  # type: ignore[arg-type]
    assert system.set_goal("c-1", "Leave the house", NOW - timedelta(days=90), **given) == goal  # type: ignore[arg-type]
    system.rate_goal("c-1", goal, NOW - timedelta(days=60), attainment=-1)
    system.rate_goal("c-1", goal, NOW, percent=80)
    system.add_event("c-1", "medication", "Sertraline 50 mg", NOW - timedelta(days=30))
    system.set_milestone("c-1", "Back at work", NOW - timedelta(days=2))
    (found,) = system.goals("c-1")
    assert [(r.attainment, r.percent) for r in found.ratings] == [(-1, None), (None, 80)]
    assert found.levels == {0: "once a day"}
    report = system.track_progress("c-1", Timeframe(NOW - timedelta(days=100), NOW + timedelta(days=1)))
    assert report.goal_progress == {"g-out": 80}
    assert [m.title for m in report.key_milestones if m.found_by != "rule"] == ["Back at work"]
    assert report.overall_trajectory == NOT_ENOUGH
    system.close_goal("c-1", goal, NOW)
    assert system.goals("c-1")[0].closed_at == NOW
    for wrong in ({}, {"attainment": 1, "percent": 3}, {"attainment": 3}, {"percent": 101}):
        with pytest.raises(DataError):
            system.rate_goal("c-1", goal, NOW, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such goal"):
        system.rate_goal("c-2", goal, NOW, attainment=1)


def test_milestones_of_a_timeframe_are_those_of_the_whole_journey(system: ProgressTrackingSystem) -> None:
    for number in range(12):
        system.log_session("c-1", said(f"s-{number}", measures={"gad7": number}), NOW - timedelta(weeks=30 - number))
    goal = system.set_goal("c-1", "walk", NOW - timedelta(weeks=30), goal_id="g-1")
    system.rate_goal("c-1", goal, NOW - timedelta(weeks=29), attainment=-1)
    system.rate_goal("c-1", goal, NOW - timedelta(weeks=1), attainment=1)
    system.close_goal("c-1", goal, NOW - timedelta(days=1))
    system.add_event("c-1", "medication", "Sertraline 50 mg", NOW - timedelta(weeks=25))
    late, early = (NOW - timedelta(weeks=22), NOW), (NOW - timedelta(weeks=30), NOW - timedelta(weeks=25))
    found = {span: system.track_progress("c-1", Timeframe(*span)) for span in (late, early)}
    assert "10 sessions" in [m.title for m in found[late].key_milestones]  # the second of these weeks is the tenth of all
    assert (found[late].sessions_count, found[early].sessions_count) == (4, 5)
    assert (found[late].goal_progress, found[early].goal_progress) == ({"g-1": 100}, {"g-1": 50})
    assert not any("goal" in text for text in found[early].recommendations)  # it was closed since
    whole = system.journal.journey("c-1")
    for span in (late, early):
        assert to_dict(whole.within(*span)) == to_dict(system.journal.journey("c-1", *span))


def test_what_says_something_else_is_not_passed_over(system: ProgressTrackingSystem) -> None:
    system.set_goal("c-1", "walk", NOW, goal_id="g-1")
    with pytest.raises(ConflictError, match="says something else"):
        system.set_goal("c-1", "swim", NOW, goal_id="g-1")
    system.add_measure("c-1", "gad7", 7, NOW)
    with pytest.raises(ConflictError, match="says something else"):
        system.add_measure("c-1", "gad7", 8, NOW)
    first = system.add_event("c-1", "life_event", "moved", NOW)
    assert system.add_event("c-1", "life_event", "moved", NOW) == first != system.add_event("c-1", "life_event", "wed", NOW)


def test_danger_is_a_known_level_or_was_not_assessed(system: ProgressTrackingSystem) -> None:
    with pytest.raises(DataError, match="they are none, possible, elevated, imminent"):
        system.log_session("c-1", said("s-1", crisis_level="grave"), NOW)
    assert system.logged("c-1", said("s-1"), NOW).crisis.level == ""
    assert system.logged("c-1", said("s-2", crisis_level="none"), NOW).crisis.level == "none"
    heard = (Turn("client", "I slept well and went for a walk with my sister."),)
    assert system.logged("c-1", said("s-3", "", transcript=heard), NOW).crisis.level == "none"


def test_an_emptied_summary_is_not_found_any_more(system: ProgressTrackingSystem) -> None:
    system.log_session("c-1", said("s-1", "We spoke about sleep."), NOW)
    system.correct_session("c-1", "s-1", 1, {"conversation_summary": ""})
    assert system.journal.vectors("c-1", NOW - timedelta(days=1), NOW + timedelta(days=1)) == {}


def test_nothing_a_person_said_is_in_the_files(system: ProgressTrackingSystem, vault: Vault, tmp_path: Path) -> None:
    system.log_session(
        "c-1", said("s-1", progress_notes="zebrawood", therapist_observations="quagmire", measures={"phq9": PHQ9}), NOW
    )
    system.correct_session("c-1", "s-1", 1, {"progress_notes": "marzipan"})
    system.set_goal("c-1", "xylophone", NOW)
    system.retrieve_historical_context("c-1", timedelta(days=30), "hullabaloo")
    if not vault.store.is_sqlite:
        with vault.store.snapshot() as connection:
            found = "".join(str(row) for t in (sessions, entries, former) for row in connection.execute(sa.select(t)))
    else:
        found = "".join(p.read_bytes().decode("latin1") for p in tmp_path.rglob("*") if p.is_file())
    for word in ("zebrawood", "quagmire", "marzipan", "xylophone", "hullabaloo", "slept", "phq9", "relief"):
        assert word not in found


def test_export_correction_and_deletion_are_whole(system: ProgressTrackingSystem, vault: Vault, tmp_path: Path) -> None:
    for client in ("c-1", "c-2"):
        system.log_session(client, said("s-1", measures={"phq9": PHQ9}), NOW)
        system.add_event(client, "life_event", "moved house", NOW)
    row = system.journal.journey("c-1").events[0].entry_id
    correct_client(vault, "c-1", "progress", row, {"title": "moved to another town"}, ACT)
    assert system.journal.journey("c-1").events[0].title == "moved to another town"
    counts = export_client(vault, "c-1", tmp_path / "out.zip", ACT)
    assert (counts["sessions"], counts["progress"]) == (1, 2)
    made = delete_client(vault, "c-1", ACT)
    assert (made["rows_deleted"]["sessions"], made["rows_deleted"]["progress"]) == (1, 2)
    assert (count(vault, sessions), count(vault, entries), count(vault, former)) == (1, 2, 0)
    with pytest.raises((ShreddedError, DataError)):
        system.log_session("c-1", said("s-2"), NOW)
    assert len(system.sessions("c-2")) == 1


def test_a_context_is_on_record_and_vectors_are_made_again_after_an_edit(system: ProgressTrackingSystem, vault: Vault) -> None:
    system.log_session("c-1", said("s-1", "We spoke about sleep and the nights at work."), NOW - timedelta(days=9))
    system.log_session("c-1", said("s-2", "We spoke about her brother's wedding."), NOW - timedelta(days=3))
    system.correct_session("c-1", "s-2", 1, {"conversation_summary": "We spoke about a journey to the sea."})
    with vault.store.begin() as connection:
        connection.execute(sessions.update().values(vector=None))
    found = system.retrieve_historical_context("c-1", timedelta(days=30), "I cannot sleep")
    assert found.sessions[0].session_id in ("s-1", "s-2")
    assert "sleep" in found.text
    assert actions(vault, "c-1").count("context:read") == 1
    span = NOW - timedelta(days=30), NOW
    assert set(system.journal.vectors("c-1", *span)) == {"s-1", "s-2"}
    assert not system.retrieve_historical_context("c-2", timedelta(days=30), "I cannot sleep").sessions


def test_what_is_not_given_is_made_of_the_transcript(system: ProgressTrackingSystem) -> None:
    turns = (
        Turn("therapist", "How was your week?"),
        Turn("client", "I was so sad about my father. I cried every evening and I could not work at all."),
        Turn("therapist", "That sounds heavy. What helped?"),
        Turn("client", "Walking with my sister helped a little, I felt some relief."),
    )
    found = system.logged("c-1", SessionData("s-1", turns, progress_notes="mine"), NOW)
    assert "father" in found.log.conversation_summary
    assert found.log.emotional_state.words > 20
    assert found.log.emotional_state.uncertainty
    assert set(found.made) == {"conversation_summary", "next_session_focus", "emotional_state", "crisis"}
    assert found.log.progress_notes == "mine"
    edited = system.correct_session("c-1", "s-1", 1, {"conversation_summary": "She grieves for her father."})
    assert "conversation_summary" not in edited.made
