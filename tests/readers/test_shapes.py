"""Every chat shape that people have, through the same door that curation uses: a file on disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from attunement.readers.files import ReadFailure, discover, read
from attunement.records import Conversation

ASKED, ANSWERED = "I cannot stop worrying about work.", "What is it about work that follows you home?"
PAIR = [("client", ASKED), ("therapist", ANSWERED)]


def conversations(path: Path) -> list[Conversation]:
    (file,) = discover([path])
    found = list(read(file, max_record_bytes=1_000_000))
    assert not [f for f in found if isinstance(f, ReadFailure)], found
    return [f for f in found if isinstance(f, Conversation)]


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in conversation.turns]


SHAPES: dict[str, Any] = {
    "openai": {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]},
    "openai parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}, {"role": "assistant", "content": ANSWERED}]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWERED}]},
    "human/assistant": {"human": ASKED, "assistant": ANSWERED},
    "client/therapist": {"client": ASKED, "therapist": ANSWERED},
    "alpaca": {"instruction": ASKED, "input": "", "output": ANSWERED},
    "question/answer": {"Question": ASKED, "Answer": ANSWERED},
    "context/response": {"Context": ASKED, "Response": ANSWERED},
    "dialog": {"dialog": [{"speaker": "usr", "text": ASKED}, {"speaker": "sys", "text": ANSWERED}]},
    "strings": {"dialogue": [ASKED, ANSWERED]},
    "nested json": {
        "text": json.dumps({"dialog": [{"speaker": "seeker", "content": ASKED}, {"speaker": "supporter", "content": ANSWERED}]})
    },
    "questions/answers": {"Questions": ASKED, "Answers": ANSWERED},
    "q/a": {"Q": ASKED, "A": ANSWERED},
    "user/bot": {"User": ASKED, "Bot": ANSWERED},
    "human/ai": {"Human": ASKED, "AI": ANSWERED},
    "message/reply": {"message": ASKED, "reply": ANSWERED},
    "input/target": {"input": ASKED, "target": ANSWERED},
    "patient/doctor": {"Patient": ASKED, "Doctor": ANSWERED},
    "question_text": {"question_text": ASKED, "answer_text": ANSWERED},
    "user_question": {"id": 7, "user_question": ASKED, "counselor_response": ANSWERED, "response_time": 3},
    "prompt/chosen": {"prompt": ASKED, "chosen": ANSWERED, "rejected": "Who cares?"},
    "exchanges": {"conversation": [{"human": ASKED, "assistant": ANSWERED}]},
    "pairs": {"dialog": [[ASKED, ANSWERED]]},
    "langchain": {"messages": [{"type": "human", "data": {"content": ASKED}}, {"type": "ai", "data": {"content": ANSWERED}}]},
    "nested object": {
        "id": 3,
        "conversation": {"messages": [{"role": "user", "content": ASKED}, {"role": "bot", "content": ANSWERED}]},
    },
    "speaker_role": {
        "turns": [{"speaker_role": "client", "dialogue": ASKED}, {"speaker_role": "therapist", "dialogue": ANSWERED}]
    },
    "hh": {"chosen": f"\n\nHuman: {ASKED}\n\nAssistant: {ANSWERED}", "rejected": "\n\nHuman: x\n\nAssistant: y"},
    "transcript in text": {"text": f"Human: {ASKED}\nAssistant: {ANSWERED}"},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["array", "object with a list", "lines", "one object"])
def test_json_shapes(tmp_path: Path, shape: str, layout: str) -> None:
    record = SHAPES[shape]
    text = {
        "array": json.dumps([record, record], indent=1),
        "object with a list": json.dumps({"version": 1, "data": [record, record]}, indent=1),
        "lines": f"{json.dumps(record)}\n\n{json.dumps(record)}\n",
        "one object": json.dumps(record, indent=1),
    }[layout]
    (tmp_path / "talk.data").write_text(text)
    found = conversations(tmp_path / "talk.data")
    assert len(found) == (1 if layout == "one object" else 2)
    assert all(said(c) == PAIR for c in found)


def test_an_array_of_turns_is_one_conversation(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(
        json.dumps([{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}], indent=1)
    )
    (only,) = conversations(tmp_path / "t.json")
    assert said(only) == PAIR


def test_alpaca_with_history_keeps_it(tmp_path: Path) -> None:
    record = {"instruction": ASKED, "input": "", "output": ANSWERED, "history": [["Hello, is this private?", "Yes, it is."]]}
    (tmp_path / "t.jsonl").write_text(json.dumps(record))
    assert said(conversations(tmp_path / "t.jsonl")[0]) == [
        ("client", "Hello, is this private?"),
        ("therapist", "Yes, it is."),
        *PAIR,
    ]


def test_a_tool_is_nobody_who_speaks(tmp_path: Path) -> None:
    messages = [*SHAPES["openai"]["messages"], {"role": "tool", "content": "{}"}]
    (tmp_path / "t.jsonl").write_text(json.dumps({"messages": messages}))
    assert said(conversations(tmp_path / "t.jsonl")[0]) == [*PAIR, ("system", "{}")]


@pytest.mark.parametrize("columns", [("speaker_role", "text"), ("who", "said"), ("Speaker", "Dialogue")])
def test_more_names_of_turn_columns(tmp_path: Path, columns: tuple[str, str]) -> None:
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([("session", *columns), (1, "Client", ASKED), (1, "Therapist", ANSWERED)])
    assert [said(c) for c in conversations(tmp_path / "t.csv")] == [PAIR]


@pytest.mark.parametrize(
    "text",
    [
        f">> CLIENT: {ASKED}\n>> THERAPIST: {ANSWERED}\n",
        f"client: {ASKED}\ntherapist: {ANSWERED}\n",
        f"[Client] {ASKED}\n[laughs]\n[Therapist] {ANSWERED}\n",
        f"[00:01] [Client]: {ASKED}\n[00:05] [Therapist]: {ANSWERED}\n",
        f"12/03/2024, 14:05 - Client: {ASKED}\n12/03/2024, 14:06 - Therapist: {ANSWERED}\n",
        f"[12/03/24, 2:05:10 PM] Anna: {ASKED}\n[12/03/24, 2:06:10 PM] Therapist: {ANSWERED}\n",
        "12/03/2024, 14:01 - Messages are end-to-end encrypted.\n"
        f"12/03/2024, 14:05 - Anna: {ASKED}\n12/03/2024, 14:06 - Therapist: {ANSWERED}\n",
    ],
)
def test_labels_of_transcripts_and_messengers(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    (found,) = conversations(tmp_path / "t.txt")
    assert [(role, words.replace("\n[laughs]", "")) for role, words in said(found)] == PAIR


def test_a_system_message_keeps_its_role(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be kind."}, *SHAPES["openai"]["messages"]]
    (tmp_path / "t.jsonl").write_text(json.dumps({"messages": messages}))
    assert said(conversations(tmp_path / "t.jsonl")[0]) == [("system", "Be kind."), *PAIR]


def test_a_word_before_the_json_of_each_line(tmp_path: Path) -> None:
    line = json.dumps(SHAPES["dialog"])
    (tmp_path / "t.txt").write_text(f"anxiety {line}\nsadness {line}\n")
    assert [said(c) for c in conversations(tmp_path / "t.txt")] == [PAIR, PAIR]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_tables_of_exchanges(tmp_path: Path, delimiter: str) -> None:
    with open(tmp_path / "t.csv", "w", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerows([["id", "question", "answer"], ["1", f"{ASKED}\nEvery night.", ANSWERED], ["2", ASKED, ANSWERED]])
    first, second = conversations(tmp_path / "t.csv")
    assert said(first) == [("client", f"{ASKED}\nEvery night."), ("therapist", ANSWERED)]
    assert said(second) == PAIR


@pytest.mark.parametrize("mixed", [False, True])
def test_one_row_per_turn(tmp_path: Path, mixed: bool) -> None:
    rows = [["a", "client", ASKED], ["a", "therapist", ANSWERED], ["b", "client", "Hello."], ["b", "therapist", "Welcome."]]
    if mixed:
        rows = [rows[0], rows[2], rows[1], rows[3]]
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([["session_id", "speaker", "text"], *rows])
    first, second = conversations(tmp_path / "t.csv")
    assert said(first) == PAIR
    assert said(second) == [("client", "Hello."), ("therapist", "Welcome.")]
    assert first.origin.locator == "session_id=a"


def test_parquet(tmp_path: Path) -> None:
    table = pyarrow.table({"human": [ASKED] * 3, "assistant": [ANSWERED] * 3})
    pyarrow.parquet.write_table(table, tmp_path / "t.json")  # told by content, not by name
    assert [said(c) for c in conversations(tmp_path / "t.json")] == [PAIR] * 3


TRANSCRIPT = """Session four, recorded with consent

