"""Personal data in a build: what each mode of `data.phi` leaves in the folder, and that the same input gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attunement.config import DataSettings, load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.curation.privacy import Privacy
from attunement.curation.provenance import trace
from attunement.errors import UserError
from attunement.records import Conversation, Origin, Turn
from attunement.security.incidents import Incident, Incidents
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault
from attunement.storage.files import read_jsonl

NAMES = ("Kowalczyk", "Agnieszka", "555-0147", "agnieszka.k@mailbox.example")
TALKS = [
    [
        ("client", "My name is Agnieszka Kowalczyk and I have not slept since the move to the new flat."),
        ("therapist", "Thank you for telling me, Agnieszka. What is it like when you lie awake at night there?"),
        ("client", "I think of home. You can call me at (212) 555-0147 or write to agnieszka.k@mailbox.example please."),
        ("therapist", "I will. When you think of home at night, what do you see first, and what does it do to you?"),
    ],
    [
        ("client", "I feel so tired every morning, and I do not know what to do about my work any longer."),
        ("therapist", "That sounds heavy. What is the first thing that you notice about yourself in the morning?"),
    ],
]


def built(folder: Path, mode: str, talks: list[Any] = TALKS, **more: Any) -> dict[str, Any]:
    source = folder.parent / "talks.jsonl"
    rows = [{"turns": [{"role": role, "text": text} for role, text in talk], **more} for talk in talks]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    overrides = (f"data.phi={mode}", "data.min_coherence=0", "data.review=off", f"home={folder.parent / 'home'}")
    DataPipeline(load_settings(overrides=overrides).settings, folder).process_datasets([source])
    return json.loads((folder / "quality_report.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def holding(folder: Path) -> set[str]:
    """Which of the names stand anywhere in the dataset's folder; `work/read` is a copy of the sources."""
    text = "".join(
        p.read_text(encoding="utf-8")
        for p in folder.rglob("*")
        if p.is_file() and p.suffix in (".json", ".jsonl", ".md", ".html") and p.parent.parent.name != "read"
    )
    return {name for name in NAMES if name in text}


def examples(folder: Path) -> list[dict[str, Any]]:
    return [row for split in ("train", "validation", "test") for row in read_jsonl(folder / f"{split}.jsonl")]


@pytest.mark.parametrize("mode", ["redact", "pseudonymise"])
def test_nothing_of_it_is_left_in_the_folder(tmp_path: Path, mode: str) -> None:
    report = built(tmp_path / "a", mode)["personal_data"]
    assert holding(tmp_path / "a") == set()
    assert (report["mode"], report["conversations"]) == (mode, 1) and {"NAME", "PHONE", "EMAIL"} <= set(report["found"])
    rows = examples(tmp_path / "a")
    assert len(rows) == 3 and ("[NAME]" in json.dumps(rows)) == (mode == "redact")
    story = trace(tmp_path / "a", next(r["conversation_id"] for r in rows if "flat" in json.dumps(r)))
    assert story["personal_data"] == report["found"]
    assert "is still there" not in (tmp_path / "a" / "dataset_card.md").read_text()
    built(tmp_path / "b", mode)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "provenance.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_is_asked_for_stays_and_is_told(tmp_path: Path) -> None:
    report = built(tmp_path / "out", "report")
    assert holding(tmp_path / "out") == set(NAMES) and report["personal_data"]["found"]["PHONE"] == 1
    assert "**Personal data was found and is still there**" in (tmp_path / "out" / "dataset_card.md").read_text()
    report = built(tmp_path / "out", "block")  # over the same folder: nothing of the build before is taken up
    assert report["pairs"]["kept"] == 1 and report["pairs"]["rejected_by_reason"]["personal_data"] == 2
    assert holding(tmp_path / "out") == set()


def test_what_is_blocked_is_one_incident_of_the_build(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = [[("client", "I am Agnieszka Kowalczyk and I sleep badly, night after night."), TALKS[1][1]]]
    home, settings = tmp_path / "home", load_settings(overrides=[f"home={tmp_path / 'home'}"]).settings

    def book() -> list[Incident]:
        with Vault.open(settings) as vault:
            assert {r.target for r in vault.audit.records() if r.action.startswith("incident:")} == {
                i.id for i in Incidents(vault).all()
            }
            return Incidents(vault).all()

    built(tmp_path / "out", "block", [*TALKS, *other])  # nobody made a vault: the log has it
    assert "2 conversations with personal data" in caplog.text and not (home / "keys.db").exists()
    FileMasterKey.create(home / "master.key")
    built(tmp_path / "clean", "block", TALKS[1:])
    built(tmp_path / "redacted", "redact")
    assert book() == []
    built(tmp_path / "out", "block", [*TALKS, *other])
    (incident,) = book()
    told = incident.steps[0].data["text"]
    assert incident.kind == "blocked" and len(incident.steps) == 1 and "2 conversations" in told and "1 PHONE" in told
    assert not [name for name in NAMES if name in told + caplog.text]
    built(tmp_path / "out", "block", [*TALKS, *other])  # again, over what stands already
    assert [len(i.steps) for i in book()] == [2]
    (home / "master.key").write_text("not a key")
    with pytest.raises(UserError):  # what cannot be recorded makes no dataset
        built(tmp_path / "unrecorded", "block")
    assert not (tmp_path / "unrecorded" / "train.jsonl").exists()


def test_what_nobody_said_is_passed_over(tmp_path: Path) -> None:
    turns = [Turn(role, text) for role, text in TALKS[0]]
    origin = Origin("s", "f.jsonl", "0" * 64, "1", "0" * 64, "CC0", "R")
    talks = {i: Conversation("c-1", turns, origin, metadata=m) for i, m in enumerate(({}, {"generated_by": "offline-grammar"}))}
    treated, found = Privacy(DataSettings(), tmp_path).treat(talks)
    assert set(found) == {0} and treated[1] is talks[1] and "Kowalczyk" not in str(treated[0].turns)
