"""How many tokens a text may cost a model whose tokeniser is not known here: never fewer than it does."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from attunement.embedding import WEIGHTS

_PIECE = re.compile(r"( ?)([A-Za-z]+(?![^\W\d_]))|( ?)([^\W\d_]+|\d|[^\w\s]|_|\s)")
"""Words of English letters; others, digits and signs; white space that goes with none of them."""


def token_bound(text: str) -> int:
    """At least as many tokens as `text` has for the packaged base model, whose 6,144 pieces are few.

    English words cost what they cost it; models with more pieces take fewer. A digit is a token (some models join none), a word with other
    letters, a sign and a lone space one for each of their UTF-8 bytes, which no tokeniser of bytes exceeds.
    """
    count, words = 0, list[str]()
    for space, word, gap, other in _PIECE.findall(text):
        if word:
            words.append((space or "\n") + word)
        else:
            count += len(gap) + len(other.encode("utf-8", "surrogatepass"))
    return count + (len(_pieces().encode("".join(words)).ids) if words else 0)


@cache
def _pieces() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(WEIGHTS / "attunement-base" / "tokenizer.json"))
