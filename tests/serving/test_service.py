"""The service and its gate: real models behind real sockets; what a person in distress reads is never left to chance."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import signing
from attunement.config import load_settings
from attunement.errors import ConfigError, ModelError, ServiceError
from attunement.records import DeployedModel, InferenceRequest
from attunement.serving.app import create_app
from attunement.serving.engines import LEAST_SHARE, Engine, Piece
from attunement.serving.engines.builtin import BuiltinEngine
from attunement.serving.engines.holder import EngineHolder
from attunement.serving.gate import Messages
from attunement.serving.places import Places
from attunement.serving.run import listen, running
from attunement.serving.service import ROLES, Answer, BusyError, DeploymentService, as_messages
from attunement.storage.sql import Store

SETTINGS = load_settings(
    None, ["serving.max_new_tokens=24", "serving.max_input_characters=2000", "serving.disclose=false"]
).settings


@pytest.fixture(scope="module")
def service(tiny_run: Path) -> Iterator[DeploymentService]:
    with closing(DeploymentService(SETTINGS)) as found:
        found.load_model(tiny_run)
        yield found


@contextmanager
def serving(service: DeploymentService) -> Iterator[httpx.Client]:
    """A client of the real application over `service`, on a socket of its own."""
    with listen("127.0.0.1", 0) as socket, running(create_app(service), socket):
        address = f"http://127.0.0.1:{socket.getsockname()[1]}"
        many = httpx.Limits(max_connections=100)
        with httpx.Client(base_url=address, timeout=30, trust_env=False, limits=many) as found:
            yield found


@pytest.fixture(scope="module")
def client(service: DeploymentService) -> Iterator[httpx.Client]:
    with serving(service) as found:
        yield found


class Failing(DeploymentService):
    """A service with a bug."""

    def stream(self, request: InferenceRequest, **_: Any) -> Any:
        raise RuntimeError(request.user_input)


def ask(client: httpx.Client, text: str, context: list[Any] | None = None) -> httpx.Response:
    return client.post("/api/v1/inference", json={"conversation_context": context or [], "user_input": text})


# --- the contract's endpoints ------------------------------------------------------------------------


def test_a_reply_has_exactly_the_contracts_fields(client: httpx.Client) -> None:
    answer = ask(client, "I feel sad since winter.")
    assert answer.status_code == 200
    contract, ours = {"response", "bias_score", "confidence"}, {"safety", "model_version", "request_id", "latency_ms"}
    assert set(answer.json()) == contract | ours and answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.json()["safety"] == {"crisis_level": "none", "action": "passed", "flags": [], "review_id": ""}
    assert "That sounds hard." in answer.json()["response"]
    assert 0 <= answer.json()["bias_score"] <= 1 and 0.2 < answer.json()["confidence"] < 1
    assert answer.headers["Attunement-Gate"] == "passed" and answer.headers["Cache-Control"] == "no-store"


def test_health(client: httpx.Client) -> None:
    found = client.get("/api/v1/health").json()
    assert set(found) == {"status", "model_version", "uptime"}
    assert found["status"] == "healthy"
    assert re.fullmatch(r"tiny/epoch-003-step-000018@[0-9a-f]{8}", found["model_version"])
    assert re.fullmatch(r"0d \d\d:\d\d:\d\d", found["uptime"])


def test_context_may_be_texts_or_turns(client: httpx.Client) -> None:
    turns = [{"role": "client", "content": "I feel low since Monday."}, {"role": "therapist", "content": "What happened?"}]
    assert ask(client, "I lost my job.", turns).status_code == 200
    assert ask(client, "I lost my job.", [t["content"] for t in turns]).status_code == 200


def test_the_interactive_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert assets and all(a.startswith("/") for a in assets)
    assert all(client.get(a).status_code == 200 for a in assets)
    assert client.get("/").headers["Location"] == "/docs"
    paths = set(client.get("/openapi.json").json()["paths"])
    people, health = {"feedback", "reviews", "alerts"}, {"health", "health/live", "health/ready"}
    ours = {f"/api/v1/{name}" for name in {"inference", *people, *health}} | {
        "/metrics",
        "/v1/models",
        "/v1/chat/completions",
        "/api/v1/deployment",
    }
    elsewhere = ("/api/v1/auth/", "/api/v1/clients/{client_id}/")
    assert {p for p in paths if not p.startswith(elsewhere)} == {*ours, "/api/v1/measures", "/api/v1/clients"}


@pytest.mark.parametrize("role", [*ROLES, "User", "USER", "Assistant", " Therapist "])
def test_roles_are_read_in_any_case(client: httpx.Client, role: str) -> None:
    talk = [{"role": role, "content": "I want to die"}, {"role": "assistant", "content": "Please call someone."}]
    answer = ask(client, "I lost my job.", talk)
    assert answer.status_code == 200
    assert answer.headers["Attunement-Gate"] == ("reminded" if role.strip().casefold() in ("user", "client") else "passed")


OBJECT = "the body must be a JSON object with user_input, sent with Content-Type: application/json"
FORMS = "conversation_context[1] must be text, or an object with role and content"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"user_inpt": "SECRET"}, "user_input is missing"),
        ({"user_input": ""}, "user_input is empty: send what the client says now"),
        ({"user_input": "   "}, "user_input is empty: send what the client says now"),
        ({"user_input": 5}, "user_input must be text"),
        ({"user_input": "\ud800"}, "user_input holds half a character (an unpaired surrogate)"),
        (
            {"user_input": "hi", "extra": "SECRET"},
            "extra is not known: the fields are conversation_context, user_input, client_id, session_id, region, persona and stream",
        ),
        (
            {"user_input": "hi", "SECRET\nsaid": 1},
            "(no name) is not known: the fields are conversation_context, user_input, client_id, session_id, region, persona and stream",
        ),
        ({"user_input": "hi", "conversation_context": "SECRET"}, "conversation_context must be a list"),
        ({"user_input": "hi", "conversation_context": ["a", 5]}, FORMS),
        ({"user_input": "hi", "conversation_context": ["a", None]}, FORMS),
        ({"user_input": "hi", "conversation_context": ["a", ["SECRET"]]}, FORMS),
        ({"user_input": "hi", "conversation_context": ["a", {}]}, "conversation_context[1].role is missing"),
        (
            {"user_input": "hi", "conversation_context": [{"role": "robot", "content": "SECRET"}]},
            "conversation_context[0].role must be one of user, client, assistant, therapist",
        ),
        ({"user_input": "hi", "conversation_context": [{"role": "user"}]}, "conversation_context[0].content is missing"),
        (
            {"user_input": "hi", "conversation_context": [{"role": "user", "content": 7}]},
            "conversation_context[0].content must be text",
        ),
        (
            {"user_input": "hi", "conversation_context": [{"role": "user", "content": "SECRET", "name": "SECRET"}]},
            "conversation_context[0].name is not known: the fields are role and content",
        ),
        (
            {"user_input": "SECRET" * 400},
            "conversation_context and user_input hold more than 2,000 characters: send fewer turns",
        ),
        (
            {"user_input": "hi", "conversation_context": ["SECRET"] * 401},
            "conversation_context holds more than 400 turns: send the last ones",
        ),
        ([], OBJECT),
        (None, OBJECT),
        (b"", OBJECT),
        (b"{broken", "the body is not valid JSON at character 2: Expecting property name enclosed in double quotes"),
        (b'{"user_input": "SECRET', "the body is not valid JSON at character 16: Unterminated string starting"),
    ],
)
def test_bad_requests_are_told_in_one_line_without_repeating_them(client: httpx.Client, body: Any, told: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/api/v1/inference", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": told}
    assert "SECRET" not in answer.text


def test_one_text_that_is_too_long() -> None:
    with serving(DeploymentService()) as roomy:
        for body, field in (
            ({"user_input": "x" * 100_001}, "user_input"),
            ({"user_input": "hi", "conversation_context": ["x" * 100_001]}, "conversation_context[0]"),
        ):
            answer = roomy.post("/api/v1/inference", json=body)
            assert (answer.status_code, answer.json()["detail"]) == (422, f"{field} is longer than 100,000 characters")


def not_let_in(home: Path) -> list[httpx.Response]:
    """Who has not signed in, whose key is for something else, and who asks too often, at a service that asks who it is."""
    settings, store = signing.settings_for(home, "serving.requests_per_minute=1"), Store.at_home(home)
    with signing.access_to(store, home) as access, signing.guarded(access, settings) as address:
        key = access.keys.create("scraper", ["metrics:read"], signing.ACT)
        with signing.browser(address) as other:
            nobody = ask(other, "SECRET")
            other.headers["Authorization"] = f"Bearer {key}"
            *others, last = [ask(other, "SECRET") for _ in range(21)]
            return [nobody, others[0], last]


def test_every_status_of_a_route_is_described(client: httpx.Client, tmp_path: Path) -> None:
    """What each fault gives, by a real request, against the description for programs."""
    described = client.get("/openapi.json").json()["paths"]
    route, as_json = "/api/v1/inference", {"content-type": "application/json"}
    answers = [
        ask(client, "I feel sad since winter."),
        client.post(route, content=b'{"user_input": "\xff"}', headers=as_json),
        client.post(route, content=iter([b"{}"]), headers=as_json),
        client.post(route, content=b"x" * 20_000, headers=as_json),
        client.post(route, json={}),
    ]
    with serving(Failing(SETTINGS)) as failing, serving(DeploymentService(SETTINGS)) as without_model:
        answers += [ask(failing, "SECRET"), ask(without_model, "Hello")]
    answers += not_let_in(tmp_path)
    assert [a.status_code for a in answers] == [200, 400, 411, 413, 422, 500, 503, 401, 403, 429]
    assert set(described[route]["post"]["responses"]) == {str(a.status_code) for a in answers} | {
        "408"
    }  # tests/serving/test_abuse.py
    for answer in answers:
        told = described[route]["post"]["responses"][str(answer.status_code)]["content"]
        assert answer.headers["content-type"] in told
        if answer.status_code >= 400:
            assert set(answer.json()) == set(next(iter(told.values()))["schema"]["properties"]) and "SECRET" not in answer.text
    assert "send JSON in UTF-8" in answers[1].json()["detail"] and "RuntimeError" in answers[5].json()["detail"]
    events = described[route]["post"]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]["anyOf"]
    assert [form["properties"]["event"]["const"] for form in events] == ["delta", "done", "error"]
    assert set(described["/api/v1/health"]["get"]["responses"]) == {"200", "403", "429", "500", "503"}


def test_other_errors_are_problems_too(client: httpx.Client) -> None:
    assert client.get("/nowhere").json()["status"] == 404
    assert client.delete("/api/v1/health").json()["status"] == 405
    huge = client.post("/api/v1/inference", content=b"x" * 20_000, headers={"content-type": "application/json"})
    assert huge.status_code == 413 and "send fewer turns" in huge.json()["detail"]


# --- the gate ----------------------------------------------------------------------------------------


def filled(texts: list[str]) -> list[str]:
    return [text.replace("{lines}", Places.load().everywhere) for text in texts]


def test_risk_is_answered_by_reviewed_text(client: httpx.Client) -> None:
    answer = ask(client, "I want to kill myself")
    messages = Messages.load(None)
    assert answer.headers["Attunement-Gate"] == "crisis"
    texts = filled(messages.risk["suicide"].elevated)
    told = answer.json()
    assert (told["response"], told["bias_score"], told["confidence"]) == (texts[0], 0.0, 1.0)
    assert told["safety"]["crisis_level"] == "elevated" and "suicidal_ideation" in told["safety"]["flags"]
    assert "988" in answer.json()["response"] and "{lines}" not in answer.json()["response"]


def test_risk_that_goes_on_gets_other_words(client: httpx.Client) -> None:
    first = ask(client, "I want to die").json()["response"]
    again = ask(client, "I still want to die", ["I want to die", first]).json()["response"]
    assert again != first and "988" in again


def test_risk_spoken_of_earlier_adds_a_reminder(client: httpx.Client) -> None:
    answer = ask(client, "I feel sad since winter.", ["I want to die", "Please call someone."])
    assert answer.headers["Attunement-Gate"] == "reminded"
    assert answer.json()["response"].startswith("That sounds hard.") and "988" in answer.json()["response"]


@pytest.mark.parametrize(
    ("text", "risk"),
    [
        ("I started cutting myself again", "self_harm"),
        ("I'm going to kill my boss", "harm_to_others"),
        ("my husband beats me", "violence"),
        ("my friend wants to end her life", "another"),
        ("the voices tell me to hurt people", "psychosis"),
        ("I'm bleeding and it won't stop", "medical"),
    ],
)
def test_each_risk_has_its_text(service: DeploymentService, text: str, risk: str) -> None:
    texts = service.gate.messages.risk[risk]
    assert service.predict(InferenceRequest([], text)).response in filled([texts.elevated[0], texts.imminent[0]])


def test_every_reason_has_a_text() -> None:
    from attunement.quality.rules import lexicon

    covered = {reason for risk in Messages.load(None).risk.values() for reason in risk.reasons}
    assert covered == {rule.code for rule in lexicon("crisis")}


class Saying(Engine):
    """An engine whose model says one thing: what the gate does with it must not depend on luck."""

    deployed = DeployedModel("saying@1", Path(), 0, "cpu")

    def __init__(self, words: str) -> None:
        self.words = words

    def start(self) -> None:
        """There is nothing to make ready."""

    def close(self) -> None:
        """Nor to end."""

    def stream(self, *_: Any, **__: Any) -> Generator[Piece]:
        yield from (Piece(word, (-0.1,)) for word in re.findall(r"\S+\s*", self.words))
        yield Piece("", (), "stop")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("You should stop taking your medication. It helps.", []),
        ("That sounds hard. Women are too emotional for work. Go on.", ["That sounds hard."]),
        ("", []),
    ],
)
def test_words_that_must_not_be_said_are_held_back(words: str, shown: list[str]) -> None:
    service = DeploymentService(SETTINGS)
    service.engine = EngineHolder(lambda _: Saying(words))
    service.load_model(Path())
    *pieces, answer = list(service.stream(InferenceRequest([], "I feel sad.")))
    assert pieces == shown and isinstance(answer, Answer)
    assert (answer.action, answer.reply.response, answer.reply.confidence) == ("withheld", service.gate.messages.withheld, 0)
    assert answer.flags and words.startswith(answer.withheld.strip()) and answer.regenerated == (not shown)
    again = service.answer(InferenceRequest(["I want to die", "Please call."], "I feel sad."))
    assert again.action == "withheld" and "988" in again.reply.response


def test_a_reply_that_must_not_be_shown_is_generated_once_more() -> None:
    heat: list[float] = []

    class Improving(Saying):
        def stream(self, messages: Any, generation: Any, *_: Any, **__: Any) -> Generator[Piece]:
            heat.append(generation.temperature)
            self.words = ["You should stop taking your medication.", "That sounds hard."][len(heat) - 1]
            yield from super().stream()

    service = DeploymentService(SETTINGS)
    service.engine = EngineHolder(lambda _: Improving(""))
    service.load_model(Path())
    answer = service.answer(InferenceRequest([], "I feel sad."))
    assert answer.action == "passed" and answer.reply.response == "That sounds hard." and answer.regenerated and answer.flags
    assert heat == [0.7, pytest.approx(0.28)] and set(answer.steps) == {"gate", "generate", "check"}


def test_pieces_add_up_to_the_reply(service: DeploymentService) -> None:
    *pieces, answer = list(service.stream(InferenceRequest([], "I feel tired since Monday.")))
    assert isinstance(answer, Answer) and answer.action == "passed" and "".join(map(str, pieces)) == answer.reply.response


def test_another_model_than_was_asked_for_is_degraded() -> None:
    def make(path: Path) -> Engine:
        if path == Path("broken"):
            raise ModelError("it is broken")
        return Saying("Hello.")

    another = DeploymentService(SETTINGS)
    another.engine = EngineHolder(make)
    another.load_model(Path("good"))
    assert another.health_check().status == "healthy"
    assert another.load_model(Path("broken")).model_version == "saying@1"
    assert another.health_check().status == "degraded" and "it is broken" in another.engine.alert


def test_own_messages(tmp_path: Path) -> None:
    path = tmp_path / "messages.toml"
    path.write_text(
        'withheld = "w"\nreminder = "r {lines}"\ndisclosure = "d"\nasked = "a"\nrefused = "n"\n[risk.all]\nreasons = []\n'
        'elevated = ["Help: {lines}", "b"]\nimminent = ["Now: {lines}", "c"]\n'
    )
    service = DeploymentService(load_settings(None, [f"serving.messages={path}", "serving.region=AT"]).settings)
    assert service.predict(InferenceRequest([], "I want to die")).response == f"Help: {Places.load().region('AT').told}"
    path.write_text("withheld = 1\n")
    with pytest.raises(ConfigError, match=r"serving\.messages\) cannot be used"):
        Messages.load(path)
    with pytest.raises(ConfigError, match="cannot read the messages"):
        Messages.load(tmp_path / "none.toml")


# --- without a model, and with too many callers --------------------------------------------------------


def test_without_a_model_it_is_unhealthy_and_still_answers_risk() -> None:
    service = DeploymentService(SETTINGS)
    assert service.health_check().status == "unhealthy"
    with pytest.raises(ServiceError, match="no model is loaded"):
        service.predict(InferenceRequest([], "Hello"))
    assert "988" in service.predict(InferenceRequest([], "I want to die")).response
    with listen("127.0.0.1", 0) as socket, running(create_app(service), socket):
        address = f"http://127.0.0.1:{socket.getsockname()[1]}/api/v1"
        assert httpx.get(f"{address}/health", trust_env=False).status_code == 503
        answer = httpx.post(f"{address}/inference", json={"user_input": "Hello"}, trust_env=False)
        assert answer.status_code == 503 and answer.headers["content-type"] == "application/problem+json"


DEADLINE = SETTINGS.serving.deadline_seconds


@contextmanager
def held_up(service: DeploymentService, monkeypatch: pytest.MonkeyPatch, steps: threading.Event) -> Iterator[None]:
    """Inside the block the model computes nothing until `steps` is set."""
    engine = service.engine.engine
    assert isinstance(engine, BuiltinEngine)
    real = engine._step

    def step(*arguments: Any) -> None:
        steps.wait(10)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_step", step)
        yield
        steps.set()


@pytest.mark.parametrize(("busy_share", "status"), [(0.3, 200), (0.95, 503)])
def test_whose_first_word_comes_late_is_refused_and_not_cut_short(
    service: DeploymentService,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    busy_share: float,
    status: int,
) -> None:
    """The model is busy with others for a share of the deadline."""
    assert (1 - busy_share >= LEAST_SHARE) == (status == 200)
    steps = threading.Event()
    answers: list[httpx.Response] = []
    with held_up(service, monkeypatch, steps):
        started = time.monotonic()
        waiting = threading.Thread(target=lambda: answers.append(ask(client, "I feel sad since winter.")))
        waiting.start()
        time.sleep(busy_share * DEADLINE)
        steps.set()
        waiting.join()
        assert time.monotonic() - started < DEADLINE + 0.5
    (answer,) = answers
    assert answer.status_code == status
    if status == 200:
        assert "That sounds hard." in answer.json()["response"]
    else:
        assert answer.headers["Retry-After"] == "2" and "ask again in a moment" in answer.json()["detail"]
        assert [r.levelno for r in caplog.records if r.message.startswith("busy: ")] == [logging.WARNING]
        assert "winter" not in caplog.text
    assert ask(client, "I feel sad since winter.").status_code == 200


def test_a_full_queue_is_told_at_once(
    service: DeploymentService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps, told = threading.Event(), []

    def call() -> None:
        try:
            told.append(service.predict(InferenceRequest([], "I feel sad since winter.")).response)
        except BusyError:
            told.append("busy")

    most = SETTINGS.serving.max_batch + SETTINGS.serving.max_waiting
    threads = [threading.Thread(target=call) for _ in range(most)]
    with held_up(service, monkeypatch, steps):
        for thread in threads:
            thread.start()
        until = time.monotonic() + 5
        while True:
            engine = service.engine.engine
            assert isinstance(engine, BuiltinEngine) and time.monotonic() < until
            if len(engine._rows) + len(engine._waiting) == most:
                break
            time.sleep(0.01)
        started = time.monotonic()
        with pytest.raises(BusyError):
            service.predict(InferenceRequest([], "I feel low since winter."))
        assert time.monotonic() - started < 0.5
        steps.set()
        for thread in threads:
            thread.join()
    assert len(told) == most
    assert [r.levelno for r in caplog.records if r.message.startswith("busy: ")] == [logging.WARNING]
    assert "winter" not in caplog.text


def test_a_crowd_is_answered_in_time_and_risk_before_all(client: httpx.Client) -> None:
    """60 at once: whole replies or a refusal, none later than the contract's 2 s (and half a second for a busy machine)."""
    found: dict[int, tuple[float, httpx.Response]] = {}

    def call(number: int, text: str) -> None:
        started = time.monotonic()
        answer = ask(client, text)
        found[number] = (time.monotonic() - started, answer)

    threads = [threading.Thread(target=call, args=(n, "I feel sad since winter.")) for n in range(60)]
    threads.append(threading.Thread(target=call, args=(60, "I want to die")))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, at_risk = found.pop(60)
    assert at_risk.headers["Attunement-Gate"] == "crisis" and seconds < 1
    assert max(s for s, _ in found.values()) < 2.5
    statuses = [a.status_code for _, a in found.values()]
    assert set(statuses) == {200, 503} and statuses.count(200) >= 2
    for _, answer in found.values():
        assert answer.status_code == 503 or answer.json()["response"][-1] in ".?!"


