"""Step 6, assemble: joins what the steps decided and writes the dataset, what was left out, and why.

train.jsonl validation.jsonl test.jsonl   chat messages, one example a line
litgpt/                                   the same as Alpaca-style JSON
review/held.jsonl                         pairs of high risk, for `attune review`
rejected.jsonl                            every conversation and pair that was left out, every file that failed
provenance.jsonl                          one line a conversation: where it came from and what became of it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attunement.config import DataSettings
from attunement.curation.balance import SPLITS, over_share, split_by_share, split_of_groups
from attunement.curation.export import DatasetWriter, example_row, pair_of_candidate
from attunement.curation.pairing import NOT_TO_LEARN, PERSONAL_DATA, PairShard, candidate_of
from attunement.curation.reading import conversation_of
from attunement.curation.report import Tally
from attunement.curation.review import REJECTED, Decision, Held, HeldWriter, content_key
from attunement.curation.scoring import Judged
from attunement.curation.selection import DUPLICATE, WITHDRAWN, Selection
from attunement.records import SHARES, Conversation, to_dict
from attunement.storage.files import atomic_write, canonical

INCOHERENT, DUPLICATE_PAIR, OVER_SHARE = "incoherent", "duplicate_pair", "over_share"
HELD, REJECTED_IN_REVIEW, UNREVIEWED = "held_for_review", "rejected_in_review", "released_unreviewed"
NO_PAIRS, NO_PAIR_KEPT = "no_pairs", "no_pair_kept"
MADE = ("generated_by", "provider", "concept_ids")
MADE_OF = (
    "scenario_id",
    "category",
    "profile",
    "beats",
    "prompt_sha256",
    "model",
    "scenario",
    "client",
    "personas",
    "course",
    "form",
)
"""Metadata of conversations that somebody or something wrote for training: one of the first, and what they were made from."""
STEP_OF_REASON = {
    "empty_conversation": "select",
    "licence_not_allowed": "select",
    DUPLICATE: "select",
    WITHDRAWN: "select",
    NO_PAIRS: "pair",
    NOT_TO_LEARN: "pair",
    PERSONAL_DATA: "pair",
    "question_too_short": "pair",
    "answer_too_short": "pair",
    "answer_too_long": "pair",
    "answer_repeats_question": "pair",
    DUPLICATE_PAIR: "pair",
    INCOHERENT: "judge",
    HELD: "review",
    REJECTED_IN_REVIEW: "review",
    OVER_SHARE: "balance",
    NO_PAIR_KEPT: "balance",
}


@dataclass(frozen=True)
class Steps:
    """What the steps before gave. `row_starts[i]` and `pair_starts[i]` are running numbers of shard i's first rows."""

    shards: Sequence[PairShard]
    row_starts: Sequence[int]
    pair_starts: Sequence[int]
    selection: Selection
    duplicates: Mapping[int, str]
    judged: Sequence[Mapping[int, Judged]]
    min_coherence: float
    decisions: Mapping[str, Decision]


@dataclass(frozen=True)
class _Outcome:
    """Of a pair so far; `held` where it is or was a matter of clinical review, with what was `decided`.

    `released` came marked for review and goes out before anybody decided (`data.release_unreviewed`).
    """

    pair: Mapping[str, Any]
    judged: Judged | None
    reason: str | None
    duplicate_of: str | None
    held: Held | None = None
    decided: Decision | None = None
    released: bool = False

    @property
    def score(self) -> float | None:
        return None if self.judged is None else self.judged["coherence"]


def assemble(steps: Steps, settings: DataSettings, out: Path) -> Tally:
    """Writes the dataset to `out` and returns the counts. Nothing is dropped silently: each row has an outcome."""
    tally = Tally()
    balanced, split = _balance(steps, settings, tally)
    with (
        DatasetWriter(out) as writer,
        atomic_write(out / "rejected.jsonl") as rejected,
        atomic_write(out / "provenance.jsonl") as provenance,
        HeldWriter(out) as held,
    ):
        for place, shard in enumerate(steps.shards):
            pairs: dict[int, list[_Outcome]] = {}
            for outcome in _judge(steps, place, balanced, settings):
                pairs.setdefault(outcome.pair["row"], []).append(outcome)
                if outcome.held is not None:
                    held.add(outcome.held)
            for row_number, row in enumerate(shard.read.load()):
                number = steps.row_starts[place] + row_number
                tally.row(shard.read.file, row["kind"])
                if row["kind"] == "failure":
                    tally.fail(shard.read.file, row)
                    rejected.write(
                        canonical(
                            {**row, "kind": "file", "source": shard.read.file.source, "step": "read", "reason": "unreadable"}
                        )
                        + "\n"
                    )
                    continue
                story = _Story(steps, number, row, shard, split.get(number))
                story.tell(pairs.get(row_number, []), writer, tally)
                for line in story.rejected:
                    rejected.write(canonical(line) + "\n")
                provenance.write(canonical(story.provenance) + "\n")
    tally.splits.update(writer.counts)
    return tally


