"""Edge cases from written beats and by a model: the contract's rows, review, variety, and what goes wrong on the way."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.config import load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.errors import DataError
from attunement.quality.panel import Judges
from attunement.records import to_dict
from attunement.sources.edge_cases.categories import AGE_BANDS, COURSES, load_categories
from attunement.sources.edge_cases.generator import EdgeCaseGenerator, spread
from attunement.sources.edge_cases.outcome import Distinct
from attunement.sources.edge_cases.run import generate_folder
from attunement.sources.edge_cases.safety import review_all
from attunement.sources.edge_cases.scenarios import FACTORS, drawn_scenarios

WRITTEN = Path(__file__).parent / "written"
RUN = CliRunner()


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def offline(judges: Judges, seed: int = 17) -> EdgeCaseGenerator:
    return EdgeCaseGenerator(seed=seed, only=["suicidality"], written=WRITTEN, judges=judges)


# --- written ------------------------------------------------------------------------------------------


def test_written_conversations_differ_and_are_the_same_for_a_seed(judges: Judges) -> None:
    generator = offline(judges)
    prompts = generator.generate_prompts(9)
    made = generator.generate_conversations(prompts, 100)
    assert made == offline(judges).generate_conversations(offline(judges).generate_prompts(9), 100)
    assert made != offline(judges, 18).generate_conversations(offline(judges, 18).generate_prompts(9), 100)
    assert len(made) == 9 and len({tuple(t.text for t in c.turns) for c in made}) == 9
    assert Counter((c.metadata["profile"], c.metadata["course"]) for c in made) == {
        (p, c): 1 for p in ("p1", "p2", "p3") for c in COURSES
    }
    assert {c.metadata["generated_by"] for c in made} == {"offline-grammar"} and {c.share for c in made} == {"edge_case"}
    assert all(c.origin.licence_class == "R" and c.metadata["clinical_review_required"] for c in made)
    assert "category_suicidality" in made[0].metadata["review_reasons"]


def test_more_than_can_differ_is_told(judges: Judges) -> None:
    settings = load_settings(overrides=["data.near_duplicate_threshold=0.3"]).settings
    generator = EdgeCaseGenerator(None, settings, only=["suicidality"], written=WRITTEN, judges=judges)
    outcome = generator.generate(generator.generate_prompts(60), 1000)
    told = Counter(r.reason for r in outcome.rejected)
    assert told["near_duplicate"] > 0 and len(outcome.conversations) + told["near_duplicate"] == 60


def test_the_training_format_is_the_contracts(judges: Judges) -> None:
    generator = offline(judges)
    conversation = generator.generate_conversations(generator.generate_prompts(1), 1)[0]
    examples = generator.create_training_format([conversation, conversation])
    assert len(examples) == len(conversation.turns) // 2 - 1
    row = to_dict(examples[0])
    assert row == {
        "prompt": conversation.turns[1].text, "response": conversation.turns[2].text, "purpose": "difficult_client",
        "category": "suicidality", "difficulty_level": "very_high",
        "expected_challenges": ["crisis_intervention", "safety_assessment", "resource_provision"],
        "source": "edge_case_generation", "clinical_review_required": True,
    }  # fmt: skip


def test_a_category_that_nobody_wrote_is_told(judges: Judges, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody has written the category 'suicidality' yet"):
        EdgeCaseGenerator(only=["suicidality"], written=tmp_path, judges=judges).generate_prompts(1)
    with pytest.raises(DataError, match="there is no category 'suicide'"):
        EdgeCaseGenerator(only=["suicide"], judges=judges)


def test_a_folder_is_read_by_a_build_and_nothing_is_approved(judges: Judges, tmp_path: Path) -> None:
    out = tmp_path / "edge"
    arguments = [
        "generate",
        "edge-cases",
        "--written",
        str(WRITTEN),
        "--category",
        "suicidality",
        "--scenarios",
        "6",
        "--out",
        str(out),
    ]
    done = RUN.invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["conversations"] == 6 and report["categories"]["suicidality"]["coverage"]["course"] == "3 of 3"
    assert 0 < report["dispersion"] < 1 and 0 < report["categories"]["suicidality"]["nearest"]["highest"] < 0.7
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert set(before) == {"conversations.jsonl", "examples.jsonl", "report.json", "run.json", "source.toml"}
    again = RUN.invoke(app, arguments)
    assert "conversations: 6 of 6 by offline-grammar" in again.stdout and before == {
        p.name: p.read_bytes() for p in out.iterdir()
    }
    other = RUN.invoke(app, [*arguments, "--seed", "5"])
    assert isinstance(other.exception, DataError) and "was made with another seed (17)" in str(other.exception)
    settings = load_settings(overrides=[f"home={tmp_path / 'home'}"]).settings
    dataset = DataPipeline(settings, tmp_path / "data").process_datasets([out])
    quality = json.loads((tmp_path / "data" / "quality_report.json").read_text(encoding="utf-8"))
    assert (
        dataset.total_conversations == 6
        and len(dataset.qa_pairs) == 0
        and quality["review"]["reasons"]["category_suicidality"] > 5
    )
    assert quality["sources"]["edge-cases"]["share"] == "edge_case" and quality["sources"]["edge-cases"]["licence_class"] == "R"


def test_marks_are_kept_without_the_folders_description(judges: Judges, tmp_path: Path) -> None:
    generator = offline(judges)
    generate_folder(generator, generator.generate_prompts(2), tmp_path / "edge", most=2)
    (tmp_path / "moved").mkdir()
    (tmp_path / "edge" / "conversations.jsonl").rename(tmp_path / "moved" / "talks.jsonl")
    settings = load_settings(overrides=[f"home={tmp_path / 'home'}"]).settings
    assert len(DataPipeline(settings, tmp_path / "data").process_datasets([tmp_path / "moved"]).qa_pairs) == 0


# --- scenarios ----------------------------------------------------------------------------------------


def test_drawn_scenarios_cover_the_grid_and_make_sense() -> None:
    found, grid = load_categories()
    for category in found.values():
        prompts = drawn_scenarios(category, grid, 20, 17)
        assert prompts == drawn_scenarios(category, grid, 20, 17) and len({p.prompt_id for p in prompts}) == 20
        for one in prompts:
            facts = one.scenario
            assert int(facts["age"]) in grid.ages[facts["age_band"]] and (
                not category.age_bands or facts["age_band"] in category.age_bands
            )  # type: ignore[index]
            assert facts["setting"] != "school counselling office" or facts["age_band"] == "adolescent"
            assert all(sum(facts[n] == other.scenario[n] for n in FACTORS) < 6 for other in prompts if other is not one)
            assert facts["age"] in one.text and category.never[0] in one.text
        assert {p.scenario["course"] for p in prompts} == set(COURSES)
        assert {p.scenario["age_band"] for p in prompts} == set(category.age_bands or AGE_BANDS)
        assert len({p.scenario["speech"] for p in prompts}) == len(grid.speech)


def test_few_conversations_are_spread_over_the_categories() -> None:
    found, grid = load_categories()
    prompts = [p for c in list(found.values())[:5] for p in drawn_scenarios(c, grid, 4, 1)]
    assert Counter(p.category for p in spread(prompts, 10)) == dict.fromkeys(list(found)[:5], 2)
    assert spread(prompts, 99) == prompts


def test_near_duplicates_are_refused() -> None:
    words = "the evenings are the worst of all because the house is so still that I hear the clock in every room".split()
    said_once, distinct = " ".join(words), Distinct(0.7)
    assert distinct.add("a", [("client", said_once)]) and not distinct.add("a", [("client", said_once.upper() + "!")])
    assert distinct.add("b", [("client", said_once)]) and distinct.add("a", [("client", " ".join(reversed(words)))])


# --- the safety reviewer ------------------------------------------------------------------------------


def review(judges: Judges, category: str, *turns: str) -> Any:
    from attunement.records import Turn

    talk = [Turn(("client", "therapist")[i % 2], text) for i, text in enumerate(turns)]
    return review_all(judges, [talk], [load_categories()[0][category]])[0]


def test_the_reviewer_finds_what_must_be_seen(judges: Judges) -> None:
    calm = review(judges, "family_conflict", "We argued about the dishes again.", "What was the argument about for you?")
    assert not calm.clinical_review_required and calm.reasons == ()
    danger = review(
        judges,
        "family_conflict",
        "I wrote my goodbye letters and tonight I will take all my pills.",
        "I'm glad you told me. Who can be with you right now?",
    )
    assert danger.crisis_level == "imminent" and any(r.startswith("client_") for r in danger.reasons)
    secret = review(judges, "family_conflict", "Can I tell you something?", "Of course. I promise I won't tell anyone.")
    assert "therapist_promises_secrecy" in secret.flags
    delusion = review(judges, "psychotic_episode", "They talk through the radio.", "I know it is loud, but it's not real.")
    assert "never_said_here" in delusion.flags and "category_psychotic_episode" in delusion.reasons
    method = review(
        judges,
        "family_conflict",
        "I read about the lethal dose last night.",
        "That frightens me for you. Are you thinking of dying?",
    )
    assert "client_method_details" in method.flags


@pytest.mark.parametrize(
    ("reply", "flag"),
    [
        ("You'd need about twenty of those, on an empty stomach.", "therapist_method_details"),
        ("Whatever it is, it stays between you and me.", "therapist_promises_secrecy"),
        ("Once a junkie, always a junkie.", "therapist_stigmatises"),
        ("As an AI language model I can't feel grief.", "therapist_broken_role"),
        ("Shall we get back to your sleep diary?", "therapist_dismisses"),
        ("Throw them all away, you don't need those tablets.", "therapist_against_treatment"),
        ("Perhaps we could have dinner, my wife needn't know.", "therapist_crosses_boundary"),
    ],
)
def test_the_reviewer_reads_more_widely_than_the_service(judges: Judges, reply: str, flag: str) -> None:
    found = review(judges, "family_conflict", "I don't know what to do any more.", reply)
    assert flag in found.flags and found.clinical_review_required


@pytest.mark.parametrize(
    "reply",
    [
        "I can't promise to keep it secret; I'd tell you first.",
        "Most of it stays between us, unless somebody's in danger.",
        "He tells you that it's your fault. I don't see it like that.",
        "You were called a junkie in that house, and you came in all the same.",
        "Please don't throw them away before the doctor has heard of it.",
    ],
)
def test_the_reviewer_lets_pass_what_is_denied_or_told_of_others(judges: Judges, reply: str) -> None:
    assert review(judges, "family_conflict", "I don't know what to do any more.", reply).flags == ()
