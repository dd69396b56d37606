"""A session of the journal as the plain values of its encrypted columns, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.progress.journey import LoggedSession
from attunement.progress.tables import STATE, WORDS, in_zone
from attunement.records import CrisisAssessment, EmotionalState, SessionLog, to_dict

DIGITS = 4
_NO_WORDS: Mapping[str, Any] = {"summary": "", "goals": (), "notes": "", "observations": "", "focus": "", "made": ()}


def state_of(session: LoggedSession) -> dict[str, Any]:
    """What trends read of a session."""
    felt = session.log.emotional_state
    return {
        "emotions": _rounded(felt.emotions), "valence": round(felt.valence, DIGITS), "arousal": round(felt.arousal, DIGITS),
        "uncertainty": _rounded(felt.uncertainty), "words": felt.words, "crisis": to_dict(session.crisis), "attended": session.attended,
    }  # fmt: skip


def words_of(session: LoggedSession, digest: str) -> dict[str, Any]:
    """What people read of a session; `digest` tells one logging of it from another."""
    log = session.log
    return {
        "summary": log.conversation_summary, "goals": list(log.therapeutic_goals), "notes": log.progress_notes,
        "observations": log.therapist_observations, "focus": log.next_session_focus, "made": list(session.made), "digest": digest,
    }  # fmt: skip


def session_of(row: Mapping[str, Any]) -> LoggedSession:
    """The session in an opened row; its texts are empty where the row was read without words."""
    state, words = row[STATE], row.get(WORDS) or _NO_WORDS
    felt = EmotionalState(state["emotions"], state["valence"], state["arousal"], state["uncertainty"], state["words"])
    log = SessionLog(
        row["client"], row["session"], in_zone(row["at"], row["zone"]), words["summary"], felt, tuple(words["goals"]), words["notes"],
        words["observations"], words["focus"],
    )  # fmt: skip
    signed = datetime.fromisoformat(row["signed_at"]) if row["signed_at"] else None
    logged = datetime.fromisoformat(row["logged_at"])
    crisis = CrisisAssessment(**state["crisis"])
    signing = row["signed_by"], signed
    return LoggedSession(log, row["version"], row["author"], logged, *signing, crisis, state["attended"], tuple(words["made"]))


def packed(vector: NDArray[np.float32] | None) -> str | None:
    """A vector in half precision as text: 1 KB for 384 dimensions. Of a unit vector each figure moves by 0.0005 at most."""
    return None if vector is None else base64.b64encode(vector.astype("<f2").tobytes()).decode()


def unpacked(text: str) -> NDArray[np.float32]:
    """The inverse, `[d]`."""
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), DIGITS) for name, value in values.items()}
