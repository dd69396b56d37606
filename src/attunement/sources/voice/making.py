"""From a transcript to checked dialogue: roles, profiles, emotions over time, pairs, their quality. Kept as one file a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attunement.config import VoiceSettings
from attunement.quality.panel import Judges
from attunement.records import EmotionalPattern, PersonalityProfile, Transcript, from_dict, to_dict
from attunement.sources.knowledge.linking import Linker
from attunement.sources.voice.checking import Checked, check
from attunement.sources.voice.dialogue import ANSWERS, construct, content_type_of
from attunement.sources.voice.emotions import emotional_patterns
from attunement.sources.voice.naturalness import Fluency
from attunement.sources.voice.personality import profiles_of
from attunement.sources.voice.roles import roles_of
from attunement.sources.voice.turns import turns_of
from attunement.storage.files import content_hash

VERSION = 1
"""Goes up when the same transcript would give other pairs."""


@dataclass(frozen=True)
class Made:
    """What a transcript gave. `transcript` has roles and content type; `left_out` counts turns that gave no pair, by reason."""

    transcript: Transcript
    content_type: str
    profiles: Mapping[str, PersonalityProfile]
    patterns: Mapping[str, Sequence[EmotionalPattern]]
    checked: Sequence[Checked]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Makers:
    """What pairs are made and judged with."""

    judges: Judges
    settings: VoiceSettings
    linker: Linker
    fluency: Fluency | None = None

    def key(self, transcript: Mapping[str, Any]) -> str:
        """Changes with everything that decides what is made of a transcript (as plain data)."""
        return content_hash([VERSION, transcript, self.judges.fingerprint(), self.settings.model_dump(mode="json")])

    def make(self, heard: Transcript) -> Made:
        """The dialogue of one recording."""
        transcript = with_roles(heard, self.judges)
        kind = content_type_of(transcript, self.judges)
        transcript = replace(transcript, metadata={**transcript.metadata, "content_type": kind})
        profiles = profiles_of(transcript.segments, self.judges)
        patterns = {
            name: emotional_patterns([s for s in transcript.segments if s.speaker == name], self.judges) for name in profiles
        }
        left_out: Counter[str] = Counter()
        by_id = {transcript.transcript_id: profiles}
        pairs = construct([transcript], by_id, judges=self.judges, linker=self.linker, left_out=left_out)
        checked = check(pairs, by_id, judges=self.judges, settings=self.settings, fluency=self.fluency)
        return Made(transcript, kind, profiles, patterns, checked, dict(left_out))


def with_roles(transcript: Transcript, judges: Judges) -> Transcript:
    """The transcript with what each speaker is. Names that subtitles give and that tell a role are taken at their word."""
    roles = roles_of(turns_of(transcript.segments), judges)
    segments = [replace(s, role=s.role or (roles[s.speaker].name if s.speaker in roles else "")) for s in transcript.segments]
    told = {speaker: {"role": role.name, "probability": round(role.probability, 4)} for speaker, role in roles.items()}
    return replace(transcript, segments=tuple(segments), metadata={**transcript.metadata, "speakers": told})


def main_speaker(transcript: Transcript) -> str:
    """Who answers: the therapist or guest; where there is none, who says most."""
    said: Counter[str] = Counter()
    for segment in transcript.segments:
        weight = len(segment.text.split()) * (1000 if segment.role in ANSWERS else 1)  # a role goes before any number of words
        said[segment.speaker] += weight
    return said.most_common(1)[0][0] if said else transcript.speaker


# --- on disk ------------------------------------------------------------------------------------------------------


def row_of(made: Made) -> dict[str, Any]:
    """`made` as plain data, without the transcript, which has a file of its own."""
    return {
        "content_type": made.content_type,
        "profiles": to_dict(made.profiles),
        "patterns": to_dict(made.patterns),
        "checked": to_dict(made.checked),
        "left_out": dict(made.left_out),
    }


def made_of(row: Mapping[str, Any], transcript: Transcript) -> Made:
    """What `row_of` gave, back."""
    return Made(
        transcript,
        row["content_type"],
        {name: from_dict(PersonalityProfile, profile) for name, profile in row["profiles"].items()},
        {name: [from_dict(EmotionalPattern, p) for p in patterns] for name, patterns in row["patterns"].items()},
        [from_dict(Checked, checked) for checked in row["checked"]],
        row["left_out"],
    )
