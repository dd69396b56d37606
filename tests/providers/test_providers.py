"""Every provider against a server that speaks its protocol: what goes out, what comes back, and every way it goes wrong."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attunement.config import ProviderSettings
from attunement.errors import AnswerError, BudgetError, ConfigError, DataError, MissingExtraError, ServiceError, TemporaryError
from attunement.providers import Completion, Message, Request
from attunement.providers.cache import CompletionCache
from attunement.providers.metered import Metered
from attunement.providers.opening import open_provider
from speaking import HANG, Answer, Speaker, said, speaking

for sdk in ("openai", "anthropic", "ollama"):
    pytest.importorskip(sdk, reason=f"the extra '{sdk}' is not installed")

ALL = ("openai", "anthropic", "ollama", "compatible")
SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OLLAMA_API_KEY", "OTHER_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("HTTP_PROXY", "")


def opened(
    which: str, speaker: Speaker, folder: Path, *, budget: float | None = None, **settings: Any
) -> tuple[Metered, list[float]]:
    address = speaker.address + ("/v1" if which in ("openai", "compatible") else "")
    given = {"model": "m", "base_url": "" if which == "compatible" else address, "timeout_seconds": 5.0, **settings}
    provider = open_provider(address if which == "compatible" else which, ProviderSettings(**given), folder, budget_usd=budget)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    provider._sleep = sleep
    return provider, waits


def ask(provider: Metered, *requests: Request) -> list[Completion]:
    async def go() -> list[Completion]:
        try:
            return list(await asyncio.gather(*map(provider.complete, requests)))
        finally:
            await provider.close()

    return asyncio.run(go())


def request(key: str = "k", text: str = "hi") -> Request:
    return Request([Message("system", "Be brief."), Message("user", text)], key, max_tokens=100)


def after(*answers: Answer) -> Callable[[str, dict[str, Any]], Answer]:
    """The given answers in turn, then "hello" for ever."""
    left = list(answers)
    return lambda path, _: left.pop(0) if left else said(path, "hello")


@pytest.mark.parametrize("which", ALL)
def test_asks_and_is_answered(which: str, tmp_path: Path) -> None:
    with speaking(after()) as speaker:
        provider, _ = opened(which, speaker, tmp_path)
        (found,) = ask(provider, request())
    assert (found.text, found.model, found.prompt_tokens, found.completion_tokens, found.finish) == (
        "hello",
        "m-1",
        10,
        20,
        "stop",
    )
    ((_, headers, body),) = speaker.asked
    assert body["model"] == "m" and "Be brief." in json.dumps(body) and "hi" in json.dumps(body)
    assert "python" not in headers["user-agent"].casefold()
    assert not {h for h in headers if h.startswith("x-stainless")} - {"x-stainless-retry-count", "x-stainless-read-timeout"}
    sends_key = which in ("openai", "anthropic")
    assert (SECRET in json.dumps(headers)) == sends_key and ("openai-organization" in headers) == (which == "openai")


@pytest.mark.parametrize("which", ALL)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_tries_again_after_what_the_provider_says(which: str, status: int, tmp_path: Path) -> None:
    with speaking(after((status, {"retry-after": "7"}, b'{"error": {"message": "busy"}}'), (500, {}, b"oops"))) as speaker:
        provider, waits = opened(which, speaker, tmp_path)
        (found,) = ask(provider, request())
    assert found.text == "hello" and len(speaker.asked) == 3 and provider.account.retries == 2
    assert waits[0] == 7 and 0 < waits[1] <= 2


@pytest.mark.parametrize("which", ALL)
def test_gives_up_with_one_line(which: str, tmp_path: Path) -> None:
    with speaking(lambda *_: (500, {}, b"<html>oops</html>")) as speaker:
        provider, _ = opened(which, speaker, tmp_path, max_retries=2)
        with pytest.raises(TemporaryError, match=r"500.*3 tries") as caught:
            ask(provider, request())
    assert "\n" not in str(caught.value) and len(speaker.asked) == 3
    assert not list(tmp_path.rglob("*.json"))


def test_a_long_pause_ends_the_run(tmp_path: Path) -> None:
    with speaking(lambda *_: (429, {"retry-after": "7200"}, b"{}")) as speaker:
        provider, waits = opened("openai", speaker, tmp_path)
        with pytest.raises(ServiceError, match="a pause of 7200 s"):
            ask(provider, request())
    assert not waits and len(speaker.asked) == 1


@pytest.mark.parametrize("which", ALL)
def test_a_time_out_is_tried_again(which: str, tmp_path: Path) -> None:
    with speaking(after(HANG)) as speaker:
        provider, waits = opened(which, speaker, tmp_path, timeout_seconds=0.5)
        assert ask(provider, request())[0].text == "hello" and len(waits) >= 1


@pytest.mark.parametrize("which", ALL)
@pytest.mark.parametrize("data", [b'{"choices": [{"mess', b'"hello"', b"[]", b"{}", b"<html></html>"])
def test_garbage_is_told(which: str, data: bytes, tmp_path: Path) -> None:
    with speaking(lambda *_: (200, {}, data)) as speaker:
        provider, _ = opened(which, speaker, tmp_path)
        with pytest.raises(AnswerError, match="not of its protocol") as caught:
            ask(provider, request())
    assert caught.value.reason == "garbage" and len(speaker.asked) == 1


@pytest.mark.parametrize("which", ALL)
@pytest.mark.parametrize(
    ("status", "told"), [(401, "refused the key"), (404, "does not know"), (400, "answered 400"), (302, "redirect")]
)
def test_what_the_user_can_mend_is_not_tried_again(which: str, status: int, told: str, tmp_path: Path) -> None:
    answer = (status, {"location": "http://127.0.0.1:9/"}, b'{"error": {"message": "sk-very-secret is wrong"}}')
    with speaking(lambda *_: answer) as speaker:
        provider, _ = opened(which, speaker, tmp_path)
        with pytest.raises(ServiceError, match=told) as caught:
            ask(provider, request())
    assert len(speaker.asked) == 1 and not isinstance(caught.value, TemporaryError)
    assert status != 401 or SECRET not in str(caught.value)


@pytest.mark.parametrize("which", ["openai", "anthropic"])
def test_a_refusal_and_a_cut_are_told_by_finish(which: str, tmp_path: Path) -> None:
    finish = "content_filter" if which == "openai" else "refused"
    with speaking(lambda p, b: said(p, "I won't.", finish if "no" in json.dumps(b) else "length")) as speaker:
        provider, _ = opened(which, speaker, tmp_path)
        assert [c.finish for c in ask(provider, request("a", "no"), request("b", "cut"))] == ["refused", "length"]


def test_nobody_listens(tmp_path: Path) -> None:
    for which in ALL:
        provider, _ = opened(which, Speaker(after(), address="http://127.0.0.1:9"), tmp_path, max_retries=0)
        with pytest.raises(TemporaryError, match="cannot be reached"):
            ask(provider, request())


def test_an_answer_is_paid_once(tmp_path: Path) -> None:
    with speaking(after()) as speaker:
        for _ in range(2):
            provider, _ = opened("openai", speaker, tmp_path, prompt_usd_per_million=1e5, completion_usd_per_million=1e5)
            found = ask(provider, request("a"), request("b"))
        assert len(speaker.asked) == 2 and all(c.cached for c in found) and provider.account.cached == 2
        assert provider.account.spent_usd == 0 and provider.account.total_usd == pytest.approx(6.0)
        other, _ = opened("compatible", speaker, tmp_path)  # another provider is asked anew
        assert not ask(other, request("a"))[0].cached
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(kept) == 3 and not any(SECRET.encode() in p.read_bytes() for p in kept)
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in kept)


def test_the_budget_is_never_passed(tmp_path: Path) -> None:
    prices = {"prompt_usd_per_million": 0.0, "completion_usd_per_million": 1e4}  # 100 tokens at most: $1, 20 used: $0.2
    with speaking(after()) as speaker:
        provider, _ = opened("openai", speaker, tmp_path, budget=1.5, concurrency=8, **prices)
        with pytest.raises(BudgetError, match=r"budget of \$1.50"):
            ask(provider, *(request(str(i)) for i in range(9)))
        assert provider.account.total_usd <= 1.5 and len(speaker.asked) == 3
        again, _ = opened("openai", speaker, tmp_path, budget=1.5, **prices)  # what was spent before counts
        with pytest.raises(BudgetError):
            ask(again, request("new"))
        assert len(speaker.asked) == 3


def test_a_time_out_may_have_been_billed(tmp_path: Path) -> None:
    with speaking(after(HANG)) as speaker:
        provider, _ = opened("openai", speaker, tmp_path, completion_usd_per_million=1e4, timeout_seconds=0.5)
        ask(provider, request())
    assert provider.account.uncertain_usd >= 1.0


def test_so_many_at_a_time(tmp_path: Path) -> None:
    import time

    def slowly(path: str, _: dict[str, Any]) -> Answer:
        time.sleep(0.02)
        return said(path, "hello")

    with speaking(slowly) as speaker:
        provider, _ = opened("openai", speaker, tmp_path, concurrency=3, timeout_seconds=20)
        ask(provider, *(request(str(i)) for i in range(9)))
    assert speaker.most_running <= 3 and len(speaker.asked) == 9


@pytest.mark.parametrize(
    ("wanted", "settings", "told"),
    [
        ("openai", {"model": ""}, "needs the name of a model"),
        ("gpt", {}, "there is no provider 'gpt'"),
        ("ftp://x", {}, "no address"),
        ("http://user:pass@127.0.0.1/v1", {}, "no address"),
        ("http://example.org/v1", {"key_variable": "OTHER_KEY"}, "in the clear"),
        ("openai", {"key_variable": "NO_SUCH_KEY"}, "NO_SUCH_KEY .* is not set"),
    ],
)
def test_what_cannot_be_opened(wanted: str, settings: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        open_provider(wanted, ProviderSettings(**{"model": "m", **settings}), tmp_path)


def test_a_budget_needs_prices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prompt_usd_per_million"):
        open_provider("anthropic", ProviderSettings(model="m"), tmp_path, budget_usd=1.0)


def test_a_missing_sdk_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ollama", None)
    with pytest.raises(MissingExtraError, match=r"attunement\[ollama\]"):
        open_provider("ollama", ProviderSettings(model="m"), tmp_path)


def test_a_damaged_answer_is_told(tmp_path: Path) -> None:
    cache = CompletionCache(tmp_path, "p", "a")
    cache.put(request(), Completion("x", "m"))
    (path,) = tmp_path.rglob("*.json")
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="remove it"):
        cache.get(request())