def _judge(
    steps: Steps, place: int, balanced: np.ndarray[Any, np.dtype[np.bool_]] | None, settings: DataSettings
) -> Iterator[_Outcome]:
    """Every pair of a shard with its outcome so far; `balanced` marks the pairs that are over their share."""
    shard = steps.shards[place]
    for i, row in enumerate(shard.load()):
        number = steps.pair_starts[place] + i
        judged, reason, other = steps.judged[place].get(i), row["fault"], None
        held, decided, released = None, None, False
        if reason is None and number in steps.duplicates:
            reason, other = DUPLICATE_PAIR, steps.duplicates[number]
        if reason is None and judged is not None and judged["coherence"] < steps.min_coherence:
            reason = INCOHERENT
        marked = steps.selection.marked.get(steps.row_starts[place] + row["row"], ())
        found = judged["holds"] if judged is not None and settings.review != "off" else []
        if reason is None and judged is not None and (found or marked):
            held = _held(row, judged, shard.read.file.source, [*marked, *found])
            decided = steps.decisions.get(held.hash)
            if decided is None:
                waits = (found and settings.review == "hold") or (marked and not settings.release_unreviewed)
                reason = HELD if waits else None
                released = bool(marked) and not waits
            elif decided.decision == REJECTED:
                reason = REJECTED_IN_REVIEW
        if reason is None and balanced is not None and balanced[number]:
            reason = OVER_SHARE
        yield _Outcome(row, judged, reason, other, held, decided, released)


def _held(row: Mapping[str, Any], judged: Judged, source: str, reasons: Sequence[str]) -> Held:
    pair = candidate_of(row)
    context = [text for _, text in pair.context]
    scores = {name: judged[name] for name in ("crisis", "danger", "unsafe", "bias", "coherence")}
    key = content_key(context, pair.question, pair.answer)
    told = list(dict.fromkeys(reasons))
    return Held(key, pair.pair_id, source, context, pair.question, pair.answer, told, scores, pair.conversation_id)


def available(steps: Steps, settings: DataSettings) -> Counter[str]:
    """How many examples there are of each share, before the balance leaves any out."""
    found: Counter[str] = Counter()
    for place, shard in enumerate(steps.shards):
        found[shard.read.file.share] += sum(1 for outcome in _judge(steps, place, None, settings) if outcome.reason is None)
    return found


def _balance(
    steps: Steps, settings: DataSettings, tally: Tally
) -> tuple[np.ndarray[Any, np.dtype[np.bool_]] | None, dict[int, str]]:
    """Which pairs are over their share, and the split of each conversation (by running number) of which a pair is left."""
    total = steps.pair_starts[-1] + steps.shards[-1].rows if steps.shards else 0
    shares, keys = np.full(total, -1, dtype=np.int8), np.zeros(total, dtype=np.uint64)
    members = np.full(total, -1, dtype=np.int64)
    examples: dict[int, dict[int, int]] = {}
    for place, shard in enumerate(steps.shards):
        share = SHARES.index(shard.read.file.share)
        for i, outcome in enumerate(_judge(steps, place, None, settings)):
            tally.waiting[SHARES[share]] += outcome.reason == HELD
            if outcome.reason is None:
                number, member = steps.pair_starts[place] + i, steps.row_starts[place] + outcome.pair["row"]
                shares[number], members[number] = share, member
                keys[number] = int(outcome.pair["pair"]["pair_id"][2:], 16) ^ settings.seed
                examples.setdefault(member, {})[share] = examples.get(member, {}).get(share, 0) + 1
                tally.available[SHARES[share]] += 1
    groups, numbers = steps.selection.groups, steps.selection.numbers
    if settings.balance == "report":
        return None, split_of_groups(groups, numbers, sorted(examples), settings)
    split = split_by_share(groups, numbers, examples, settings)
    splits = np.asarray([SPLITS.index(split[member]) if member >= 0 else -1 for member in members.tolist()], dtype=np.int8)
    over = over_share(shares, keys, splits, settings.target_balance)
    return over, {member: split[member] for member in np.unique(members[(members >= 0) & ~over]).tolist()}


