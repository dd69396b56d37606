"""Journeys as training data: who did not consent is not there, nobody is named, time is relative, and what is learnt can be traced to figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attunement.config import load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.errors import DataError
from attunement.progress import milestones
from attunement.progress.findings import MeasureScore
from attunement.progress.journey import Event, Goal, Journey, LoggedSession, Rating
from attunement.progress.measures import measures
from attunement.progress.training_journeys import write_training_journeys
from attunement.records import CrisisAssessment, EmotionalState, Milestone, SessionLog
from attunement.sources.full_parts import FullParts
from attunement.sources.journeys import SYSTEM, conversations, read_journeys
from attunement.storage.files import read_json, read_jsonl

START = datetime(2023, 5, 8, 9, 30, tzinfo=UTC)
SAID = (
    "Client: I lay awake until four on most nights. My wife Katarzyna Nowak says that I should see Dr. Ferreira in Oldenburg.",
    "Client: I tried the sleep plan and it was hard. \u2026 I called 0171 5558293 on 12 May 2023 and nobody answered.",
    "Client: I got up at seven each day this week. Therapist: What helped you to do that?",
    "Client: Work is still too much, but I told my boss that I need a pause after lunch.",
    "Client: I slept six hours twice. Katarzyna noticed that I laugh more.",
    "Client: I am afraid that it all comes back when I stop coming here.",
)
WORDS = "river stone garden letter winter bridge candle market harbour violin orchard mirror ladder meadow engine kitchen".split()


def journey(client: str = "c-secret-77", number: int = 0, scores: Sequence[float] = (18, 16, 9), days: int = 0) -> Journey:
    begins = START + timedelta(days=days)
    own = [
        "",
        *(" I thought of the " + " and the ".join(WORDS[(number * 5 + i * (k + 2)) % 16] for i in range(7)) for k in range(1, 6)),
    ]
    logs = [
        SessionLog(
            client, f"s-{client}-{i}", begins + timedelta(days=14 * i), (SAID[i] if number < 1 else "Client:") + own[i], EmotionalState({"sadness": 0.4}, -0.25), (),
            "PROGRESSNOTE", "OBSERVED", "Ask Katarzyna to join us for one hour." if i == 5 else "Open goal (2023-05-08)",
        )
        for i in range(len(SAID))
    ]  # fmt: skip
    sessions = [LoggedSession(log, made=() if i == 5 else ("next_session_focus",)) for i, log in enumerate(logs)]
    if number % 4 == 0:
        sessions[1] = replace(sessions[1], crisis=CrisisAssessment("elevated", ["suicide_ideation"]))
    scored = [MeasureScore("phq9", total, begins + timedelta(days=28 * i)) for i, total in enumerate(scores)]
    rated = [Rating(begins + timedelta(days=30), attainment=-1), Rating(begins + timedelta(days=70), attainment=1)]
    goals = [Goal("g-1", "Sleep in Oldenburg through the night", begins, ratings=rated)]
    events = [Event(begins + timedelta(days=20), "medication", "Sertraline by Dr. Ferreira"), Event(begins, "note", "NOTE")]
    return Journey(client, sessions, scored, goals, events)


def reached(one: Journey) -> list[Milestone]:
    return milestones.found(one, measures(), one.sessions[-1].log.timestamp)


def written(folder: Path, *journeys: Journey, name: str = "journeys.jsonl", consented: Sequence[str] = ()) -> Path:
    path = folder / name
    who = consented or [one.client_id for one in journeys]
    write_training_journeys(path, journeys, consented=who, measures=measures(), milestones=reached)
    return path


def test_nobody_is_named_and_time_is_relative(tmp_path: Path) -> None:
    line = written(tmp_path, journey()).read_text(encoding="utf-8")
    for told in ("secret", "Katarzyna", "Nowak", "Ferreira", "Oldenburg", "5558293", "2023", "May", "OBSERVED", "PROGRESSNOTE", "NOTE", "Sertraline"):  # fmt: skip
        assert told not in line
    row = json.loads(line)
    assert "[NAME]" in row["sessions"][0]["summary"] and [s["week"] for s in row["sessions"]] == [0, 2, 4, 6, 8, 10]
    assert [s.get("next_focus") for s in row["sessions"]][:5] == [None] * 5, "what was made by rule is not learnt from"
    assert row["sessions"][5]["next_focus"] == "Ask [NAME] to join us for one hour."
    assert [(m["week"], m["kind"]) for m in row["milestones"]] == [
        (4, "first_after_crisis"), (6, "weeks_without_crisis"), (8, "reliable_improvement"), (8, "response"), (10, "goal_reached"),
    ]  # fmt: skip
    assert row["events"] == [{"kind": "medication", "week": 2}]
    later = written(tmp_path, journey("c-other", days=777), name="later.jsonl").read_text(encoding="utf-8")
    assert later == line, "neither when it was nor whose it is can be seen"


def test_who_did_not_consent_and_what_shows_nothing_stays_out(tmp_path: Path) -> None:
    short = replace(journey("c-2"), sessions=journey("c-2").sessions[:2])
    unmeasured = replace(journey("c-3"), scores=[], goals=[])
    path = tmp_path / "out.jsonl"
    counts = write_training_journeys(
        path, [journey("c-1"), short, unmeasured, journey("c-4", 3)], consented={"c-1", "c-2", "c-3"}, measures=measures()
    )
    assert counts == {"written": 1, "no_consent": 1, "too_short": 2} and len(list(read_journeys(path))) == 1


def answers(path: Path) -> list[str]:
    (talk,) = conversations(path)
    return [turn.text for turn in talk.turns if turn.role == "therapist"]


def test_answers_say_what_the_figures_show_and_no_more(tmp_path: Path) -> None:
    first, second, third = answers(written(tmp_path, journey()))
    assert (
        first.startswith("Safety first: danger was found in week 2;")
        and "PHQ-9 was 18 in week 0: one score shows no course yet" in first
    )
    reliable = measures()["phq9"].reliable
    assert f"from 18 in week 0 to 16 in week 4. That is within what its unreliability explains ({reliable:.1f} points)" in second
    assert "to 9 in week 8: 9 points better, more than its unreliability explains" in third
    assert "across the clinical cut-off of 10" in third and "cannot say: many courses move without treatment" in third
    assert "was last rated +1, more than expected, in week 10." in third and "response in week 8" in third
    assert third.endswith("For the next session: Ask [NAME] to join us for one hour.")
    worse = answers(written(tmp_path, journey(scores=(9, 10, 19)), name="worse.jsonl"))[-1]
    assert "10 points worse" in worse and "Review the plan" in worse and "better" not in worse
    (talk,) = conversations(tmp_path / "worse.jsonl")
    assert talk.turns[0].text == SYSTEM and talk.share == "standard" and talk.origin.licence_class == "N"
    said = "\n".join(turn.text for turn in talk.turns if turn.role == "client")
    assert re.findall(r"From week (\d+) to week (\d+)\.", said) == [("0", "2"), ("3", "6"), ("7", "10")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weeks": -1}, "weeks: Input should be greater"),
        ({"client_id": "c-1"}, "client_id: Extra inputs are not permitted"),
        ({"measures": {}}, "nothing is said of phq9 under `measures`"),
        ({"sessions": [{"week": 0, "crisis": "terrible"}]}, "sessions.0.crisis"),
    ],
)
def test_a_wrong_line_is_told_with_its_place_and_not_its_words(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = written(tmp_path, journey())
    line = {**json.loads(path.read_text(encoding="utf-8")), **change}
    path.write_text("\n" + json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(told)) as error:
        list(read_journeys(path))
    assert "journeys.jsonl:2: " in str(error.value) and "awake" not in str(error.value)
    path.write_text("{broken", encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        list(read_journeys(path))


def test_from_journeys_to_training_examples(tmp_path: Path) -> None:
    courses = ((18, 16, 9), (12, 13, 12), (9, 10, 19), (20, 11, 8), (15, 15, 4), (7, 6, 7), (22, 20, 21), (14, 9, 3))
    path = written(tmp_path, *(journey(f"c-{i}", i, course) for i, course in enumerate(courses)))
    own = {"messages": [{"role": "user", "content": "I cannot sleep at night, what can I do?"},
                        {"role": "assistant", "content": "It sounds exhausting to lie awake. What goes through your mind at night?"}]}  # fmt: skip
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "own.jsonl").write_text(json.dumps(own) + "\n", encoding="utf-8")

    fixed = (f"home={tmp_path / 'home'}", "full.edge_cases=0", "full.personas=0", "full.questions=0", "data.balance=report")
    settings = load_settings(overrides=(*fixed, f"full.journeys={path}")).settings
    pipeline = DataPipeline(settings, tmp_path / "out", preset="full")
    pipeline.parts = FullParts(settings, pipeline.judges)
    pipeline.process_datasets([tmp_path / "given"])
    rows = [row for split in ("train", "validation", "test") for row in read_jsonl(tmp_path / "out" / f"{split}.jsonl")]
    rows = [row for row in rows if row["messages"][0]["content"] == SYSTEM]
    held = (tmp_path / "out" / "review" / "held.jsonl").read_text(encoding="utf-8")
    assert len(rows) >= 8 and "danger was found in week 2" in held, "what tells of danger waits for a clinician"
    whole = [row for row in rows if "many courses move without treatment" in row["messages"][-1]["content"]]
    assert whole and all("From week 0 to" in row["messages"][1]["content"] for row in whole), "the weeks before are its context"
    told = "\n".join(row["messages"][-1]["content"] for row in rows)
    assert not set(re.findall(r"\[[A-Z]+\]", told)) - {"[NAME]", "[LOCATION]"}, (
        "what the rules say is not taken for personal data"
    )
    stories = [s for s in read_jsonl(tmp_path / "out" / "provenance.jsonl") if s["origin"]["source"] == "attunement-journeys"]
    assert len(stories) == len(courses) and all(s["origin"]["licence_class"] == "N" for s in stories)
    facts = read_json(tmp_path / "out" / "sources" / ".parts.json")
    assert facts["standard"]["facts"]["conversations"] == len(courses)
    FullParts(load_settings(overrides=fixed).settings, pipeline.judges)({}, tmp_path / "out" / "sources")
    assert "standard" not in read_json(tmp_path / "out" / "sources" / ".parts.json"), "unset, they are gone again"
    assert not (tmp_path / "out" / "sources" / "journeys" / "journeys.jsonl").exists()
