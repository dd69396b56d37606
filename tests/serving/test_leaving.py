"""A reader who goes away in the middle of a reply: nothing more is generated, what was read is kept, and kept once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from attunement.errors import StoreDownError
from attunement.records import DeployedModel, InferenceRequest
from attunement.security.master_key import FileMasterKey
from attunement.security.vault import Vault
from attunement.serving.app import create_app
from attunement.serving.engines import Engine, EngineError, Piece
from attunement.serving.engines.holder import EngineHolder
from attunement.serving.exchange import Answered, Asked, Exchanges
from attunement.serving.metrics import Metrics
from attunement.serving.reviews import ClinicalReviews
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService
from attunement.serving.streams import Reading
from attunement.storage.opening import Stores, opened_stores
from attunement.storage.transcripts.records import Transcript
from signing import ACT, settings_for

SAID = "I feel sad since winter."
POSSIBLE = "I've given my guitar to my brother, he'll get more use out of it."
ONE, TWO = "That sounds hard.", " What was winter like for you?"


class Talker(Engine):
    """Says `sentences`; then, with `goes_on`, words without an end, until it is given up."""

    deployed = DeployedModel("talker@1", Path(), 0, "cpu")

    def __init__(self) -> None:
        self.sentences, self.goes_on, self.fails = [ONE, TWO], True, False
        self.may_begin, self.begun, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.may_begin.set()
        self.words = 0

    def start(self) -> None:
        """There is nothing to make ready."""

    def close(self) -> None:
        """Nor to end."""

    def stream(self, *_: Any, **__: Any) -> Generator[Piece]:
        try:
            self.begun.set()
            self.may_begin.wait(20)
            for sentence in self.sentences:
                yield Piece(sentence, (-0.1,))
            if self.fails:
                raise EngineError("it broke")
            while self.goes_on and self.words < 2000:
                self.words += 1
                time.sleep(0.01)
                yield Piece(" and then", (-0.1,))
            yield Piece("", (), "stop")
        finally:
            self.closed.set()


@contextmanager
def talking(tmp_path: Path) -> Iterator[tuple[Exchanges, Stores, Talker]]:
    settings = settings_for(tmp_path, "serving.region=US", "serving.disclose=false", "serving.deadline_seconds=30")
    FileMasterKey.create(tmp_path / "master.key")
    service, engine = DeploymentService(settings), Talker()
    service.engine = EngineHolder(lambda _: engine)
    service.load_model(Path())
    with Vault.open(settings) as vault, opened_stores(vault) as stores:
        yield Exchanges(service, Metrics(), ClinicalReviews(vault.audit, vault.cipher), stores=stores), stores, engine


@contextmanager
def served(exchanges: Exchanges) -> Iterator[httpx.Client]:
    with listen("127.0.0.1", 0) as socket, running(create_app(exchanges.service, None, exchanges), socket):
        address = f"http://127.0.0.1:{socket.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
            yield client


def until(holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def asked(said: str = SAID) -> Asked:
    return Asked(InferenceRequest([], said), "", "s-1")


def kept(stores: Stores) -> list[Transcript]:
    return list(stores.transcripts.read(ACT, session="s-1"))


def figure(exchanges: Exchanges, name: str) -> float:
    lines = exchanges.metrics.text().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


ROUTES = [
    ("/api/v1/inference", {"user_input": POSSIBLE, "session_id": "s-1", "stream": True}),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": POSSIBLE}], "metadata": {"session_id": "s-1"}, "stream": True},
    ),
]


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_who_closes_the_connection_after_the_first_words_ends_the_reply_and_it_is_kept_so(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    with talking(tmp_path) as (exchanges, stores, engine):
        engine.sentences = [ONE]
        with served(exchanges) as client:
            with client.stream("POST", path, json=body) as answer:
                data = next(line for line in answer.iter_lines() if line.startswith("data: "))
                assert ONE in json.dumps(json.loads(data.removeprefix("data: ")))
                assert not engine.closed.is_set() and kept(stores) == []
            assert engine.closed.wait(2), "what nobody reads was generated on"
            (found,) = until(lambda: kept(stores))
        assert (found.reply, found.turns[-1]["content"]) == (ONE, POSSIBLE)
        assert found.safety["action"] == "passed" and found.safety["level"] == "possible" and "cut" in found.safety["flags"]
        assert figure(exchanges, "attunement_cut_total") == figure(exchanges, 'attunement_replies_total{action="passed"}') == 1
        assert figure(exchanges, "attunement_requests_in_progress") == 0 and exchanges.service.engine._held.replies == 0  # type: ignore[union-attr]
        assert exchanges.reviews is not None
        (row,) = exchanges.reviews.open(ACT)
        assert (row["priority"], row["reply"]) == ("possible", ONE) and "cut" in row["reasons"]


def test_who_goes_before_the_first_words_has_read_nothing(tmp_path: Path) -> None:
    with talking(tmp_path) as (exchanges, stores, engine), served(exchanges) as client:
        engine.may_begin.clear()
        with pytest.raises(httpx.ReadTimeout):
            client.post(ROUTES[0][0], json=ROUTES[0][1], timeout=0.5)
        client.get("/api/v1/health/live")  # the server has seen by now that the other line is closed
        engine.may_begin.set()
        assert engine.closed.wait(5)
        assert exchanges.reviews is not None
        (row,) = until(lambda: exchanges.reviews.open(ACT))  # type: ignore[union-attr]
        assert row["priority"] == "possible" and row["talk"][-1]["content"] == POSSIBLE and row["reply"] == ""
        assert kept(stores) == [] and figure(exchanges, "attunement_cut_total") == 0


def test_nothing_is_kept_twice(tmp_path: Path) -> None:
    with talking(tmp_path) as (exchanges, stores, engine):
        engine.goes_on = False
        pieces = exchanges.stream(asked(POSSIBLE), ACT)
        said = [str(next(pieces)) for _ in range(3)]
        pieces.close()  # between the last words and the whole: with these, nothing was cut off but `done`
        (found,) = kept(stores)
        assert found.reply == "".join(said) and said[:2] == [ONE, TWO] and found.safety["action"] == "reminded"
        assert figure(exchanges, "attunement_cut_total") == 1

    with talking(tmp_path / "whole") as (exchanges, stores, engine):
        engine.goes_on = False
        pieces = exchanges.stream(asked(POSSIBLE), ACT)
        assert isinstance([next(pieces) for _ in range(4)][-1], Answered)
        pieces.close()  # after the whole
        (found,) = kept(stores)
        assert "cut" not in found.safety["flags"] and found.safety["action"] == "reminded"
        assert figure(exchanges, "attunement_cut_total") == 0 and exchanges.reviews is not None
        assert len(exchanges.reviews.open(ACT)) == figure(exchanges, "attunement_replies_total") == 1


def test_who_leaves_while_the_whole_is_being_kept_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with talking(tmp_path) as (exchanges, stores, engine):
        engine.goes_on, real = False, stores.transcripts.add
        keeping, may_go_on, added = threading.Event(), threading.Event(), list[Transcript]()

        def slow(transcript: Transcript, act: Any) -> None:
            added.append(transcript)
            keeping.set()
            may_go_on.wait(10)
            real(transcript, act)

        monkeypatch.setattr(stores.transcripts, "add", slow)
        reading = Reading(exchanges, asked(), ACT)
        assert (reading.next(), reading.next()) == (ONE, TWO)
        reading.began = True
        whole = threading.Thread(target=reading.next)
        whole.start()
        assert keeping.wait(5)
        reading.leave()
        end = threading.Thread(target=reading.end)
        end.start()
        may_go_on.set()
        whole.join(), end.join()
        assert len(added) == len(kept(stores)) == figure(exchanges, "attunement_replies_total") == 1
        assert "cut" not in added[0].safety["flags"]


def test_danger_that_was_answered_is_kept_once(tmp_path: Path) -> None:
    with talking(tmp_path) as (exchanges, stores, _):
        pieces = exchanges.stream(asked("I am going to kill myself tonight"), ACT)
        assert "988" in str(next(pieces)) and exchanges.reviews is not None
        pieces.close()
        (found,) = kept(stores)
        assert found.safety["action"] == "crisis" and "cut" not in found.safety["flags"]
        assert len(exchanges.reviews.open(ACT)) == 1 and figure(exchanges, "attunement_cut_total") == 0


def test_a_model_that_fails_in_the_middle_leaves_what_was_read(tmp_path: Path) -> None:
    with talking(tmp_path) as (exchanges, stores, engine):
        engine.fails = True
        pieces = exchanges.stream(asked(), ACT)
        assert next(pieces) == ONE
        with pytest.raises(EngineError):
            next(pieces)
        (found,) = kept(stores)
        assert found.reply == ONE and found.safety["flags"] == ["cut"]


def test_what_a_reader_who_left_said_waits_for_a_store_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with talking(tmp_path) as (exchanges, stores, engine):

        def gone(*_: Any, **__: Any) -> Any:
            raise StoreDownError("gone")

        assert exchanges.reviews is not None
        monkeypatch.setattr(exchanges.reviews._audit, "begin", gone)
        pieces = exchanges.stream(asked(POSSIBLE), ACT)
        assert next(pieces) == ONE
        pieces.close()
        assert stores.transcripts.spool.count() == 1 and "guitar" not in caplog.text and "could not be kept yet" in caplog.text
        monkeypatch.undo()
        engine.goes_on, exchanges._next_try = False, 0.0
        exchanges.answer(asked(), ACT)
        assert [row["priority"] for row in exchanges.reviews.open(ACT)] == ["possible"]
