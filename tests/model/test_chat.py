"""Talks as token ids: what is learned, what is dropped, and that a prompt is the beginning of what was learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.model.base import load_tokenizer
from attunement.model.chat import IGNORED, encode_example, encode_prompt, to_whole_sentences

TOKENIZER = load_tokenizer("attunement-base")
TALK = [
    {"role": "user", "content": "I feel sad. " * 20},
    {"role": "assistant", "content": "What happened? " * 20},
    {"role": "user", "content": "I lost my dog."},
    {"role": "assistant", "content": "I am so sorry. What was her name?"},
]


def learned(labels: list[int]) -> str:
    return str(TOKENIZER.decode([label for label in labels if label != IGNORED]))


def test_only_the_last_reply_is_learned_with_its_end() -> None:
    found = encode_example(TOKENIZER, TALK, 512)
    assert learned(found.labels) == "I am so sorry. What was her name?<|end|>"
    assert "What happened?" in TOKENIZER.decode(found.ids)
    assert all(label in (IGNORED, token) for token, label in zip(found.ids, found.labels, strict=True))


def test_the_prompt_is_the_beginning_of_the_example() -> None:
    prompt = encode_prompt(TOKENIZER, TALK[:-1], 512)
    assert encode_example(TOKENIZER, TALK, 512).ids[: len(prompt)] == prompt


def test_the_oldest_turns_go_first() -> None:
    found = encode_example(TOKENIZER, TALK, 60)
    assert TOKENIZER.decode(found.ids).startswith("<|bos|><|user|>I lost my dog.")
    assert learned(found.labels).startswith("I am so sorry.")
    assert TOKENIZER.decode(encode_prompt(TOKENIZER, TALK[:-1], 60)).endswith("I lost my dog.<|end|><|assistant|>")


def test_a_system_message_stays() -> None:
    found = encode_example(TOKENIZER, [{"role": "system", "content": "Be kind."}, *TALK], 60)
    assert "Be kind." in TOKENIZER.decode(found.ids) and "I feel sad" not in TOKENIZER.decode(found.ids)


def test_a_question_that_is_too_long_leaves_half_to_the_reply() -> None:
    talk = [{"role": "user", "content": "so much " * 500}, {"role": "assistant", "content": "Tell me more. " * 100}]
    found = encode_example(TOKENIZER, talk, 64)
    assert len(found.ids) == 64 and sum(label != IGNORED for label in found.labels) == 32


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.lists(st.sampled_from(["so", "I", "feel", "low", "today", "why", "?"]), min_size=1, max_size=60),
        min_size=1,
        max_size=6,
    ),
    longest=st.integers(16, 200),
)
def test_lengths_are_kept_whatever_comes(words: list[list[str]], longest: int) -> None:
    talk = [
        {"role": ("user", "assistant")[i % 2], "content": " ".join(part)}
        for i, part in enumerate([*words, ["yes"]] if len(words) % 2 else words)
    ]
    if len(talk) >= 2:
        found = encode_example(TOKENIZER, talk, longest)
        assert len(found.ids) == len(found.labels) <= longest
        assert any(label != IGNORED for label in found.labels)
    users = talk if talk[-1]["role"] == "user" else talk[:-1]
    assert 0 < len(encode_prompt(TOKENIZER, users, longest)) <= longest


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("I see. That sounds", "I see."),
        ("Is it? Yes! And", "Is it? Yes!"),
        ("It was 3.5 miles", "It was 3.5 miles"),
        ("no end here ", "no end here"),
        ('She said "go." Then', 'She said "go."'),
    ],
)
def test_replies_end_with_a_sentence(text: str, whole: str) -> None:
    assert to_whole_sentences(text) == whole


class Failing:
    """A model whose generation breaks."""

    device = torch.device("cpu")

    class config:
        context_length = 64

    def generate(self, **_: Any) -> None:
        raise RuntimeError("out of memory")


def test_an_error_of_the_model_reaches_the_caller() -> None:
    from attunement.model.chat import reply
    from attunement.records import GenerationConfig

    with pytest.raises(RuntimeError, match="out of memory"):
        reply(Failing(), TOKENIZER, TALK[:1], GenerationConfig(8))
