"""Quality of dialogue pairs from recordings: each measured, the bad ones rejected with their reasons, the rest made into examples.

    low_transcription_quality  word error rate against `metadata["reference"]`, else the calibrated confidence of the segments
    unnatural                  `naturalness`: perplexity band, disfluency, completeness
    not_like_speaker           the response's style lies farther from the speaker's profile than nearly all real responses of its length
                               lie from theirs (percentile; a wrong speaker label, or somebody read out)
    emotion_does_not_fit       delight answers distress
    incoherent                 the judge of coherence finds that it does not answer the prompt
    unsafe:KIND, rule:CODE     what no model may learn to say: the judge of unsafe replies, the rules of appropriateness

A pair with danger in it is kept and marked `clinical_review_required`: a clinician sees it before any model learns from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.config import VoiceSettings
from attunement.errors import MissingExtraError
from attunement.quality.appropriateness import blocked_by_rules, unsafe_after
from attunement.quality.crisis import assess_turns
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import (
    REVIEW_MARK,
    REVIEW_REASONS,
    DialoguePair,
    EmotionalPattern,
    PersonalityProfile,
    QualityMetrics,
    QualityReport,
    VoiceDataExample,
)
from attunement.sources.voice.dialogue import Profiles
from attunement.sources.voice.emotions import clash, emotional_fit, emotional_likeness, shares_of
from attunement.sources.voice.lexicon_counts import FOLDER, words_of
from attunement.sources.voice.naturalness import Fluency, Naturalness, length_class, naturalness
from attunement.sources.voice.style import style_distance

LEAST_PROFILE_WORDS, LEAST_STYLE_WORDS = 200, 8
"""Below these a speaker's style, or a response's, says nothing, and consistency is not judged."""
MOST_CLASH = 0.3
"""From this probability that delight answers distress a pair is rejected. The rest of emotional coherence is a figure only: how emotions
follow each other tells a real response from another conversation's hardly better than chance (AUC 0.55)."""
Patterns = Mapping[str, Mapping[str, Sequence[EmotionalPattern]]]
"""By transcript and speaker."""


@dataclass(frozen=True)
class Checked:
    """A pair with its scores (0-1) and why it is rejected (codes, empty where it is kept).

    `consistency` is None where speaker or response say too little to judge it. `pair.metadata` has the review mark where it is needed.
    """

    pair: DialoguePair
    transcription: float
    naturalness: Naturalness
    consistency: float | None
    emotional: float
    coherence: float
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return not self.reasons


def validate(
    pairs: Sequence[DialoguePair],
    profiles: Profiles | None = None,
    *,
    judges: Judges,
    settings: VoiceSettings | None = None,
    fluency: Fluency | None = None,
) -> QualityReport:
    """The report on `check`'s findings."""
    return report_of(check(pairs, profiles, judges=judges, settings=settings, fluency=fluency))


def check(
    pairs: Sequence[DialoguePair],
    profiles: Profiles | None = None,
    *,
    judges: Judges,
    settings: VoiceSettings | None = None,
    fluency: Fluency | None = None,
) -> list[Checked]:
    """Each pair with its scores and reasons, in order. Without `fluency` naturalness does without perplexity.

    Raises `MissingExtraError` where a reference is given and jiwer is not installed.
    """
    if not pairs:
        return []
    settings = settings or VoiceSettings()
    emotional, clashes = _emotional(pairs, judges)
    coherence = judges.judge("coherence", [Item(pair.response, (*_context(pair), pair.prompt)) for pair in pairs])
    unsafe = _unsafe(pairs, judges)
    danger = _danger(pairs, judges)
    found = []
    for n, (pair, natural) in enumerate(zip(pairs, naturalness(pairs, fluency), strict=True)):
        profile = (profiles or {}).get(str(pair.metadata.get("transcript", "")), {}).get(pair.speaker)
        checked = Checked(
            _marked(pair, danger[n]),
            transcription_of(pair),
            natural,
            consistency_of(pair.response, profile),
            round(float(emotional[n]), 4),
            coherence[n].score,
            figures={"clash": round(float(clashes[n]), 4)},
        )
        found.append(replace(checked, reasons=(*_reasons(checked, settings), *unsafe[n])))
    return found


