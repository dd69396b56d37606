"""The recipes of public sets, and the user's own; the real data gives every conversation that its README lists."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.readers.files import ReadFailure, discover, read
from attunement.readers.sets import catalogue, load_set
from attunement.readers.turns import clean, detokenise
from attunement.records import Conversation


@pytest.mark.realdata
def test_every_conversation_of_the_real_data_is_read(shared: Path) -> None:
    counts: Counter[str] = Counter()
    roles: dict[str, set[tuple[str, ...]]] = {}
    failures = []
    for file in discover([shared / "data"]):
        if file.skip_reason is None:
            for found in read(file, max_record_bytes=16_000_000):
                if isinstance(found, ReadFailure):
                    failures.append(found)
                else:
                    counts[file.name.split("/")[0] if file.name.startswith("vera-mh") else file.name] += 1
                    roles.setdefault(file.source, set()).add(tuple(sorted({t.role for t in found.turns})))
    assert counts == {
        "annomi/AnnoMI-full.csv": 109, "automisc/HLQC.csv": 202, "automisc/HLQC_balanced_manual.csv": 6, "automisc/MIV6.3A.csv": 173,
        "automisc/MIV6.3B.csv": 165, "counselchat/counsel_chat.csv": 1764, "counseling-feedback/q-esconv.json": 467,
        "empatheticdialogues/ed_test_reconstructed.jsonl": 2542, "epitome/emotional-reactions-reddit.csv": 2447,
        "epitome/explorations-reddit.csv": 2447, "epitome/interpretations-reddit.csv": 2447, "esconv/FailedESConv.json": 196,
        "esconv/ppdpp_esc-test.txt": 130, "esconv/ppdpp_esc-valid.txt": 130, "esconv/test.txt": 195, "esconv/valid.txt": 195,
        "psych8k/input.txt": 8187, "synthetic-esc-gpt4/generatedDataset.csv": 1498, "vera-mh": 88,
    }  # fmt: skip
    # Two of the 1,500 synthetic ones name nobody as speaking.
    assert {f.file for f in failures} == {"synthetic-esc-gpt4/generatedDataset.csv"} and len(failures) == 2
    assert all(found == {("client", "therapist")} for source, found in roles.items() if source != "synthetic-esc-gpt4")


@pytest.mark.realdata
def test_files_of_labels_are_passed_over_with_a_reason(shared: Path) -> None:
    reasons = {f.name: f.skip_reason for f in discover([shared / "data"])}
    for name in (
        "goemotions/train.tsv",
        "diasafety/val.json",
        "winogender/sentences.tsv",
        "psych8k/output_GT.txt",
        "mh-simulation/survey_wai_logs.csv",
    ):
        assert reasons[name], name


def test_a_renamed_copy_is_known_by_its_columns(tmp_path: Path) -> None:
    with open(tmp_path / "export.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [
                [
                    "questionID",
                    "questionTitle",
                    "questionText",
                    "topic",
                    "therapistInfo",
                    "therapistURL",
                    "answerText",
                    "upvotes",
                ],
                [
                    "7",
                    "Why am I sad?",
                    "<p>I am sad. Why am I sad?</p>",
                    "depression",
                    "",
                    "",
                    "Hello.It happens<br>often &amp; passes.",
                    "3",
                ],
            ]
        )
    (file_,) = discover([tmp_path])
    assert (file_.source, file_.licence_class) == ("counselchat", "R")
    (found,) = read(file_, max_record_bytes=1000)
    assert isinstance(found, Conversation)
    assert [t.text for t in found.turns] == ["I am sad. Why am I sad?", "Hello. It happens\noften & passes."]
    assert found.metadata == {"topic": "depression", "upvotes": "3", "group": "counselchat/7"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("conversations/ann/visit_run2.txt", "Client: I can't sleep.\nTherapist: Since when?\n"),
        ("a.csv", "context,response,category,label\nI am low today,What happened,x,y\n"),
        ("b.csv", "post,question,response\nI am low today,why,What happened\n"),
        ("c.csv", "pairing_id,session_id,question,answer\n1,2,I am low today,What happened\n"),
        ("d.csv", "questionID,questionTitle,questionText,answerText\n1,Low,I am low today,What happened\n"),
        ("our-reddit.csv", "question,answer\nI am low today,What happened\n"),
        ("generatedDataset.csv", "question,answer\nI am low today,What happened\n"),
        ("data/train.csv", "title,selftext,is_suicide,question,answer\na,b,0,I am low today,What happened\n"),
    ],
)
def test_a_private_file_is_not_taken_for_a_public_set(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    (file,) = discover([tmp_path])
    assert (file.licence_class, file.skip_reason) == ("unknown", None)
    (found,) = read(file, max_record_bytes=1000)
    assert isinstance(found, Conversation) and len(found.turns) == 2


OWN = """
name = "our-clinic"
title = "Consented sessions"
licence = "agreement 12"
licence_class = "N"
share = "dual_persona"
[[files]]
match = "notes_*.csv"
skip = "no conversations"
[[files]]
match = "*.csv"
shape = "turn_rows"
conversation = "visit"
speaker = "p"
text = "words"
roles = { K = "client", T = "therapist" }
group = "clinic/{visit}"
"""


def test_the_users_own_recipe(tmp_path: Path) -> None:
    (tmp_path / "source.toml").write_text(OWN)
    (tmp_path / "notes_1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "talk.csv").write_text("visit,p,words\n1,K,I slept well.\n1,T,What helped you to sleep?\n")
    files = {f.name: f for f in discover([tmp_path])}
    assert files["notes_1.csv"].skip_reason == "no conversations"
    (found,) = read(files["talk.csv"], max_record_bytes=1000)
    assert isinstance(found, Conversation)
    assert [t.role for t in found.turns] == ["client", "therapist"]
    assert (found.share, found.origin.source, found.metadata["group"]) == ("dual_persona", "our-clinic", "clinic/1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not valid TOML"),
        (OWN.replace("dual_persona", "other"), "share"),
        (OWN.replace("speaker =", "speeker ="), "speeker"),
    ],
)
def test_a_fault_in_a_recipe_is_named(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_set(text, "source.toml")


def test_the_catalogue_is_whole() -> None:
    names = [s.name for s in catalogue()]
    assert names == sorted(names) and len(names) >= 22
    assert all(s.url.startswith("https://github.com/") and s.commit and s.licence for s in catalogue())


@pytest.mark.parametrize(
    ("taken_apart", "whole"),
    [
        ("i do n't know , really .", "i don't know, really."),
        ("Hi , what 's up ?", "Hi, what's up?"),
        ("you got ta try . .", "you gotta try."),
        ("it cost $ 5 ( five ) !", "it cost $5 (five)!"),
    ],
)
def test_detokenise(taken_apart: str, whole: str) -> None:
    assert detokenise(taken_apart) == whole


def test_clean_keeps_paragraphs_and_words_apart() -> None:
    assert clean("a\u00a0 b \r\n\r\n c\u200b") == "a b\nc"
    assert clean("<p>One.</p><p>Two</p>three &lt;4&gt;", markup=True) == "One.\nTwo\nthree <4>"
