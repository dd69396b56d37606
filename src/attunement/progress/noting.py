"""What is made of a session's transcript for the journal: summary, emotional state, danger, and what to take up next time.

All of it is a draft that a clinician edits and signs (docs/progress.md). Nothing leaves the machine unless a provider is given.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from attunement.config import Settings
from attunement.embedding import Embedder
from attunement.errors import ConfigError, ServiceError
from attunement.progress.feeling import read_feelings, state_of, strength
from attunement.progress.journey import Goal
from attunement.progress.sentences import Sentence, client_role, spoken, whole, word_count
from attunement.progress.summarising import MOST_WORDS, ask, summary, ungrounded, with_danger
from attunement.providers import Provider
from attunement.providers.guarded import Guarded
from attunement.providers.opening import open_provider
from attunement.quality.crisis import CODES, LEVELS, assess_turns
from attunement.quality.panel import Judges
from attunement.quality.validator import QualityValidator
from attunement.records import CrisisAssessment, EmotionalState, Turn
from attunement.security.recording import agreements_of, incidents_of

log = logging.getLogger("attunement.progress")

EXTRACTIVE = "extractive"
ANSWERED_YES = "answered_yes"
"""Reason code: a question about danger was answered with yes, which the answer alone does not show."""
SPOKEN_OF = 0.4
"""Cosine from which a sentence is about a goal (on the packaged model: 'I only slept three hours' and 'Sleep six hours' 0.60, others under 0.35)."""
NEW = 0.45
"""Cosine under which what a client says near the end was not spoken of before."""
LAST_PART = 0.2
MOST_GOALS = 3
AROUND = 3
QUOTED_WORDS = 25
LONG_WORDS = 9
_CLAUSE = re.compile(r"[,;:\u2013\u2014]\s++|(?<!\s)\s++(?=(?:and|but|because|so)\s)")
_SCREENS = re.compile(
    r"(?i)suicid|kill(?:ing)? yourself|(?:hurt|harm|cut)(?:ting|ing)? yourself|(?:end(?:ing)?|tak(?:e|ing)) your (?:own )?life|wish(?:ed|ing)? you were dead"
    r"|not (?:be alive|want(?:ed|ing)? to (?:live|wake up|be here|be alive))|better off dead|hurt(?:ing)? (?:someone|somebody|anyone) else"
    r"|(?:he|she|they|anyone|anybody|someone|somebody|partner) (?:hurting|hitting|threatening) you"
)
"""Questions about danger in the words of the C-SSRS screener and of usual practice, where the judge, made for clients' words, may miss them."""
_YES = re.compile(r"(?i)\W*(?:yes|yeah|yep|yup|yea|i (?:do|have|did|am|was)(?!n't| not| never)\b|every (?:day|night))\b")
_PERHAPS = re.compile(
    r"(?i)\W*(?:sometimes|maybe|perhaps|kind of|sort of|a (?:bit|little)|once|now and then|i guess|i think so|not really sure)\b"
)
_YEAH_NO = re.compile(r"(?i)\W*(?:yes|yeah|yep|yup|yea)\W+(?:no|nah|nope|not)\b")


@dataclass(frozen=True)
class Noted:
    """What was made of a transcript. `emotional_state` is None where the client said too little, or not in English.

    `summary_by` is `extractive`, or the provider's name. `next_session_focus` is plain sentences, one a line, each with its reason. `telling` are
    the turns that tell of danger with those around them; empty where there is none.
    """

    conversation_summary: str = ""
    summary_by: str = EXTRACTIVE
    emotional_state: EmotionalState | None = None
    crisis: CrisisAssessment = field(default_factory=CrisisAssessment)
    next_session_focus: str = ""
    telling: Sequence[Turn] = field(default=(), repr=False)


class _OfJudges(Embedder):
    """The judges' encoder, for any number of threads: no second one is loaded."""

    def __init__(self, judges: Judges) -> None:
        super().__init__(judges.embedder.settings)
        self._judges = judges

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._judges.encode(texts)