def transcription_of(pair: DialoguePair) -> float:
    """1 - word error rate of the response where `metadata["reference"]` says what was said; else its confidence."""
    reference = pair.metadata.get("reference")
    if reference is None:
        return round(float(pair.metadata.get("confidence", 1.0)), 4)
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtraError("comparing a transcript with its reference", "voice") from error
    wanted, heard = " ".join(words_of(str(reference))), " ".join(words_of(pair.response))
    if not wanted:
        return float(not heard)
    return round(max(0.0, 1 - float(jiwer.wer(wanted, heard))), 4)


@cache
def style_distances() -> Mapping[str, Any]:
    """`quantiles` of responses' distances from their own speakers' styles by length class, from 1 % to 99 %; how they were made."""
    return dict(json.loads((FOLDER / "style_distances.json").read_text(encoding="utf-8")))


def consistency_of(response: str, profile: PersonalityProfile | None) -> float | None:
    """The share of real responses of this length that lie at least so far from their speaker's style; None where it cannot be judged."""
    words = len(response.split())
    if profile is None or not profile.style or profile.words < LEAST_PROFILE_WORDS or words < LEAST_STYLE_WORDS:
        return None
    quantiles = np.asarray(style_distances()["quantiles"][length_class(words)])
    below = float(np.searchsorted(quantiles, style_distance(response, profile)))
    return round(1 - below / (len(quantiles) + 1), 4)


