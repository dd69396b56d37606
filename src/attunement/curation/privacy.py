"""Personal data in what is curated: found in every conversation before pairs are made, and treated as `data.phi` says.

    redact         typed placeholders in each place ([NAME], [DATE]); the default
    pseudonymise   made-up ones, the same for the same within a conversation; by a secret in the home, so the same there each time
    block          conversations with any are left out; rejected.jsonl has them redacted
    report         they stay, are counted, and the card says so

What follows (judges, review, rejected lines) sees the treated text alone. Conversations that were generated are passed over: nobody
said them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from attunement.config import DataSettings
from attunement.records import Conversation
from attunement.security.phi.detector import PHIDetector
from attunement.security.phi.identifiers import PHISpan
from attunement.security.private_files import read_private, write_private
from attunement.storage.files import content_hash, exclusive, file_hash

PSEUDONYMS = "pseudonyms.key"
"""File in the home with the secret of pseudonyms: without it nobody can tell who stands for whom."""
GENERATED = ("generated_by", "concept_ids")
"""Metadata of conversations that nobody had (`attunement.curation.assembly.MADE`)."""
VERSION = 1
"""Counted up when the same weights would treat a text in another way."""


class Privacy:
    """Treats conversations by the settings. Loads the finder at the first use; for one thread."""

    def __init__(self, settings: DataSettings, home: Path) -> None:
        self.mode, self._home = settings.phi, home
        self._detector: PHIDetector | None = None
        self._secret = _secret(home) if self.mode == "pseudonymise" else b""
        weights = resources.files("attunement.security.phi")
        parts = [file_hash(Path(str(weights.joinpath(name)))) for name in ("weights.npz", "lists.npz")]
        self.key = content_hash([VERSION, self.mode, self._secret.hex(), parts])
        """What the result of `treat` depends on beside the conversations."""

    def treat(self, conversations: Mapping[int, Conversation]) -> tuple[dict[int, Conversation], dict[int, dict[str, int]]]:
        """The conversations as they may go on, and how many identifiers of each type were found in those that had any."""
        said = {i: c for i, c in conversations.items() if not any(c.metadata.get(name) for name in GENERATED)}
        detector = self._detector = self._detector or PHIDetector()
        talks = detector.detect_talks([[turn.text for turn in c.turns] for c in said.values()])
        treated, found = dict(conversations), dict[int, dict[str, int]]()
        for (i, conversation), spans in zip(said.items(), talks, strict=True):
            told = [detector.told(of_turn) for of_turn in spans]
            if counts := Counter(span.type for of_turn in told for span in of_turn):
                found[i] = dict(sorted(counts.items()))
                treated[i] = self._treated(detector, conversation, told)
        return treated, found

    def _treated(self, detector: PHIDetector, conversation: Conversation, spans: list[list[PHISpan]]) -> Conversation:
        texts = [turn.text for turn in conversation.turns]
        if self.mode in ("redact", "block"):  # of what is left out the folder keeps lines, too
            texts = [_redacted(text, of_turn) for text, of_turn in zip(texts, spans, strict=True)]
        elif self.mode == "pseudonymise":
            texts = detector.pseudonymise(texts, secret=self._secret, conversation_id=conversation.conversation_id)
        turns = [replace(turn, text=text) for turn, text in zip(conversation.turns, texts, strict=True)]
        return replace(conversation, turns=turns)


def _redacted(text: str, spans: list[PHISpan]) -> str:
    for span in reversed(spans):
        text = f"{text[: span.start]}[{span.type}]{text[span.end :]}"
    return text


def _secret(home: Path) -> bytes:
    path = home.expanduser() / PSEUDONYMS
    if not path.exists():
        with exclusive(path.with_name(f".{PSEUDONYMS}.lock"), "another build is making the secret of pseudonyms: try again"):
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(path, os.urandom(32).hex().encode() + b"\n")
    return bytes.fromhex(read_private(path, "the secret of pseudonyms").decode().strip())
