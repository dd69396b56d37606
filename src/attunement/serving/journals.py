"""The journal of clients' progress, joined to the service: its alarms go into the review queue, its history into prompts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from attunement.errors import DataError
from attunement.progress.alarms import Alarm, Raised
from attunement.progress.noting import SessionNotes
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.quality.validator import QualityValidator
from attunement.security.acting import Act
from attunement.security.vault import Vault
from attunement.serving.alerts import AlertSender
from attunement.serving.reviews import ClinicalReviews, Flagged

log = logging.getLogger("attunement.serving")


def journal(
    vault: Vault, reviews: ClinicalReviews, alerts: AlertSender | None = None, validator: QualityValidator | None = None
) -> ProgressTrackingSystem:
    """The journal of a vault whose alarms are alerts of `reviews`; with the service's judges where it runs in one."""

    def raised(alarm: Alarm, act: Act) -> Raised:
        flagged = Flagged(alarm.priority, "journal", alarm.reasons, alarm.talk, "", act.request, alarm.client, alarm.session)
        row, inserts, entry = reviews.rows(flagged, act)
        return Raised(inserts, (entry,), lambda: alerts.raised(alarm.priority, row) if alerts is not None else None)

    notes = SessionNotes.by_settings(vault.settings, validator) if validator is not None else None
    return ProgressTrackingSystem(vault, notes=notes, alarms=raised)


class JournalHistory:
    """What a prompt says of a client's past: the `History` of an exchange."""

    def __init__(self, progress: ProgressTrackingSystem) -> None:
        self._progress = progress

    def context(self, client: str, said: str, act: Act) -> Sequence[Mapping[str, str]]:
        """Past sessions that bear on what was said, as one instruction; nothing where there are none. On record as `context:read`.

        A reply never waits for a store that is away: it is then given without history, and the log says so.
        """
        lookback = timedelta(days=self._progress.settings.lookback_days)
        try:
            found = self._progress.by(act).retrieve_historical_context(client, lookback, said)
        except DataError as error:
            log.warning("a reply without history (request %s): %s", act.request, type(error).__name__)
            return ()
        return [{"role": "system", "content": found.text}] if found.text else []
