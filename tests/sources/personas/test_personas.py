"""`DualPersonaTrainer` and `attune generate personas`: from the written scenarios, and by a provider that answers well or badly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from attunement.cli.generate_personas import personas as command
from attunement.errors import DataError, ServiceError
from attunement.providers import Completion, Provider, Request
from attunement.quality.panel import Judges
from attunement.readers.files import discover, read
from attunement.records import Conversation
from attunement.sources.personas.files import clients, therapists
from attunement.sources.personas.output import write
from attunement.sources.personas.scenarios import Scenario, scenarios
from attunement.sources.personas.trainer import DualPersonaTrainer, chosen
from speaking import said, speaking


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def material() -> list[Scenario]:
    return list(scenarios(None, clients()).values())


def test_offline_dialogues_are_new_each_consistent_and_the_same_for_a_seed(judges: Judges) -> None:
    trainer = DualPersonaTrainer(judges, count=15)
    found = trainer.generate_persona_dialogues(list(trainer.personas.values()), material())
    again = DualPersonaTrainer(judges, count=15).generate_persona_dialogues(list(trainer.personas.values()), material())
    assert len(found) == 15 and found == again
    assert len({d.dialogue_id for d in found}) == 15 and len({d.scenario for d in found}) >= 8
    for dialogue in found:
        assert trainer.validate_persona_consistency(dialogue).consistent
        assert 2 <= len(dialogue.segments()) <= 4 and dialogue.provider == "offline-grammar"
        assert [t.role for t in dialogue.turns] == ["client", "therapist"] * (len(dialogue.turns) // 2)
    bridged = Counter(bool(d.turns[s.places[0]].bridge) for d in found for s in d.segments()[1:])
    assert set(bridged) == {True}


def test_what_is_rejected_keeps_its_reason(judges: Judges, tmp_path: Path) -> None:
    trainer = DualPersonaTrainer(judges, count=40)
    trainer.generate_persona_dialogues(list(trainer.personas.values()), material())
    report = write(trainer.made, judges, tmp_path, provider="offline-grammar", seed=17, near_duplicate=0.7)
    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert report["kept"] == 40 and report["rejected"] == len(rejected) <= 5
    assert rejected and all(row["reasons"] for row in rejected)
    assert (
        report["variety"]["distinct_2"] > 0.2
        and 0 < report["variety"]["nearest_in_scenario"]["median"] < 1
        and len(report["variety"]["scenarios"]) == 12
    )


def test_personas_decide_what_can_be_played(judges: Judges) -> None:
    own = therapists()
    pair = chosen(own, ["empathic_listener", "cognitive_restructurer"])
    found = DualPersonaTrainer(judges, count=8).generate_persona_dialogues(pair, material())
    assert {t.persona for d in found for t in d.turns if t.role == "therapist"} == {p.id for p in pair}
    with pytest.raises(DataError, match="no scenario can be played"):
        DualPersonaTrainer(judges).generate_persona_dialogues(pair[:1], material())
    with pytest.raises(DataError, match="there is no persona 'guru': there are cognitive_restructurer"):
        chosen(own, ["guru"])


def test_a_small_material_gives_fewer_and_no_copies(judges: Judges) -> None:
    trainer = DualPersonaTrainer(judges, count=1000)
    one = [s.model_copy(update={"courses": s.courses[:1]}) for s in material()[:1]]
    found = trainer.generate_persona_dialogues(list(trainer.personas.values()), one)
    assert 2 < len(found) < 200 and trainer.made.near_duplicates > 0


# --- a provider ---------------------------------------------------------------------------------------------------------


class Played(Provider):
    """Answers from the written material of the scenario that the key names, or as `spoil` says."""

    name = "played"

    def __init__(self, spoil: Callable[[Request, str], str] = lambda request, text: text) -> None:
        self.spoil, self.requests = spoil, list[Request]()
        self.beats = {s.id: {" ".join(c): [b for name in c for b in s.phases[name].beats] for c in s.courses} for s in material()}

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        _, scenario, course, _, turn = request.key.split(":")
        beat = self.beats[scenario][course.replace("-", " ")][int(turn) // 2]
        text = beat.therapist[0] if int(turn) % 2 else beat.client[0]
        return Completion(self.spoil(request, text), "played")


def written_by(provider: Provider, judges: Judges, count: int = 6) -> DualPersonaTrainer:
    trainer = DualPersonaTrainer(judges, provider, count=count)
    trainer.generate_persona_dialogues(list(trainer.personas.values()), material())
    return trainer


def test_a_provider_writes_turn_by_turn_and_the_switcher_decides(judges: Judges) -> None:
    provider = Played(lambda request, text: f"Therapist: {text}")
    made = written_by(provider, judges).made
    dialogues = [*made.kept, *made.rejected]
    assert len(dialogues) == 6 and not made.failures
    assert len({request.key for request in provider.requests}) == len(provider.requests) == sum(len(d.turns) for d in dialogues)
    assert all(not turn.text.startswith("Therapist:") for d in dialogues for turn in d.turns)
    assert {turn.persona for d in dialogues for turn in d.turns if turn.role == "therapist"} == set(therapists())
    first, second = provider.requests[0], next(r for r in provider.requests if r.key == provider.requests[0].key[:-1] + "1")
    assert first.messages[0].role == "system" and "You play" in first.messages[0].content
    assert second.messages[-1].role == "user" and "never invent phone numbers" in second.messages[0].content


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("  ", "empty_turn"), ("Das ist heute wirklich sehr schwer für mich und ich weiß nicht weiter.", "not_english")],
)
def test_turns_that_cannot_be_used_are_counted(judges: Judges, answer: str, reason: str) -> None:
    made = written_by(Played(lambda request, text: answer), judges).made
    assert made.failures == Counter({reason: 6}) and not made.kept


def test_a_provider_that_fails_sometimes_costs_only_those_dialogues(judges: Judges) -> None:
    def fails(request: Request, text: str) -> str:
        if request.seed % 2:
            raise ServiceError("the budget is spent")
        return text

    made = written_by(Played(fails), judges).made
    assert made.failures["provider_failed"] == 3 and len(made.kept) + len(made.rejected) == 3


def test_a_provider_that_gives_nothing_is_told(judges: Judges) -> None:
    def fails(request: Request, text: str) -> str:
        raise ServiceError("no key")

    with pytest.raises(ServiceError, match="no key"):
        written_by(Played(fails), judges)


# --- the command --------------------------------------------------------------------------------------------------------


def attune() -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def test_the_command_leaves_a_source_that_a_build_reads(tmp_path: Path) -> None:
    out = tmp_path / "personas"
    result = CliRunner().invoke(attune(), ["--count", "5", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["conversations.jsonl", "report.json", "source.toml"]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["provider"] == "offline-grammar" and report["kept"] == 5
    assert all(told["segments"] for told in report["dialogues"].values())
    found = [c for file in discover([out]) if file.skip_reason is None for c in read(file, max_record_bytes=1 << 20)]
    assert len(found) == 5 and all(isinstance(c, Conversation) and c.share == "dual_persona" for c in found)
    conversation = next(c for c in found if isinstance(c, Conversation))
    assert conversation.origin.licence == "Apache-2.0" and conversation.metadata["provider"] == "offline-grammar"
    assert {turn.role for turn in conversation.turns} == {"client", "therapist"}


def test_a_compatible_server_is_asked_once_for_each_turn(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="needs the extra openai")
    told = "I can hear how heavy these weeks have been for you."
    with speaking(lambda path, body: said(path, f"{told} {len(body['messages'])}")) as speaker:
        words = ["--count", "2", "--provider", f"{speaker.address}/v1", "--model", "m-1", "--out", str(tmp_path / "x")]
        first = CliRunner().invoke(attune(), words)
        assert first.exit_code == 0, first.output
        asked = len(speaker.asked)
        report = json.loads((tmp_path / "x" / "report.json").read_text(encoding="utf-8"))
        assert asked > 4 and report["provider"].endswith("m-1") and report["kept"] + report["rejected"] == 2
        assert CliRunner().invoke(attune(), words).exit_code == 0 and len(speaker.asked) == asked, "paid twice"


def test_an_unknown_provider_or_persona_gets_one_line(tmp_path: Path) -> None:
    for extra, told in (
        (["--provider", "oracle", "--model", "m"], "there is no provider 'oracle'"),
        (["--persona", "guru"], "no persona 'guru'"),
    ):
        result = CliRunner().invoke(attune(), ["--out", str(tmp_path / "x"), *extra])
        assert told in str(result.exception) and not (tmp_path / "x").exists()
