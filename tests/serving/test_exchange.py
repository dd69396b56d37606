"""A whole exchange over real stores: what is kept, what is said when the model cannot answer, what happens when the store is gone."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attunement.errors import StoreDownError
from attunement.records import DeployedModel, InferenceRequest
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault
from attunement.serving.engines import BUSY, BusyError, Engine, Piece
from attunement.serving.engines.holder import EngineHolder
from attunement.serving.exchange import Asked, Exchanges
from attunement.serving.metrics import Metrics
from attunement.serving.reviews import ClinicalReviews
from attunement.serving.service import DeploymentService
from attunement.storage.opening import Stores, opened_stores
from signing import ACT, settings_for


class Moody(Engine):
    """Says one sentence, or is busy."""

    deployed = DeployedModel("moody@1", Path(), 0, "cpu")
    busy = False

    def start(self) -> None:
        """There is nothing to make ready."""

    def close(self) -> None:
        """Nor to end."""

    def stream(self, *_: Any, **__: Any) -> Generator[Piece]:
        if self.busy:
            raise BusyError(BUSY)
        yield Piece("That sounds hard.", (-0.1,))
        yield Piece("", (), "stop")


@contextmanager
def exchanging(tmp_path: Path, *more: str) -> Iterator[tuple[Exchanges, Stores, Moody]]:
    settings = settings_for(tmp_path, "serving.region=US", *more)
    FileMasterKey.create(tmp_path / "master.key")
    service, engine = DeploymentService(settings), Moody()
    service.engine = EngineHolder(lambda _: engine)
    service.load_model(Path())
    with Vault.open(settings) as vault, opened_stores(vault) as stores:
        reviews = ClinicalReviews(vault.audit, vault.cipher)
        yield Exchanges(service, Metrics(), reviews, stores=stores), stores, engine


def asked(said: str, *before: str, client: str = "c-1") -> Asked:
    return Asked(InferenceRequest(before, said), client, "s-1")


def test_what_was_said_is_kept_and_read_in_order(tmp_path: Path) -> None:
    with exchanging(tmp_path) as (exchanges, stores, _), stores.live.watch() as seen:
        first = exchanges.answer(asked("I feel sad since winter."), ACT)
        exchanges.answer(asked("Since May.", "I feel sad since winter.", first.answer.reply.response), replace(ACT, request="r2"))
        one, two = stores.transcripts.read(ACT, client="c-1")
        assert [t["content"] for t in one.turns] == ["I feel sad since winter."] and one.reply == first.answer.reply.response
        assert [t["content"] for t in two.turns] == ["Since May."] and two.safety["action"] == "passed"
        assert seen.get_nowait()["action"] == "passed" and "sad" not in str(seen.queue)
        assert b"since winter" not in (tmp_path / "attunement.db").read_bytes()


def test_when_the_model_is_busy_the_same_prompt_gets_its_reply_of_before(tmp_path: Path) -> None:
    with exchanging(tmp_path) as (exchanges, _, engine):
        first = exchanges.answer(asked("I feel sad since winter."), ACT)
        engine.busy = True
        again = exchanges.answer(asked("I feel sad since winter."), ACT)
        assert first.answer.reply.response.endswith(f"\n\n{again.answer.reply.response}") and "cached" in again.answer.flags
        assert again.answer.reply.confidence == first.answer.reply.confidence > 0
        for other in (asked("I feel sad since May."), asked("I feel sad since winter.", client="c-2")):
            with pytest.raises(BusyError):
                exchanges.answer(other, ACT)
        assert b"attunement_cached_total 1.0" in exchanges.metrics.text()


def test_a_reply_in_a_conversation_with_risk_is_never_cached_nor_taken_from_a_cache(tmp_path: Path) -> None:
    talk = ("I want to die", "Please call someone.")
    with exchanging(tmp_path) as (exchanges, stores, engine):
        assert exchanges.answer(asked("I feel sad.", *talk), ACT).answer.action == "reminded"
        assert not stores.replies._own
        prompt = exchanges._prompt(asked("I feel sad.", *talk), [])
        stores.replies.put(*prompt, {"response": "Old words."}, risk=False, client="c-1")  # put there by whatever mistake
        engine.busy = True
        with pytest.raises(BusyError):
            exchanges.answer(asked("I feel sad.", *talk), ACT)
        assert exchanges.answer(asked("I want to die"), ACT).answer.action == "crisis"  # danger is answered without the model


def test_who_is_in_danger_is_answered_when_the_store_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with exchanging(tmp_path) as (exchanges, stores, _):

        def gone(*_: Any, **__: Any) -> Any:
            raise StoreDownError("gone")

        assert exchanges.reviews is not None
        monkeypatch.setattr(exchanges.reviews._audit, "begin", gone)  # no row and no record can be written
        answer = exchanges.answer(asked("I am going to kill myself tonight"), ACT)
        assert answer.answer.action == "crisis" and "988" in answer.answer.reply.response and answer.review == ""
        assert "could not be kept" in caplog.text and "kill myself" not in caplog.text
        assert stores.transcripts.spool.count() == 1  # the transcript waits for the store
        exchanges.answer(asked("I feel a bit low."), ACT)  # still gone: it is not asked again at once
        assert len(exchanges._unkept) == 1
        monkeypatch.undo()
        exchanges._next_try = 0.0
        exchanges.answer(asked("I feel a bit low."), ACT)
        assert [row["priority"] for row in exchanges.reviews.alerts(ACT)] == ["imminent"] and not exchanges._unkept


def test_danger_is_on_disk_before_the_first_word_of_a_stream(tmp_path: Path) -> None:
    with exchanging(tmp_path) as (exchanges, _, _):
        pieces = exchanges.stream(asked("I am going to kill myself tonight"), ACT)
        assert "988" in str(next(pieces)) and exchanges.reviews is not None
        pieces.close()  # the person is gone after the first words
        assert [row["priority"] for row in exchanges.reviews.alerts(ACT)] == ["imminent"]
