"""Step 3, pair: question-answer pairs of each shard, and the pairs that say the same as another one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attunement.config import DataSettings
from attunement.curation.dedup import SignatureStore, drop_duplicates, links, signature, text_key
from attunement.curation.privacy import Privacy
from attunement.curation.questions import Candidate, first_fault, make_pairs
from attunement.curation.reading import ReadShard, conversation_of
from attunement.curation.selection import Selection
from attunement.curation.shards import Workspace, key_of, save_array
from attunement.quality.content_type import content_type
from attunement.records import Conversation, from_dict, to_dict
from attunement.storage.files import file_hash, read_json, read_jsonl, write_json, write_jsonl

PAIR_VERSION = 4
NOT_TO_LEARN = "not_to_learn"
"""The answer is marked as one that no model may learn to give; it stays in the context of what follows."""
PERSONAL_DATA = "personal_data"
"""The conversation holds personal data, and `data.phi` is `block`."""
LONG_QUESTION_WORDS = 8
"""Two conversations that ask the same thing in at least so many words stay in one split; shorter ones are small talk."""


@dataclass(frozen=True)
class PairShard:
    """Pairs of one read shard. Row i has `{"row", "source_type", "fault", "answer_words", "question_key", "pair", "phi"}`;

    `phi` is how many identifiers of each type the conversation held.
    """

    read: ReadShard
    path: Path
    sha256: str
    rows: int

    @property
    def signatures(self) -> Path:
        return self.path.with_suffix(".npy")

    def load(self) -> Iterator[dict[str, Any]]:
        return read_jsonl(self.path)


def candidate_of(row: Mapping[str, Any]) -> Candidate:
    data = dict(row["pair"])
    data["context"] = tuple((role, text) for role, text in data["context"])
    return from_dict(Candidate, data)


def pair_shard(shard: ReadShard, left_out: set[int], settings: DataSettings, workspace: Workspace, privacy: Privacy) -> PairShard:
    """Makes the pairs of the conversations of `shard` that are not `left_out` (row numbers in the shard), their personal data treated."""
    relevant = settings.model_dump(
        include={
            "max_context_turns",
            "min_question_words",
            "min_answer_words",
            "max_answer_words",
            "contextual_share",
            "minhash_permutations",
        }
    )
    key = key_of("pairs", PAIR_VERSION, shard.sha256, sorted(left_out), relevant, privacy.key)
    path, done = workspace.path("pairs", key, ".jsonl"), workspace.path("pairs", key, ".json")
    workspace.path("pairs", key, ".npy")
    if not done.exists():
        kept = {
            i: conversation_of(row) for i, row in enumerate(shard.load()) if row["kind"] == "conversation" and i not in left_out
        }
        treated, personal = privacy.treat(kept)
        rows = list(_rows(treated, personal if privacy.mode == "block" else {}, settings))
        for row in rows:
            row["phi"] = personal.get(row["row"], {})
        save_array(path.with_suffix(".npy"), _signatures(rows, settings.minhash_permutations))
        write_jsonl(path, rows)
        write_json(done, {"rows": len(rows), "sha256": file_hash(path)})
    figures = read_json(done)
    return PairShard(shard, path, figures["sha256"], figures["rows"])


def blocked_personal_data(shards: Sequence[PairShard]) -> tuple[int, Counter[str]]:
    """How many conversations are left out because they hold personal data, and how many identifiers of each type they hold."""
    conversations, found = 0, Counter[str]()
    for shard in shards:
        by_row = {row["row"]: row["phi"] for row in shard.load() if row["fault"] == PERSONAL_DATA}
        conversations += len(by_row)
        for counts in by_row.values():
            found.update(counts)
    return conversations, found


def _rows(kept: dict[int, Conversation], blocked: Mapping[int, Any], settings: DataSettings) -> Iterator[dict[str, Any]]:
    row_of = {c.conversation_id: i for i, c in kept.items()}
    types = {c.conversation_id: c.source_type or content_type(c.turns) for c in kept.values()}
    for candidate in make_pairs(list(kept.values()), settings):
        row = row_of[candidate.conversation_id]
        fault = first_fault(candidate, settings) if kept[row].turns[candidate.turn].learn else NOT_TO_LEARN
        yield {
            "row": row,
            "source_type": types[candidate.conversation_id],
            "fault": PERSONAL_DATA if row in blocked else fault,
            "answer_words": len(candidate.answer.split()),
            "question_key": text_key(candidate.question),
            "question_words": len(candidate.question.split()),
            "pair": to_dict(candidate),
        }


def _signatures(rows: list[dict[str, Any]], permutations: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    out = np.zeros((len(rows), permutations), dtype=np.uint32)
    for i, row in enumerate(rows):
        if row["fault"] is None:
            out[i] = signature(f"{row['pair']['question']}\n{row['pair']['answer']}", permutations)
    return out


def duplicate_pairs(
    shards: Sequence[PairShard], row_starts: Sequence[int], selection: Selection, settings: DataSettings
) -> dict[int, str]:
    """Pairs to leave out because another one says the same: running number -> the id of the one that stays.

    Also joins, in `selection.groups`, the conversations that ask the same long question.
    `row_starts[i]` is the running number of the first conversation of `shards[i].read`.
    """
    total = sum(shard.rows for shard in shards)
    eligible, words = np.zeros(total, dtype=bool), np.zeros(total, dtype=np.int32)
    question, conversation = np.zeros(total, dtype=np.uint64), np.zeros(total, dtype=np.int64)
    ids = np.zeros(total, dtype=np.uint64)
    index = 0
    for shard, start in zip(shards, row_starts, strict=True):
        for row in shard.load():
            eligible[index] = row["fault"] is None
            words[index] = row["answer_words"]
            question[index] = row["question_key"] if row["question_words"] >= LONG_QUESTION_WORDS else 0
            conversation[index] = start + row["row"]
            ids[index] = int(row["pair"]["pair_id"][2:], 16)
            index += 1
    order = np.argsort(question, kind="stable")
    for before, after in itertools.pairwise(order):
        if question[before] and question[before] == question[after]:
            selection.groups.join(int(conversation[before]), int(conversation[after]))
    store = SignatureStore([shard.signatures for shard in shards], [shard.rows for shard in shards])
    found = links(store, eligible, settings.near_duplicate_threshold)
    for link in found:  # a talk that stands in a longer one shares its pairs: both stay in one split
        if min(words[link.first], words[link.second]) >= LONG_QUESTION_WORDS:
            selection.groups.join(int(conversation[link.first]), int(conversation[link.second]))
    dropped = drop_duplicates(found, words, settings.near_duplicate_threshold)
    return {number: f"x-{int(ids[link.second]):016x}" for number, link in dropped.items()}
