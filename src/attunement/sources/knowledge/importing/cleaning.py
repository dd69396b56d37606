"""Definitions as ontologies hold them, made into sentences: class marks, markup, entities, references and placeholders go."""

from __future__ import annotations

import html
import re
import unicodedata

_HTML = re.compile(r"</?(?:br|p|i|b|u|em|strong|sup|sub|a|ul|ol|li|span|div|font|h\d)(?:\s[^<>]*)?/?>", re.I)
_MARK = re.compile(r"<([^<>]{1,80})>")
_REFERENCE = re.compile(
    r"(?<!\s)\s*[\[(]\s*(?:(?:adapted\s+)?from\s+)?(?:source:?\s*)?(?:wikipedia|url|https?|wp|pmid|doi|isbn|nbo|go|see)\b[^\])]{0,300}[\])]\s*(?:\.\s*)?$",
    re.I,
)
_URL = re.compile(r"(?<!\s)\s*\(?(?:https?://|www\.)\S+(?:\s+\.)?\s*$", re.I)
_PLACEHOLDER = re.compile(
    r"(?:add|write|insert)(?: an?| your)? definition here|no definition submitted yet|none|n/?a|tbd|todo|null|undefined|definition|no definition(?: available| provided)?|\W*|.*\bplaceholder\b.*",
    re.I,
)
_MISREAD = re.compile("[\u00c2-\u00f4][\u0080-\u00bf]{1,3}")
"""UTF-8 that somebody read as Latin-1: Cognitive Atlas has "mind\u00e2\u0080\u0099s"."""
_WORDS = re.compile(r"[^\W_]+")
_ESCAPED = {r"\n": " ", r"\t": " ", r"\,": ",", r"\:": ":", r"\;": ";", r"\(": "(", r"\)": ")", r"\[": "[", r"\]": "]"}
MIN_WORDS = 3
"""A definition of fewer words defines nothing ("see anger")."""


def clean_text(text: str) -> str:
    """`text` on one line without marks, entities, escapes and trailing references."""
    for _ in range(2):  # "&amp;lt;" is found, too
        text = html.unescape(text)
    text = _MISREAD.sub(_read_again, text)
    text = _MARK.sub(r"\1", _HTML.sub(" ", text))
    text = re.sub(r"(?<!\\)\\+(['\"])", r"\1", text)
    for escaped, plain in _ESCAPED.items():
        text = text.replace(escaped, plain)
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    before = ""
    while before != text:
        before = text
        text = _URL.sub("", _REFERENCE.sub("", text)).rstrip()
    return text


def _read_again(misread: re.Match[str]) -> str:
    try:
        return misread[0].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return misread[0]


def definition(text: str) -> str:
    """`text` as a sentence; empty where it is a placeholder or says next to nothing."""
    text = clean_text(text).strip(" \"'`")
    if _PLACEHOLDER.fullmatch(text.rstrip(". ")) or len(_WORDS.findall(text)) < MIN_WORDS:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text.rstrip(",;: ") + "."


def label(text: str) -> str:
    """`text` as a name: one line, without marks."""
    return clean_text(text.replace("_", " ")).strip(" .;,")


def normalised(text: str) -> str:
    """The form by which labels are the same: case, accents, punctuation and a plural's `s` apart."""
    folded = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    words = _WORDS.findall(folded.replace("'s", "s").replace("’s", "s"))
    return " ".join(_singular(word) for word in words)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
