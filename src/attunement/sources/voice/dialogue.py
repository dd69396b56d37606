"""Dialogue pairs of recordings: what somebody asks or tells, and what the one who answers says.

    therapy, interview, podcast   (what the other says, the answer): a therapist answers a client, a guest a host; where roles are not
                                  known, the one who asks less answers
    monologue, speech, lecture    contextual questions on the parts of the talk, answered by the speaker's own passage (`knowledge`)

In therapy the direction is client to therapist and never the other way: nobody learns to speak as a client.
Left out, by reason: `speech_missing` (a stretch between was not understood), `long_pause`, `short_response`; a whole recording as
`nobody_answers` (only clients speak, or one who is none is not to be told).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import DialoguePair, PersonalityProfile, QAPair, SpokenSegment, Transcript
from attunement.sources.knowledge.linking import Linker
from attunement.sources.knowledge.segmentation import units
from attunement.sources.knowledge.transcripts import integrate_expert_transcripts
from attunement.sources.knowledge.written import written_concepts
from attunement.sources.voice.lexicon_counts import is_question
from attunement.sources.voice.style import style_distance
from attunement.sources.voice.turns import SpokenTurn, between, turns_of
from attunement.storage.files import content_hash

DIALOGUES = ("therapy", "interview", "podcast")
ANSWERS = {"therapist": "client", "guest": "host"}
"""Who answers, and whom."""
CONTEXT_TURNS = 6
LEAST_RESPONSE_WORDS = 3
LONG_PAUSE_SECONDS = 15.0
"""A response that begins later answers something else: the recording was cut, or something was shown."""
MISSING_SECONDS = 1.0
"""A stretch that was left out of the transcript and is shorter is taken for a listener's sound."""

Profiles = Mapping[str, Mapping[str, PersonalityProfile]]
"""By transcript and speaker."""


def construct(
    transcripts: Iterable[Transcript],
    profiles: Profiles | None = None,
    *,
    judges: Judges,
    linker: Linker | None = None,
    left_out: Counter[str] | None = None,
) -> list[DialoguePair]:
    """The pairs of `transcripts`, in their order. `left_out` counts what gave none, by reason.

    `metadata`: id, kind (question_answer, contextual), transcript, segments (indices), start_seconds, end_seconds, context and
    context_roles (turns before, oldest first), confidence (mean of the response's and the prompt's segments), least_confidence, speaker,
    prompt_role, response_role, source, licence, url, title, content_type; `style_distance` where the speaker's profile is given.
    """
    counted = Counter[str]() if left_out is None else left_out
    found: list[DialoguePair] = []
    for transcript in transcripts:
        turns, kind = turns_of(transcript.segments), content_type_of(transcript, judges)
        answering = _answering(turns) if kind in DIALOGUES else frozenset()
        if answering:
            pairs = [
                _answered(transcript, kind, turns, place)
                for place in range(1, len(turns))
                if turns[place].speaker in answering and turns[place - 1].speaker not in answering
                if _usable(transcript, turns, place, counted)
            ]
        elif not _teaches(transcript, kind):
            counted.update(["nobody_answers"])
            pairs = []
        else:
            linker = linker or Linker(written_concepts(), judges.embedder)
            pairs = _contextual(transcript, kind, linker, judges)
        found += [_styled(pair, (profiles or {}).get(transcript.transcript_id, {})) for pair in pairs]
    return found


def content_type_of(transcript: Transcript, judges: Judges) -> str:
    """What the transcript says it is; a therapist and a client make it therapy; otherwise the judge of content types decides."""
    if told := str(transcript.metadata.get("content_type", "")):
        return told
    roles = {segment.role for segment in transcript.segments}
    if {"therapist", "client"} <= roles:
        return "therapy"
    speakers = {segment.speaker for segment in transcript.segments}
    turns = tuple((turn.speaker, turn.text) for turn in turns_of(transcript.segments)) or ((transcript.speaker, transcript.text),)
    label = judges.judge("content_type", [Item(turns=turns)])[0].label
    return "monologue" if len(speakers) < 2 and label in DIALOGUES else label


def _teaches(transcript: Transcript, kind: str) -> bool:
    """Whether somebody tells something that is no client: a dialogue in which nobody answers is no lecture either."""
    roles = {segment.speaker: segment.role for segment in transcript.segments}
    return not (kind in DIALOGUES and len(roles) > 1) and (not roles or any(role != "client" for role in roles.values()))


def _answering(turns: Sequence[SpokenTurn]) -> frozenset[str]:
    """The speakers who answer; nobody where only one speaks."""
    roles = {turn.speaker: turn.role for turn in turns}
    if len(roles) < 2:
        return frozenset()
    for answers, asks in ANSWERS.items():
        if answers in roles.values() and (
            asks in roles.values() or not any(role in ANSWERS for role in roles.values() if role != answers)
        ):
            return frozenset(speaker for speaker, role in roles.items() if role == answers)
    if "client" in roles.values():  # without a therapist there is nobody to learn from
        return frozenset(speaker for speaker, role in roles.items() if role not in ("client", ""))
    asked = {speaker: _asking(turns, speaker) for speaker in roles}
    most = max(asked, key=lambda speaker: asked[speaker])
    return frozenset(roles.keys() - {most})