class SessionNotes:
    """Makes notes of transcripts. Without an `embedder` the validator's own encodes, for any number of threads; one of the caller's is for one.

    `provider` opens the language model that summarises (`providers.opening.open_provider`, which lets personal data out only under an
    agreement, with `cache=None`, as an answer kept in a file would be a client's words in the clear). It is opened for each summary.
    """

    def __init__(
        self,
        validator: QualityValidator,
        embedder: Embedder | None = None,
        provider: Callable[[], Provider] | None = None,
        *,
        most_words: int = MOST_WORDS,
    ) -> None:
        self._validator, self._provider = validator, provider
        self.embedder: Embedder = embedder or _OfJudges(validator.judges)
        """Encodes what is looked for later; the configured model."""
        self._encode = embedder.encode if embedder else validator.judges.vectors  # what the cosines here were measured on
        self._most = most_words

    @classmethod
    def by_settings(cls, settings: Settings, validator: QualityValidator | None = None) -> Self:
        """Notes as the settings want them: judges of the home (or `validator`'s), `embedding`, and `progress.summariser`.

        Raises `ConfigError` or `MissingExtraError` at once where the provider that is to sum up cannot be opened.
        """
        validator = validator or QualityValidator(Embedder(settings.embedding), settings.home.expanduser())
        if settings.progress.summariser == EXTRACTIVE:
            return cls(validator)
        wanted = settings.progress.provider
        if not wanted:
            raise ConfigError(
                "progress.summariser is `provider`, but progress.provider names none: give openai, anthropic, ollama or an address,"
                " or set progress.summariser to extractive"
            )

        in_force = agreements_of(settings)

        def opened(*, sends: bool = True) -> Provider:
            found = open_provider(wanted, settings.providers, None, in_force=in_force, blocked=incidents_of(settings))
            if sends and isinstance(found.inner, Guarded) and not in_force(found.inner.host):
                raise ServiceError(
                    f"nothing was sent to {found.inner.host}: a session is a client's, whatever is named in it, and no Business Associate"
                    " Agreement with it is on record and in force (attune agreements add)"
                )
            return found

        opened(sends=False)  # what is wrong is told before a session is logged, not while
        return cls(validator, provider=opened)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, `[n, d]`, of the embedder that the notes are made with."""
        return self._encode(texts)

    def made(self, transcript: Sequence[Turn], goals: Sequence[Goal] = ()) -> Noted:
        """The notes of a session. `goals` are the client's open ones. An empty transcript gives empty notes."""
        transcript = whole(transcript)
        said = spoken(transcript)
        if not said:
            return Noted()
        judges = self._validator.judges
        clients = [s for s in said if s.role == "client"]
        verdicts = read_feelings(judges, clients)
        vectors = self._encode([s.text for s in said])
        crisis, danger = self._danger(transcript, said)
        feelings = np.zeros(len(said), dtype=np.float32)
        feelings[[s.place for s in clients]] = [strength(v) for v in verdicts]
        text, by = self._summary(said, vectors, feelings.tolist(), danger)
        focus = [*_safety(crisis, said, danger), *_left_open(said, vectors), *self._goals(goals, said, vectors)]
        return Noted(
            text, by, state_of(clients, verdicts), crisis, "\n".join(focus), around(transcript, {said[p].turn for p in danger})
        )

    # --- summary --------------------------------------------------------------------------------------

    def _summary(
        self, said: Sequence[Sentence], vectors: NDArray[np.float32], feelings: Sequence[float], danger: Sequence[int]
    ) -> tuple[str, str]:
        if self._provider is not None:
            try:
                text, name = ask(self._provider, said, self._most)
            except ServiceError as error:
                log.warning("a session is summarised by its own sentences: %s", error)
            else:
                if not (why := ungrounded(text, said, vectors, self._encode, self._most)):
                    return with_danger(text, said, danger), name
                log.warning("a session is summarised by its own sentences: the summary of %s was not taken, %s", name, why)
        return summary(said, vectors, feelings, danger, self._most), EXTRACTIVE

    # --- danger ---------------------------------------------------------------------------------------

    def _danger(self, transcript: Sequence[Turn], said: Sequence[Sentence]) -> tuple[CrisisAssessment, list[int]]:
        """The state after all that the client said, and the places of the sentences that tell of it, the gravest first."""
        role, judges = client_role(transcript), self._validator.judges
        numbers = [n for n, turn in enumerate(transcript) if turn.role == role and turn.text.strip()]
        if not numbers:
            return CrisisAssessment(), []
        turns = assess_turns(judges, [transcript[n].text for n in numbers])
        state = self._validator.assess_crisis([transcript[n].text for n in numbers])
        grave = {n for n, found in zip(numbers, turns, strict=True) if found.level != "none"}
        told = [s for s in said if s.role == "client" and s.turn in grave]
        ranked = sorted(
            zip(assess_turns(judges, [s.text for s in told]), told, strict=True),
            key=lambda pair: (-LEVELS.index(pair[0].level), -pair[0].score, pair[1].place),
        )
        places = [s.place for found, s in ranked if found.level != "none"]
        places += [
            s.place
            for found, s in ranked
            if found.level == "none" and not any(o.turn == s.turn for f, o in ranked if f.level != "none")
        ]
        for question, answer, level in self._answers(said):
            state = _at_least(state, level, question[1])
            places += [question[0].place, answer.place]
        return state, list(dict.fromkeys(places))

    def _answers(self, said: Sequence[Sentence]) -> list[tuple[tuple[Sentence, CrisisAssessment], Sentence, str]]:
        """Questions of the therapist about danger that the client's next words say yes to, with the level that that is."""
        asked = []
        questions: list[Sentence] = []  # of what the therapist said since the client spoke
        for before, after in pairwise(said):
            if before.role == "client":
                questions = []
            elif before.text.rstrip("\"')\u201d\u2019 ").endswith("?"):
                questions.append(before)
            if before.role == "therapist" and after.role == "client":
                plain = _YES.match(after.text) and not _YEAH_NO.match(after.text)
                level = "elevated" if plain else "possible" if _PERHAPS.match(after.text) or _YES.match(after.text) else ""
                asked += [(question, after, level) for question in questions if level]
        found = assess_turns(self._validator.judges, [before.text for before, _, _ in asked])
        return [
            ((before, danger), after, level)
            for (before, after, level), danger in zip(asked, found, strict=True)
            if danger.level in LEVELS[2:] or _SCREENS.search(before.text)
        ]

    # --- focus ----------------------------------------------------------------------------------------

    def _goals(self, goals: Sequence[Goal], said: Sequence[Sentence], vectors: NDArray[np.float32]) -> list[str]:
        """What the open goals ask for: first those that were spoken of, then those that were not."""
        goals = [goal for goal in goals if goal.closed_at is None and goal.title.strip()]
        if not goals:
            return []
        mine = [s for s in said if s.role == "client"]
        parts = [(s, part) for s in mine for part in _clauses(s.text)]  # a long sentence drowns what a part of it is about
        titles = self._encode([goal.title for goal in goals])
        near = np.vstack([vectors[[s.place for s in mine]], self._encode([part for _, part in parts])]) @ titles.T
        places = [*mine, *(s for s, _ in parts)]
        found = [
            (float(near[:, i].max()), places[int(near[:, i].argmax())].text) if places else (0.0, "") for i in range(len(goals))
        ]
        out = []
        for (best, text), goal in sorted(zip(found, goals, strict=True), key=lambda row: -row[0][0])[:MOST_GOALS]:
            about = f"Open goal \u201c{goal.title}\u201d ({_rated(goal)})"
            if best >= SPOKEN_OF:
                out.append(f"{about}: go on from \u201c{_quoted(text)}\u201d.")
            else:
                out.append(f"{about}: nothing that was said today was found to be about it; ask whether it still matters.")
        return out


