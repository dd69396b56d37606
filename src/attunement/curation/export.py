"""What trainers read: chat-message JSON lines (Hugging Face `datasets`) and Alpaca-style JSON (LitGPT's `--data JSON`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attunement.curation.balance import SPLITS
from attunement.curation.questions import Candidate
from attunement.records import QAPair
from attunement.storage.files import atomic_write, canonical

CHAT_ROLE = {"client": "user", "therapist": "assistant", "narrator": "assistant", "system": "system"}
LITGPT_FILES = {"train": "train.json", "validation": "val.json", "test": "test.json"}


def messages_of(context: Iterable[tuple[str, str]], question: str, answer: str) -> list[dict[str, str]]:
    """Chat messages that start with the user and alternate, as chat templates ask.

    Where the last turn of the context holds the question already (an extracted one), it is the user's message.
    """
    out: list[dict[str, str]] = []
    turns = [(CHAT_ROLE.get(role, "user"), text) for role, text in context]
    if not (turns and turns[-1][0] == "user" and holds(turns[-1][1], question)):
        turns.append(("user", question))
    for role, text in [*turns, ("assistant", answer)]:
        if not out and role == "assistant":
            continue
        if out and out[-1]["role"] == role:
            out[-1]["content"] += "\n" + text
        else:
            out.append({"role": role, "content": text})
    return out


def holds(text: str, question: str) -> bool:
    """Whether each line of words in `question` stands in `text`."""
    return "".join(question.split()) in "".join(text.split()) or all(
        "".join(part.split()) in "".join(text.split()) for part in question.split("? ")
    )


def example_row(pair: QAPair) -> dict[str, Any]:
    """One line of a split. All fields are strings, but for `messages` and `semantic_score`.

    The pair's `instruction` (its metadata), where it has one, is the system message before all others.
    """
    meta = pair.metadata
    roles = meta.get("context_roles") or _alternating(len(pair.context))
    instruction = [{"role": "system", "content": meta["instruction"]}] if meta.get("instruction") else []
    return {
        "id": meta.get("id", ""),
        "messages": instruction + messages_of(zip(roles, pair.context, strict=True), pair.question, pair.answer),
        "question": pair.question,
        "semantic_score": pair.semantic_score,
        "source_type": pair.source_type,
        **{
            name: str(meta.get(name, ""))
            for name in ("question_type", "share", "source", "conversation_id", "licence", "licence_class")
        },
    }


def _alternating(count: int) -> list[str]:
    """Roles for a context that came without them: the answer is the therapist's, so the turn before is the client's."""
    return [("client", "therapist")[(count - i) % 2] for i in range(count)]


def pair_of_row(row: Mapping[str, Any], split: str) -> QAPair:
    """The pair of one line of `split`; the inverse of `example_row`."""
    *before, asked, answer = row["messages"]
    instruction = {"instruction": before.pop(0)["content"]} if before and before[0]["role"] == "system" else {}
    if asked["content"] != row["question"]:
        before.append(asked)
    roles = ["therapist" if m["role"] == "assistant" else "client" for m in before]
    metadata = {k: row[k] for k in ("id", "question_type", "share", "source", "conversation_id", "licence", "licence_class")}
    return QAPair(
        row["question"],
        answer["content"],
        [m["content"] for m in before],
        row["source_type"],
        row["semantic_score"],
        {**metadata, **instruction, "context_roles": roles, "split": split},
    )


def pair_of_candidate(candidate: Candidate, source_type: str, score: float, metadata: Mapping[str, Any]) -> QAPair:
    return QAPair(
        candidate.question,
        candidate.answer,
        [text for _, text in candidate.context],
        source_type,
        score,
        {**metadata, "context_roles": [role for role, _ in candidate.context]},
    )


def alpaca_row(row: Mapping[str, Any]) -> dict[str, str]:
    """`instruction`, `input` and `output`: the user's message, the talk before it and the reply."""
    names = {"user": "Client", "assistant": "Therapist", "system": "Note"}
    *before, asked, answer = row["messages"]
    return {
        "instruction": asked["content"],
        "input": "\n".join(f"{names[m['role']]}: {m['content']}" for m in before),
        "output": answer["content"],
    }


class DatasetWriter:
    """Writes the splits as they come: `<split>.jsonl` and `litgpt/<train|val|test>.json`. Use as a context manager;

    files appear only when the block ends without an error.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.counts = dict.fromkeys(SPLITS, 0)

    def __enter__(self) -> DatasetWriter:
        self._chat = {s: self._stack.enter_context(atomic_write(self._folder / f"{s}.jsonl")) for s in SPLITS}
        self._alpaca = {s: self._stack.enter_context(atomic_write(self._folder / "litgpt" / LITGPT_FILES[s])) for s in SPLITS}
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            for split in SPLITS:
                self._alpaca[split].write("\n]\n" if self.counts[split] else "[]\n")
        self._stack.__exit__(*error)

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        self._chat[split].write(canonical(row) + "\n")
        self._alpaca[split].write(("[\n" if not self.counts[split] else ",\n") + json.dumps(alpaca_row(row), ensure_ascii=False))
        self.counts[split] += 1