class _Story:
    """What became of one conversation: its provenance line and its lines in `rejected.jsonl`."""

    def __init__(self, steps: Steps, number: int, row: Mapping[str, Any], shard: PairShard, split: str | None) -> None:
        self._steps, self._number, self._shard, self._split = steps, number, shard, split
        self.conversation: Conversation | None = conversation_of(dict(row)) if row["kind"] == "conversation" else None
        self.conversation_id: str = self.conversation.conversation_id if self.conversation else row["conversation_id"]
        self.reason = steps.selection.reason.get(number)
        self.rejected: list[dict[str, Any]] = []
        self.provenance: dict[str, Any] = {}

    def tell(self, pairs: Sequence[_Outcome], writer: DatasetWriter, tally: Tally) -> None:
        kept = sum(1 for outcome in pairs if outcome.reason is None)
        if self.reason is None and not kept:
            self.reason = NO_PAIR_KEPT if pairs else NO_PAIRS
        told = [self._pair(outcome, writer, tally) for outcome in pairs]
        file = self._shard.read.file
        tally.conversation(file, self.reason)
        personal: Mapping[str, int] = pairs[0].pair["phi"] if pairs else {}
        if personal and self.reason is None:
            tally.personal_data(personal)
        origin = (
            to_dict(self.conversation.origin)
            if self.conversation
            else {"source": file.source, "file": file.name, "file_sha256": file.sha256}
        )
        duplicate = self._steps.selection.duplicate_of.get(self._number)
        link = (
            {}
            if duplicate is None
            else {"duplicate_of": self._id(duplicate.second), "similarity": round(duplicate.similarity, 3)}
        )
        self.provenance = {
            "conversation_id": self.conversation_id,
            "origin": origin,
            "share": file.share,
            **self._made_of(),
            **({"personal_data": personal} if personal else {}),
            "read_shard_sha256": self._shard.read.sha256,
            "group": self._id(self._steps.selection.groups.find(self._number)),
            "split": self._split,
            "pairs": told,
            "outcome": "kept" if self.reason is None else "rejected",
            **self._reason_fields(self.reason),
            **link,
        }
        if self.reason is not None:
            self.rejected.append(
                {
                    "kind": "conversation",
                    "id": self.conversation_id,
                    "source": file.source,
                    "file": file.name,
                    "locator": origin.get("locator", ""),
                    **self._reason_fields(self.reason),
                    **link,
                }
            )

    def _instruction(self) -> str:
        """The system message of a source that says it belongs to the examples (`instruction` in its `source.toml`), so that a model does
        not speak to clients as to a trainee. Those of other sources are their own models' prompts."""
        first = self.conversation.turns[0] if self.conversation else None
        wanted = self._shard.read.file.recipe.instruction
        return first.text if wanted and first and first.role == "system" else ""

    def _made_of(self) -> dict[str, Any]:
        """Of a conversation that was made: by whom, and from which beats, course or concepts."""
        told = self.conversation.metadata if self.conversation else {}
        if not any(name in told for name in MADE):
            return {}
        return {"made_of": {name: told[name] for name in (*MADE, *MADE_OF) if name in told}}

    def _pair(self, outcome: _Outcome, writer: DatasetWriter, tally: Tally) -> dict[str, Any]:
        assert self.conversation is not None
        candidate = candidate_of(outcome.pair)
        origin, share = self.conversation.origin, self._shard.read.file.share
        tally.pair(self._shard.read.file, outcome.reason, outcome.judged, candidate, outcome.pair["source_type"], self._split)
        if outcome.held is not None and outcome.reason in (None, HELD):
            tally.held.update(outcome.held.reasons)
        told: dict[str, Any] = {
            "id": candidate.pair_id,
            "turn": candidate.turn,
            "question_type": candidate.question_type,
            "score": outcome.score,
        }
        if outcome.reason is None:
            assert self._split is not None and outcome.score is not None
            meta = {
                "id": candidate.pair_id,
                "question_type": candidate.question_type,
                "share": share,
                "source": origin.source,
                "conversation_id": self.conversation_id,
                "licence": origin.licence,
                "licence_class": origin.licence_class,
                "instruction": self._instruction(),
            }
            if outcome.decided is not None:
                told["review"] = {name: getattr(outcome.decided, name) for name in ("decision", "who", "when")}
                if outcome.decided.answer is not None:
                    candidate = replace(candidate, answer=outcome.decided.answer)
            if outcome.released:
                told["review"] = {"decision": UNREVIEWED}
                tally.unreviewed += 1
            row = example_row(pair_of_candidate(candidate, outcome.pair["source_type"], outcome.score, meta))
            writer.add(self._split, row)
            tally.share_tokens(share, candidate.answer)
            return {**told, "outcome": "kept", "split": self._split}
        fields = self._reason_fields(outcome.reason)
        if outcome.duplicate_of is not None:
            fields["duplicate_of"] = outcome.duplicate_of
        self.rejected.append(
            {
                "kind": "pair",
                "id": candidate.pair_id,
                "conversation_id": self.conversation_id,
                "source": origin.source,
                "file": origin.file,
                "locator": origin.locator,
                "score": outcome.score,
                **({"fit": outcome.judged["fit"]} if outcome.reason == INCOHERENT and outcome.judged else {}),
                **fields,
                "question": candidate.question,
                "answer": candidate.answer,
            }
        )
        return {**told, "outcome": "rejected", **fields}

    @staticmethod
    def _reason_fields(reason: str | None) -> dict[str, Any]:
        return {} if reason is None else {"step": STEP_OF_REASON[reason], "reason": reason}

    def _id(self, number: int) -> str:
        return f"c-{int(self._steps.selection.numbers[number]):016x}"