def _at_least(state: CrisisAssessment, level: str, asked: CrisisAssessment) -> CrisisAssessment:
    """`state` with what a question that was answered with yes adds to it."""
    higher = LEVELS.index(level) > LEVELS.index(state.level)
    reasons = dict.fromkeys([*state.reasons, *(r for r in asked.reasons if r in CODES.values()), ANSWERED_YES])
    kind, whose = (asked.kind, "self") if higher else (state.kind, state.whose)
    return replace(
        state,
        level=level if higher else state.level,
        reasons=tuple(reasons),
        score=max(state.score, asked.score),
        kind=kind,
        whose=whose,
    )


def around(transcript: Sequence[Turn], telling: Collection[int]) -> list[Turn]:
    """The turns with the numbers `telling` and `AROUND` on either side: what a reviewer needs to judge them, and not the whole session."""
    near = {n for each in telling for n in range(each - AROUND, each + AROUND + 1)}
    return [turn for n, turn in enumerate(transcript) if n in near]


def _safety(crisis: CrisisAssessment, said: Sequence[Sentence], danger: Sequence[int]) -> list[str]:
    """What was found of danger, with the sentence that tells most of it, so that a reader sees at once whether it is one."""
    if crisis.level == "none":
        return []
    words = f" \u201c{_quoted(said[danger[0]].text)}\u201d" if danger else ""
    if crisis.level == "possible":
        return [
            f"Ask about safety: some of today's words may be a sign of danger, which the judge is unsure of:{words or ' see the transcript'}."
        ]
    named = ", ".join(code.replace("_", " ") for code in crisis.reasons)
    at = f" most of all in{words};" if words else ""
    return [f"Safety first: today's words were read as {crisis.level} danger ({named}),{at} begin with an assessment of risk."]


def _left_open(said: Sequence[Sentence], vectors: NDArray[np.float32]) -> list[str]:
    """What the client brought up near the end for the first time, and after which at most one answer came."""
    mine = [s for s in said if s.role == "client"]
    turns = sorted({s.turn for s in mine})
    late = set(turns[-max(1, round(len(turns) * LAST_PART)) :])
    for sentence in reversed(mine):
        earlier = [s.place for s in mine if s.turn < sentence.turn]
        if sentence.turn not in late or len(earlier) < 3:
            return []
        answers = {s.turn for s in said if s.role == "therapist" and s.turn > sentence.turn}
        is_new = float((vectors[earlier] @ vectors[sentence.place]).max()) < NEW
        if sentence.words >= 6 and is_new and len(answers) <= 1:
            return [f"Raised at the end and left open: \u201c{_quoted(sentence.text)}\u201d."]
    return []


def _quoted(text: str) -> str:
    words = text.split()
    return " ".join(words).rstrip(".") if len(words) <= QUOTED_WORDS else " ".join(words[:QUOTED_WORDS]) + " \u2026"


def _clauses(text: str) -> list[str]:
    """The parts of a sentence of `LONG_WORDS` words or more."""
    if word_count(text) < LONG_WORDS:
        return []
    return [part for part in _CLAUSE.split(text) if word_count(part) >= LONG_WORDS // 3]


def _rated(goal: Goal) -> str:
    if not goal.ratings:
        return "not rated yet"
    last = goal.ratings[-1]
    told = f"{last.attainment:+d}" if last.attainment is not None else f"{last.percent or 0:.0f} %"
    return f"last rated {told} on {last.at.date().isoformat()}"
