"""The rules: what must be found, what must not, and how sure that is on public labelled data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from attunement.quality.appropriateness import validate_by_rules
from attunement.quality.bias import detect_by_rules
from attunement.quality.crisis import assess_by_rules
from attunement.quality.labelled import CONTENT_TYPES
from attunement.quality.rules import counted, hits, lexicon, normalise, sayings
from attunement.records import ValidationResult


@pytest.mark.parametrize(
    ("text", "level", "reason"),
    [
        ("I want to die", "elevated", "suicidal_ideation"),
        ("I\u2019m going to kill myself tonight", "imminent", "suicide_intent"),
        ("im gonna end it all", "imminent", "suicide_intent"),
        ("Sometimes I think everyone would be better off without me", "elevated", "suicidal_ideation"),
        ("i dont want to be here anymore", "elevated", "suicidal_ideation"),
        ("what is a LETHAL dose of paracetamol", "elevated", "suicidal_ideation"),
        ("su1cide", "elevated", "suicidal_ideation"),
        ("un\u200balive myself", "elevated", "suicidal_ideation"),
        ("I took all my pills", "imminent", "suicide_intent"),
        ("I started cutting again", "elevated", "self_harm"),
        ("I'm going to kill my boss", "imminent", "harm_to_others"),
        ("my husband hit me last night", "elevated", "abuse_or_violence"),
        ("The voices tell me to hurt people", "elevated", "acute_psychosis"),
        ("My friend said she wants to die", "elevated", "another_at_risk"),
    ],
)
def test_danger_is_found(text: str, level: str, reason: str) -> None:
    found = assess_by_rules([text])
    assert found.level == level and reason in found.reasons


@pytest.mark.parametrize(
    "text",
    [
        "I'm dying to see that film",
        "My feet are killing me",
        "This deadline is murder",
        "He killed it at the concert",
        "I cut my finger while cooking",
        "I want to live closer to my sister",
        "I was so tired after the run",
        "My grandmother died last spring and I miss her",
        "I could eat a horse",
        "We ended our lease early",
        "I'm done with my homework",
    ],
)
def test_everyday_words_are_no_danger(text: str) -> None:
    assert assess_by_rules([text]).level == "none"


def test_a_retraction_does_not_undo_what_was_said() -> None:
    assert assess_by_rules(["I want to die", "forget it, I'm fine"]).level == "elevated"
    assert assess_by_rules([]).level == "none"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("You should stop taking your medication.", "against_treatment"),
        ("You don't need a therapist.", "against_treatment"),
        ("Just get over it.", "dismisses"),
        ("Other people have it much worse.", "dismisses"),
        ("It's your own fault.", "blames"),
        ("You clearly have bipolar disorder.", "diagnoses"),
        ("This will stay our little secret.", "promises_secrecy"),
        ("Everyone would be better off without you.", "encourages_harm"),
        ("Kill yourself then.", "encourages_harm"),
        ("I dare you to kill yourself.", "encourages_harm"),
        ("Why don't you kill yourself?", "encourages_harm"),
        ("The most effective way to die is", "method_details"),
        ("", "empty"),
    ],
)
def test_what_must_never_be_said(text: str, reason: str) -> None:
    verdict = validate_by_rules(text)
    assert not verdict.appropriate and verdict.score < 1 and reason in verdict.reasons


@pytest.mark.parametrize(
    "text",
    [
        "That sounds very hard. What was it like for you?",
        "It makes sense that you feel this way.",
        "Would you like to talk with your doctor about the medication?",
        "It was not your fault.",
        "You don't need to get it right the first time.",
        "When you say that, do you mean to kill yourself?",
        "Have you thought about how close you came to kill yourself? Please don't kill yourself tonight.",
    ],
)
def test_good_replies_pass(text: str) -> None:
    assert validate_by_rules(text) == ValidationResult(True, 1.0, ())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Women are too emotional for this job.", "derogates"),
        ("You know immigrants always cause trouble.", "generalises"),
        ("Real men don't cry.", "prescribes_role"),
        ("A wife should obey her husband.", "prescribes_role"),
        ("All muslims are the same.", "generalises"),
    ],
)
def test_bias_is_found_with_term_and_place(text: str, code: str) -> None:
    report = detect_by_rules(text)
    finding = next(f for f in report.findings if f["code"] == code)
    assert report.bias_score >= 0.8
    assert normalise(text)[slice(*finding["span"])] == finding["term"]


@pytest.mark.parametrize(
    "text", ["My mother is from Mexico.", "I am a gay man and I feel lonely.", "Women in my group meet on Fridays.", "He is 80."]
)
def test_naming_a_group_is_no_bias(text: str) -> None:
    assert detect_by_rules(text).bias_score == 0.0


@pytest.mark.parametrize("name", ["crisis", "appropriateness", "bias", "reviewer", "talk"])
def test_every_rule_is_well_made(name: str) -> None:
    for rule in lexicon(name):
        assert rule.code and 0 < rule.weight <= 1
        assert not rule.pattern.search("") and not rule.pattern.search("the weather was fine on tuesday")
        levels = {
            "crisis": ("elevated", "imminent"),
            "appropriateness": ("blocks", "lowers"),
            "reviewer": ("always", "unless_denied"),
            "talk": ("", *CONTENT_TYPES),
        }
        assert (name == "bias") or rule.level in levels[name]


def test_what_a_talk_says_of_itself_is_counted() -> None:
    rules = lexicon("talk")

    def found(text: str) -> set[str]:
        return {rule.level for rule, count in zip(rules, counted(rules, text), strict=True) if count and rule.level}

    assert found("Welcome back to the show. Our listeners wrote in.") == {"podcast"}
    assert found("Ladies and gentlemen, on behalf of the family.") == {"speech"}
    assert found("Your keys, Dad. Love you. When you get this, ring me.") == {"monologue"}
    assert found("Next question. When did the pain start?") == {"interview"}
    assert counted(rules, "episode, episode, episode")[0] == 3
    assert len(set(sayings("talk"))) == len(sayings("talk")) >= 40


def test_long_text_takes_no_time() -> None:
    """No pattern may run away: this text took minutes with nested repeats."""
    text = ("i am so very much more than a little bit tired of the whole thing and " * 3000)[:100_000]
    for name in ("crisis", "appropriateness", "bias", "reviewer", "talk"):
        assert hits(lexicon(name), text) is not None


@pytest.mark.realdata
def test_crisis_figures_on_public_data(shared: Path) -> None:
    """The figures in docs/LOG.md, as floors: recall on SuicideWatch titles and posts, alarms on everyday talk."""
    with open(shared / "data/sdcnl/testing-set.csv", encoding="utf-8", errors="replace", newline="") as file:
        posts = [f"{r['title']} {r['selftext']}" for r in csv.DictReader(file) if r["is_suicide"] == "1"]
    everyday = [
        turn["text"]
        for line in (shared / "data/empatheticdialogues/ed_test_reconstructed.jsonl").read_text(encoding="utf-8").splitlines()
        for turn in json.loads(line)["turns"]
    ]
    found = sum(assess_by_rules([p]).level != "none" for p in posts) / len(posts)
    alarms = sum(assess_by_rules([t]).level != "none" for t in everyday) / len(everyday)
    assert found >= 0.68 and alarms <= 0.004
