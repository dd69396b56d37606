"""Which scenarios: evenly over the grid for a language model, over the written people and courses for the grammar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from attunement.records import EdgeCasePrompt
from attunement.sources.edge_cases.categories import COURSES, Category, Grid
from attunement.sources.edge_cases.grammar import Grammar
from attunement.storage.files import content_hash

FACTORS = ("age_band", "gender", "culture", "setting", "history", "attachment", "speech", "course")
"""What scenarios vary by; `age` and `name` are facts within them."""
ALIKE = 6
"""Of the eight factors, so many in common make two scenarios one."""
TRIES = 50
SCHOOL = "school counselling office"
UNIVERSITY = "university counselling service"


def written_scenarios(category: Category, grammar: Grammar, count: int, seed: int) -> list[EdgeCasePrompt]:
    """`count` scenarios over the grammar's people and the courses; every pair of both comes before one comes again."""
    rng = Random(f"{seed}/{category.id}")
    people, courses = [profile.id for profile in grammar.profiles], list(COURSES)
    rng.shuffle(people)
    rng.shuffle(courses)
    out = []
    for number in range(count):
        person = grammar.profile(people[number % len(people)])
        # Where people are a multiple of the courses, each round begins with another course; else that comes by itself.
        turn = number // len(people) if len(people) % len(courses) == 0 else 0
        course = courses[(number + turn) % len(courses)]
        scenario = {**{name: str(getattr(person, name)) for name in FACTORS if name != "course"}, "course": course}
        out.append(_prompt(category, {**scenario, "age": person.age, "profile": person.id}, "", number, seed))
    return out


def drawn_scenarios(category: Category, grid: Grid, count: int, seed: int) -> list[EdgeCasePrompt]:
    """`count` scenarios of the grid: each level of each factor about as often as the others, none nearly the same as an earlier one."""
    rng = Random(f"{seed}/{category.id}")
    bands = [band for band in grid.ages if not category.age_bands or band in category.age_bands]
    levels: dict[str, Sequence[str]] = {
        "age_band": bands,
        "gender": grid.genders,
        "culture": grid.cultures,
        "setting": category.settings or grid.settings,
        "history": grid.histories,
        "attachment": grid.attachments,
        "speech": grid.speech,
        "course": grid.courses,
    }
    decks = {name: _deck(values, rng) for name, values in levels.items()}
    kept: list[dict[str, str]] = []
    for _ in range(count):
        for _ in range(TRIES):
            drawn = {name: next(decks[name]) for name in FACTORS}
            if _makes_sense(drawn) and all(sum(drawn[n] == other[n] for n in FACTORS) < ALIKE for other in kept):
                break
        kept.append({**drawn, "age": str(rng.choice(grid.ages[drawn["age_band"]]))})  # type: ignore[index]
    return [_prompt(category, scenario, _asked(category, scenario), i, seed) for i, scenario in enumerate(kept)]


def _deck(values: Sequence[str], rng: Random) -> Iterator[str]:
    """The values in random order, all of them before one comes again."""
    while True:
        cards = list(values)
        rng.shuffle(cards)
        yield from cards


def _makes_sense(drawn: dict[str, str]) -> bool:
    young = drawn["age_band"] == "adolescent"
    if (drawn["setting"] == SCHOOL) > young or (
        drawn["setting"] == UNIVERSITY and drawn["age_band"] not in ("young_adult", "adult")
    ):
        return False
    return not (young and drawn["history"] in ("served in the army", "was referred by a court or an employer"))


def _prompt(category: Category, scenario: dict[str, str], text: str, number: int, seed: int) -> EdgeCasePrompt:
    name = f"{category.id}-{number + 1:03d}-" + content_hash([seed, category.id, number, scenario])[:8]
    always = category.clinical_review == "always"
    draw = int(content_hash([seed, name])[:8], 16)
    return EdgeCasePrompt(
        name, category.id, category.difficulty_level, tuple(category.expected_challenges), always, scenario, text, draw
    )


_COURSE = {
    "de_escalates": "It is hard at first and grows calmer because the therapist stays, listens and helps to find a next step.",
    "escalates": "It gets more dangerous. The therapist moves to safety, openly and kindly, and it ends with a concrete safety step.",
    "ruptures_and_repairs": "The therapist says something clumsy that hurts or angers the client, notices, owns it, and the tie is mended.",
}


def _asked(category: Category, scenario: dict[str, str]) -> str:
    """What the model is asked about one scenario."""
    lines = [
        f"Situation: {category.title} ({category.id.replace('_', ' ')}).",
        f"Client: {scenario['age']} years, {scenario['gender']}, {scenario['culture']}; {scenario['history']}.",
        f"Setting: {scenario['setting']}. Attachment style: {scenario['attachment']}. Way of speaking: {scenario['speech']}.",
        f"Course: {_COURSE[scenario['course']]}",
        f"Challenges to show: {', '.join(c.replace('_', ' ') for c in category.expected_challenges)}.",
        "A good therapist here:",
        *(f"- {line}" for line in category.good_practice),
        "The therapist never:",
        *(f"- {line}" for line in category.never),
    ]
    return "\n".join(lines)
