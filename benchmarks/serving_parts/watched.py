"""The whole service in a process of its own, with what each request's steps took: `python watched.py RUN HOME SETTING...`.

Prints a line of JSON when it is ready: the address, and an API key where `serving.authentication=required`. Then takes lines of JSON:
`{"do": "bare", "talks": ..., "users": n}` asks the engine alone in this process, `{"do": "steps"}` gives what the requests since took.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from attunement.config import load_settings
from attunement.records import GenerationConfig, InferenceRequest
from attunement.security.acting import Act
from attunement.security.entry import opened
from attunement.security.master_key import FileMasterKey
from attunement.serving.app import create_app
from attunement.serving.assembly import Parts, assembled
from attunement.serving.guard import Guard
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService, as_messages

Talk = list[str]


def main() -> None:
    run, home, *sets = sys.argv[1:]
    settings = load_settings(None, [f"home={home}", *sets]).settings
    with ExitStack() as stack:
        access, key = None, ""
        if settings.serving.authentication == "required":
            FileMasterKey.create(Path(home) / "master.key")
            access = stack.enter_context(opened(settings))
            key = access.keys.create("bench", ["inference:create"], Act("os:bench"))
        socket = stack.enter_context(listen("127.0.0.1", 0))
        service = stack.enter_context(closing(DeploymentService(settings)))
        service.load_model(Path(run))
        parts = stack.enter_context(assembled(settings, service, access))
        steps = _watch(parts)
        buckets = parts.stores.buckets if parts.stores else None
        guard = Guard(settings, access, secure_cookies=False, buckets=buckets)
        stack.enter_context(running(create_app(service, guard, parts.exchanges), socket))
        _say({"address": f"http://127.0.0.1:{socket.getsockname()[1]}", "key": key})
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["do"] == "bare":
                _say(_bare(service, asked["talks"], asked["users"]))
            else:
                _say(dict(steps))
                steps.clear()


def _watch(parts: Parts) -> dict[str, dict[str, float]]:
    """Seconds of each step by request id, filled as requests are answered; `engine` is from a prompt's coming to its last token, also
    where the gate judges sentences meanwhile, which `generate` leaves out."""
    found: dict[str, dict[str, float]] = {}
    own, exchanges = threading.local(), parts.exchanges
    engine: Any = exchanges.service.engine.engine
    prepared = engine._prepared

    def timed(*given: Any) -> Any:
        began, reply = time.perf_counter(), prepared(*given)
        put, times = reply.inbox.put, [began, began]
        own.engine = [*getattr(own, "engine", ()), times]

        def noted(item: Any) -> None:
            times[1] = time.perf_counter()
            put(item)

        reply.inbox.put = noted
        return reply

    engine._prepared = timed
    replied, done = exchanges.metrics.replied, exchanges._done

    def noted(action: str, level: str, seconds: float, steps: Any) -> None:
        own.steps = {**steps, "whole": seconds}
        replied(action, level, seconds, steps)

    def finished(asked: Any, answer: Any, region: str, act: Act, began: float) -> Any:
        out = done(asked, answer, region, act, began)
        found[act.request] = {**own.steps, "engine": sum(end - start for start, end in getattr(own, "engine", ()))}
        own.engine = []
        return out

    exchanges.metrics.replied, exchanges._done = noted, finished  # type: ignore[method-assign]
    return found


def _bare(service: DeploymentService, talks: list[Talk], users: int) -> list[float]:
    """Seconds of each request to the engine alone: the same prompts, one talk after the other for each of `users` threads."""
    serving = service.settings.serving
    how = GenerationConfig(serving.max_new_tokens, serving.temperature, serving.top_p, serving.repetition_penalty)
    took: list[float] = []

    def user(number: int) -> None:
        time.sleep(number / users)  # as `overhead.over_http` has them begin
        for talk in talks[number::users]:
            for end in range(1, len(talk) + 1, 2):
                request = InferenceRequest(talk[: end - 1], talk[end - 1])
                prompt = service.gate.without_own_words(as_messages(request))
                began = time.perf_counter()
                for _ in service.engine.stream(prompt, how, time.monotonic() + 60):
                    pass
                took.append(time.perf_counter() - began)

    threads = [threading.Thread(target=user, args=(n,)) for n in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def _say(found: Any) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