def _emotional(pairs: Sequence[DialoguePair], judges: Judges) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit to the prompt and likeness to the speaker's other responses, each half, less the clash; and the clash.

    A contextual question is ours and feels nothing: there likeness counts alone.
    """
    answers = shares_of([pair.response for pair in pairs], judges)
    fit = emotional_fit(shares_of([pair.prompt for pair in pairs], judges), answers)
    weights = np.asarray([len(pair.response.split()) for pair in pairs], dtype=np.float64)
    keys = [(pair.metadata.get("transcript", ""), pair.speaker) for pair in pairs]
    like = np.empty(len(pairs))
    for key in set(keys):
        here = np.asarray([k == key for k in keys])
        like[here] = emotional_likeness(np.average(answers[here], axis=0, weights=weights[here] + 1e-9), answers[here])
    contextual = np.asarray([pair.metadata.get("kind") == "contextual" for pair in pairs])
    clashes = clash([pair.prompt for pair in pairs], [pair.response for pair in pairs], judges) * ~contextual
    return np.where(contextual, like, (fit + like) / 2) * (1 - clashes), clashes


def _context(pair: DialoguePair) -> tuple[str, ...]:
    return tuple(pair.metadata.get("context", ()))


def _unsafe(pairs: Sequence[DialoguePair], judges: Judges) -> list[list[str]]:
    least = judges.operating_point("unsafe")
    risks = unsafe_after(judges, [Item(pair.response, (*_context(pair)[-1:], pair.prompt)) for pair in pairs])
    return [
        [*(f"rule:{code}" for code in blocked_by_rules(pair.response)), *([f"unsafe:{kind}"] if risk >= least else [])]
        for pair, (risk, kind) in zip(pairs, risks, strict=True)
    ]


def _danger(pairs: Sequence[DialoguePair], judges: Judges) -> list[tuple[str, ...]]:
    """Codes of danger in what the other side says. What is only possible is left to the build's own judges, and what a helper says
    is not read: the judge of danger learnt from clients (of a talk on sleep it found four of nine pairs possible)."""
    prompts = assess_turns(judges, [pair.prompt if pair.metadata.get("kind") != "contextual" else "" for pair in pairs])
    return [tuple(found.reasons) if found.level in ("elevated", "imminent") else () for found in prompts]


def _marked(pair: DialoguePair, danger: Sequence[str]) -> DialoguePair:
    if not danger:
        return pair
    earlier = str(pair.metadata.get(REVIEW_REASONS, "")).split()
    reasons = " ".join(dict.fromkeys([*earlier, *danger]))
    return replace(pair, metadata={**pair.metadata, REVIEW_MARK: True, REVIEW_REASONS: reasons})


def least_coherence() -> float:
    """Below it lie 5 % of real pairs of spoken sessions (the judge's own operating point is for letters and their answers)."""
    return float(style_distances()["least_coherence"])


def _reasons(checked: Checked, settings: VoiceSettings) -> list[str]:
    low = {
        "low_transcription_quality": checked.transcription < settings.least_confidence,
        "unnatural": checked.naturalness.score < settings.least_naturalness,
        "not_like_speaker": checked.consistency is not None and checked.consistency < settings.least_consistency,
        "emotion_does_not_fit": checked.figures["clash"] >= MOST_CLASH,
        "incoherent": checked.coherence < least_coherence(),
    }
    return [code for code, is_low in low.items() if is_low]


def report_of(checked: Sequence[Checked]) -> QualityReport:
    """Passed where pairs were given and one was kept. `details`: rejections by reason, means of the scores, pairs to review."""
    kept = [c for c in checked if c.kept]
    kinds = Counter(str(c.pair.metadata.get("kind", "")) for c in kept)
    by_reason = Counter(code for c in checked for code in c.reasons)
    issues = [] if kept else ["no pair was kept" if checked else "there are no pairs"]
    judged = [c.consistency for c in kept if c.consistency is not None]
    details = {
        "rejected_by_reason": dict(by_reason.most_common()),
        "transcription_quality": _mean([c.transcription for c in kept]),
        "naturalness": _mean([c.naturalness.score for c in kept]),
        "consistency": _mean(judged),
        "consistency_judged": len(judged),
        "emotional_coherence": _mean([c.emotional for c in kept]),
        REVIEW_MARK: sum(bool(c.pair.metadata.get(REVIEW_MARK)) for c in kept),
    }
    metrics = QualityMetrics(
        _mean([c.coherence for c in kept]),
        round(kinds["question_answer"] / max(1, len(kept)), 4),
        round(kinds["contextual"] / max(1, len(kept)), 4),
        len(kept),
        len(checked) - len(kept),
    )
    return QualityReport(not issues, metrics, 1.0 if checked else 0.0, {"voice": len(kept)}, tuple(issues), details)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if values else 0.0


def examples(
    checked: Sequence[Checked], profiles: Profiles | None = None, patterns: Patterns | None = None
) -> list[VoiceDataExample]:
    """What was kept, with the speaker's profile and those emotional patterns that overlap with the pair's time."""
    found = []
    for c in checked:
        if not c.kept:
            continue
        metadata = c.pair.metadata
        transcript = str(metadata.get("transcript", ""))
        profile = (profiles or {}).get(transcript, {}).get(c.pair.speaker) or PersonalityProfile(c.pair.speaker, {})
        emotions = [e for e in (patterns or {}).get(transcript, {}).get(c.pair.speaker, ()) if _overlaps(e, metadata)]
        url, kind = str(metadata.get("url", "")), _source_type(str(metadata.get("content_type", "")))
        found.append(VoiceDataExample(c.pair, profile, emotions, c.transcription, c.naturalness.score, url, kind))
    return found


def _overlaps(emotion: EmotionalPattern, metadata: Mapping[str, Any]) -> bool:
    start, end = metadata.get("start_seconds"), metadata.get("end_seconds")
    return start is None or end is None or (emotion.start_seconds < end and emotion.end_seconds > start)


def _source_type(content_type: str) -> str:
    """The contract's three: sessions are clinical demonstrations, talks of one speaker lectures, the rest comes from the video site."""
    if content_type == "therapy":
        return "clinical_demo"
    return "expert_lecture" if content_type in ("monologue", "speech", "lecture") else "youtube"
