"""Conversations as token ids: the one place that applies chat templates and fits talks into the context.

Oldest turns go first when a talk is too long; the client's last words and the reply stay. The same rules hold in
training, evaluation and serving, so a model is asked as it was taught.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from attunement.records import GenerationConfig

Messages = Sequence[Mapping[str, str]]
IGNORED = -100
"""Label of positions that are not learned."""
SENTENCE_END = re.compile(r"[.!?…][\"')\]\u201d]*(?=\s|$)")


@dataclass(frozen=True)
class Encoded:
    """`ids` of a whole talk; `labels` repeat them where the last reply stands, `IGNORED` elsewhere."""

    ids: list[int]
    labels: list[int]


def encode_prompt(tokenizer: Any, messages: Messages, longest: int) -> list[int]:
    """Ids of a talk that ends with the user and asks for a reply; at most `longest` of them."""
    ids = _apply(tokenizer, without_oldest_turns(tokenizer, messages, longest), ask=True)
    return ids[:1] + ids[-longest + 1 :] if len(ids) > longest else ids


def without_oldest_turns(tokenizer: Any, messages: Messages, longest: int) -> list[Mapping[str, str]]:
    """A talk that ends with the user, without as many of its oldest turns as it takes to ask with `longest` ids.

    The client's last words stay, however long they are.
    """
    talk = list(messages)
    while _droppable(talk) and len(_apply(tokenizer, talk, ask=True)) > longest:
        talk = _without_oldest(talk)
    return talk


def encode_example(tokenizer: Any, messages: Messages, longest: int) -> Encoded:
    """A talk whose last message is the reply to learn; at most `longest` ids, of which at most half are the question's.

    A reply that does not fit loses its end, which is then not learned as one.
    """
    talk = list(messages)
    while len(full := _apply(tokenizer, talk, ask=False)) > longest and _droppable(talk[:-1]):
        talk = _without_oldest(talk)
    prompt = _apply(tokenizer, talk[:-1], ask=True)
    start = _common(prompt, full)
    over = len(full) - longest
    if over > 0 and start > longest // 2:  # a question that alone is too long loses its beginning
        cut = min(over, start - longest // 2)
        full, start = full[:1] + full[cut + 1 :], start - cut
    full = full[:longest]
    return Encoded(full, [IGNORED] * start + full[start:])


def _apply(tokenizer: Any, messages: Messages, *, ask: bool) -> list[int]:
    text = tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, add_generation_prompt=ask)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _droppable(talk: Messages) -> bool:
    return sum(m["role"] != "system" for m in talk) > 2


def _without_oldest(talk: Messages) -> list[Mapping[str, str]]:
    """Without the oldest user message and what answered it, so that the talk still starts with the user."""
    first = next(i for i, m in enumerate(talk) if m["role"] != "system")
    after = next((i for i, m in enumerate(talk) if i > first and m["role"] == "user"), first + 1)
    return [*talk[:first], *talk[after:]]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def to_whole_sentences(text: str) -> str:
    """`text` up to its last sentence end; all of it where no sentence ends."""
    ends = [m.end() for m in SENTENCE_END.finditer(text)]
    return text[: ends[-1]].rstrip() if ends else text.rstrip()


def reply(model: Any, tokenizer: Any, messages: Messages, config: GenerationConfig, seed: int | None = None) -> str:
    """The model's reply, whole; see `stream_reply`."""
    return "".join(stream_reply(model, tokenizer, messages, config, seed))


def stream_reply(
    model: Any, tokenizer: Any, messages: Messages, config: GenerationConfig, seed: int | None = None
) -> Generator[str]:
    """The model's reply in pieces, as they come; it stops at `config`'s limits. Errors of the model are raised here.

    `seed` makes sampling repeatable; without one it draws from the global generator.
    """
    import torch
    from transformers import TextIteratorStreamer

    longest = max(16, model.config.context_length - config.max_new_tokens)
    ids = torch.tensor([encode_prompt(tokenizer, messages, longest)], device=model.device)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    failed: list[BaseException] = []
    given_up = Event()

    def run() -> None:
        try:
            if seed is not None:
                torch.manual_seed(seed)
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                streamer=streamer,
                **_generate_arguments(tokenizer, config, given_up),
            )
        except BaseException as error:  # handed to the caller's thread, which raises it
            failed.append(error)
            streamer.end()

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield from (piece for piece in streamer if piece)
    finally:
        given_up.set()
        thread.join()
    if failed:
        raise failed[0]


def _generate_arguments(tokenizer: Any, config: GenerationConfig, given_up: Event) -> dict[str, Any]:
    from transformers import MaxTimeCriteria, StoppingCriteria, StoppingCriteriaList

    class Abandoned(StoppingCriteria):  # type: ignore[misc]
        """Nobody reads on: the caller's connection is gone."""

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            import torch

            return torch.full((input_ids.shape[0],), given_up.is_set(), device=input_ids.device)

    stopping = [Abandoned()]
    if config.deadline_seconds:
        stopping.append(MaxTimeCriteria(config.deadline_seconds))
    sampling = config.temperature > 0
    return {
        "max_new_tokens": config.max_new_tokens,
        "do_sample": sampling,
        **({"temperature": config.temperature, "top_p": config.top_p} if sampling else {}),
        "repetition_penalty": config.repetition_penalty,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "stopping_criteria": StoppingCriteriaList(stopping),
    }