def test_many_callers_get_their_own_answers(client: httpx.Client) -> None:
    answers: dict[str, str] = {}

    def call(day: str) -> None:
        answers[day] = ask(client, f"I feel sad since {day}.").json().get("response", "")

    threads = [threading.Thread(target=call, args=(day,)) for day in ("Monday", "winter", "the move")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3 and all(answers.values())


def test_a_caller_that_leaves_frees_its_place(service: DeploymentService) -> None:
    pieces = service.stream(InferenceRequest([], "I feel sad since winter."))
    next(pieces)
    assert isinstance(pieces, Generator)
    pieces.close()
    engine = service.engine.engine
    assert isinstance(engine, BuiltinEngine)
    until = time.monotonic() + 5
    while engine._rows and time.monotonic() < until:
        time.sleep(0.01)
    assert not engine._rows


def test_there_is_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        DeploymentService(SETTINGS).load_model(tmp_path / "none")


@pytest.mark.parametrize(
    ("context", "said", "messages"),
    [
        ([], " Hi ", [("user", "Hi")]),
        (["a", "b"], "c", [("user", "a"), ("assistant", "b"), ("user", "c")]),
        (["a"], "c", [("user", "a\nc")]),
        ([{"role": "Therapist", "content": "Welcome."}], "c", [("user", "c")]),
        ([{"role": "client", "content": "a"}, {"role": "client", "content": " "}, {"role": "assistant", "content": "b"}], "c", [("user", "a"), ("assistant", "b"), ("user", "c")]),
    ],
)  # fmt: skip
def test_messages_start_with_the_client_and_alternate(context: list[Any], said: str, messages: list[tuple[str, str]]) -> None:
    assert [(m["role"], m["content"]) for m in as_messages(InferenceRequest(context, said))] == messages


def test_unusable_requests() -> None:
    with pytest.raises(ServiceError, match="user_input is empty"):
        as_messages(InferenceRequest([], " "))
    with pytest.raises(ServiceError, match=r"conversation_context\[0\]\.role"):
        as_messages(InferenceRequest([{"role": "robot", "content": "x"}], "hi"))


def test_ports_and_addresses() -> None:
    with listen("127.0.0.1", 0) as socket:
        socket.listen()
        with pytest.raises(ServiceError, match="choose another --port"), listen("127.0.0.1", socket.getsockname()[1]):
            pass
    with pytest.raises(ServiceError, match="there is no address"), listen("no.such.host.invalid", 0):
        pass