[00:00:02] Therapist: Welcome back.
How was your week?
[00:00:09] Client: Long. My boss said: "stay late".
Note: I did not.
[00:00:20] Therapist: You said no.
[00:00:23] Client: I did.
"""


def test_a_transcript_with_time_marks_and_colons_inside_turns(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TRANSCRIPT)
    (only,) = conversations(tmp_path / "t.txt")
    assert said(only)[0] == ("therapist", "Welcome back.\nHow was your week?")
    assert said(only)[1] == ("client", 'Long. My boss said: "stay late".\nNote: I did not.')
    assert [turn.start_seconds for turn in only.turns] == [2, 9, 20, 23]


def test_unknown_names_are_client_and_therapist_in_order(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("Ana: I am tired.\nBo (nods): Since when?\nAna: Since May.\nBo: What happened in May?\n")
    (only,) = conversations(tmp_path / "t.txt")
    assert [(t.role, t.speaker) for t in only.turns] == [
        ("client", "Ana"),
        ("therapist", "Bo"),
        ("client", "Ana"),
        ("therapist", "Bo"),
    ]


def test_prose_is_a_talk_of_one(tmp_path: Path) -> None:
    text = "Grief comes in waves. " * 20
    (tmp_path / "talk.txt").write_text(text)
    (only,) = conversations(tmp_path / "talk.txt")
    assert said(only) == [("narrator", text.strip())]


SRT = "1\n00:00:01,000 --> 00:00:03,000\nHost: Welcome to the show.\n\n2\n00:00:03,500 --> 00:00:05,000\nHow do we <i>sleep</i>?\n\n3\n00:00:06,000 --> 00:00:09,000\nGuest: With our eyes closed.\n"
VTT = "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Host>Welcome to the show.\n\n00:03.500 --> 00:05.000\nHow do we sleep?\n\n00:06.000 --> 00:09.000\n<v Guest>With our eyes closed.\n"


@pytest.mark.parametrize("text", [SRT, VTT], ids=["srt", "vtt"])
def test_subtitles(tmp_path: Path, text: str) -> None:
    (tmp_path / "talk").write_text(text)
    (only,) = conversations(tmp_path / "talk")
    assert said(only) == [("client", "Welcome to the show. How do we sleep?"), ("therapist", "With our eyes closed.")]
    assert [t.start_seconds for t in only.turns] == [1, 6]


def test_subtitles_without_speakers_are_a_monologue(tmp_path: Path) -> None:
    (tmp_path / "talk.srt").write_text(SRT.replace("Host: ", "").replace("Guest: ", ""))
    (only,) = conversations(tmp_path / "talk.srt")
    assert [t.role for t in only.turns] == ["narrator"]


def test_adjacent_turns_of_a_speaker_are_joined(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "One."},
        {"role": "user", "content": "Two."},
        {"role": "assistant", "content": "Three."},
    ]
    (tmp_path / "t.jsonl").write_text(json.dumps({"messages": messages}))
    assert said(conversations(tmp_path / "t.jsonl")[0]) == [("client", "One.\nTwo."), ("therapist", "Three.")]


def test_ids_are_of_content_and_place(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(SHAPES["openai"]) for _ in range(2)))
    first, second = conversations(tmp_path / "t.jsonl")
    again, _ = conversations(tmp_path / "t.jsonl")
    assert first == again
    assert first.conversation_id != second.conversation_id
    assert first.origin.record_sha256 == second.origin.record_sha256
