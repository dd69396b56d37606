"""Step 2, select: which conversations go on, and which belong together in one split.

Only numbers are held for all conversations (about 30 bytes each); the texts are read shard by shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attunement.config import DataSettings
from attunement.curation.dedup import Groups, Link, SignatureStore, drop_duplicates, links, text_key
from attunement.curation.reading import ReadShard, conversation_of, spoken_text
from attunement.records import REVIEW_MARK, REVIEW_REASONS, Conversation

EMPTY, LICENCE, DUPLICATE, WITHDRAWN = "empty_conversation", "licence_not_allowed", "near_duplicate", "withdrawn"
SAME_SPLIT_SIMILARITY = 0.5
"""From here on two conversations are kept in one split, even if both stay."""


@dataclass(frozen=True)
class Selection:
    """Outcomes by running number over all rows of all shards.

    `reason[i]` is set for a conversation that is left out; `duplicate_of[i]` names the link of a near-duplicate;
    `marked[i]` are the reasons for which a conversation came marked for clinical review; `groups` holds what may not be parted; `numbers[i]` is the conversation's id as a number (0 for a failure).
    """

    reason: dict[int, str]
    duplicate_of: dict[int, Link]
    groups: Groups
    numbers: NDArray[np.uint64]
    marked: dict[int, tuple[str, ...]] = field(default_factory=dict)


def id_number(conversation_id: str) -> int:
    """The 64 bits that a conversation's id is written from."""
    return int(conversation_id.split("-", 1)[1], 16)


def review_reasons(conversation: Conversation) -> tuple[str, ...]:
    """Why a conversation came marked for clinical review; empty where it is not. In doubt it is marked: only a plain no is none."""
    mark = str(conversation.metadata.get(REVIEW_MARK, "")).strip().casefold()
    if mark in ("", "false", "0", "no", "none"):
        return ()
    return tuple(dict.fromkeys([REVIEW_MARK, *str(conversation.metadata.get(REVIEW_REASONS, "")).split()]))


def select(shards: Sequence[ReadShard], settings: DataSettings) -> Selection:
    """Decides on every conversation: empty, licence, near-duplicate, or on it goes."""
    total = sum(shard.rows for shard in shards)
    eligible = np.zeros(total, dtype=bool)
    words, numbers = np.zeros(total, dtype=np.int32), np.zeros(total, dtype=np.uint64)
    groups, reason, group_first = Groups(total), dict[int, str](), dict[int, int]()
    marked: dict[int, tuple[str, ...]] = {}
    index = 0
    for shard in shards:
        allowed = not settings.licence_allow or shard.file.licence_class in settings.licence_allow
        for row in shard.load():
            if row["kind"] == "withdrawn":
                reason[index] = WITHDRAWN
                numbers[index] = id_number(row["conversation_id"])
            elif row["kind"] == "conversation":
                conversation = conversation_of(row)
                numbers[index] = id_number(conversation.conversation_id)
                if why := review_reasons(conversation):
                    marked[index] = why
                words[index] = len(spoken_text(conversation).split())
                if not words[index]:
                    reason[index] = EMPTY
                elif not allowed:
                    reason[index] = LICENCE
                else:
                    eligible[index] = True
                    if group := conversation.metadata.get("group"):
                        groups.join(index, group_first.setdefault(text_key(str(group)), index))
            index += 1
    store = SignatureStore([shard.signatures for shard in shards], [shard.rows for shard in shards])
    found = links(store, eligible, min(SAME_SPLIT_SIMILARITY, settings.near_duplicate_threshold))
    for link in found:
        groups.join(link.first, link.second)
    dropped = drop_duplicates(found, words, settings.near_duplicate_threshold)
    reason.update(dict.fromkeys(dropped, DUPLICATE))
    return Selection(reason, dropped, groups, numbers, marked)