def _asking(turns: Sequence[SpokenTurn], speaker: str) -> float:
    """The share of a speaker's sentences that ask."""
    sentences = [sentence for turn in turns if turn.speaker == speaker for sentence in units(turn.text)]
    return sum(map(is_question, sentences)) / max(1, len(sentences))


def _usable(transcript: Transcript, turns: Sequence[SpokenTurn], place: int, left_out: Counter[str]) -> bool:
    prompt, response = turns[place - 1], turns[place]
    missing = between(prompt.start_seconds, response.end_seconds, transcript.metadata.get("rejected", ()), MISSING_SECONDS)
    reason = (
        "speech_missing" if missing
        else "long_pause" if response.start_seconds - prompt.end_seconds > LONG_PAUSE_SECONDS
        else "short_response" if len(response.text.split()) < LEAST_RESPONSE_WORDS
        else ""
    )  # fmt: skip
    left_out.update([reason] if reason else [])
    return not reason


def _answered(transcript: Transcript, kind: str, turns: Sequence[SpokenTurn], place: int) -> DialoguePair:
    prompt, response = turns[place - 1], turns[place]
    before = turns[max(0, place - 1 - CONTEXT_TURNS) : place - 1]
    more = {
        "kind": "question_answer",
        "segments": [*prompt.places, *response.places],
        "start_seconds": prompt.start_seconds,
        "end_seconds": response.end_seconds,
        "context": [turn.text for turn in before],
        "context_roles": [turn.role for turn in before],
        "confidence": round(float(np.mean([*prompt.confidences, *response.confidences])), 4),
        "least_confidence": min(*prompt.confidences, *response.confidences),
        "prompt_role": prompt.role,
        "response_role": response.role,
        "backchannels": prompt.backchannels + response.backchannels,
    }
    return _pair(transcript, kind, prompt.text, response.text, response.speaker, more)


def _contextual(transcript: Transcript, kind: str, linker: Linker, judges: Judges) -> list[DialoguePair]:
    """Of the speaker who says most, where several do; of the text alone where there are no segments."""
    said = Counter[str]()
    for segment in transcript.segments:
        said[segment.speaker] += len(segment.text.split()) if segment.role != "client" else 0
    speaker = said.most_common(1)[0][0] if said else transcript.speaker
    chosen = [(n, segment) for n, segment in enumerate(transcript.segments) if segment.speaker == speaker]
    text = " ".join(segment.text for _, segment in chosen) if chosen else transcript.text
    role = next((segment.role for _, segment in chosen if segment.role), "lecturer")
    talk = replace(transcript, text=text, speaker=speaker)
    found = integrate_expert_transcripts([talk], linker, judges.embedder, judges=judges)
    ends = list(itertools.accumulate(len(sentence.split()) for sentence in units(text)))
    more = {"kind": "contextual", "context": [], "context_roles": [], "prompt_role": "", "response_role": role}
    return [
        _pair(transcript, kind, pair.question, pair.answer, speaker, {**more, **_passage(pair, ends, chosen)}) for pair in found
    ]


def _passage(pair: QAPair, ends: Sequence[int], chosen: Sequence[tuple[int, SpokenSegment]]) -> dict[str, Any]:
    """Which segments an answer spans: sentences and segments hold the same words in the same order."""
    first, last = pair.metadata["sentences"]
    start, end = (ends[first - 1] if first else 0), ends[last]
    kept, at = [], 0
    for place, segment in chosen:
        words = len(segment.text.split())
        if at < end and at + words > start:
            kept.append((place, segment))
        at += words
    about = {"about": pair.metadata["about"], "coherence": pair.semantic_score}
    if not kept:
        return {**about, "segments": [], "confidence": 1.0, "least_confidence": 1.0}
    return {
        **about,
        "segments": [place for place, _ in kept],
        "start_seconds": kept[0][1].start_seconds,
        "end_seconds": kept[-1][1].end_seconds,
        "confidence": round(float(np.mean([segment.confidence for _, segment in kept])), 4),
        "least_confidence": min(segment.confidence for _, segment in kept),
    }


def _pair(transcript: Transcript, kind: str, prompt: str, response: str, speaker: str, more: Mapping[str, Any]) -> DialoguePair:
    metadata = {
        "id": "p-" + content_hash([transcript.transcript_id, prompt, response, more.get("start_seconds")])[:16],
        "transcript": transcript.transcript_id,
        "speaker": speaker,
        "source": transcript.source,
        "licence": transcript.licence,
        "url": str(transcript.metadata.get("url", "")),
        "title": transcript.title,
        "content_type": kind,
        **more,
    }
    return DialoguePair(prompt, response, speaker, metadata)


def _styled(pair: DialoguePair, profiles: Mapping[str, PersonalityProfile]) -> DialoguePair:
    profile = profiles.get(pair.speaker)
    if profile is None or not profile.style:
        return pair
    return replace(pair, metadata={**pair.metadata, "style_distance": round(style_distance(pair.response, profile), 4)})
