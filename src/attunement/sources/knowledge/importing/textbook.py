"""OpenStax textbooks in CNXML: glossaries first, then bold terms, sections, boxes and tables where the text defines them.

A glossary entry is a definition. Of what has only a place in the text, the sentence that names it and the next one are taken,
and it is left out where no sentence names it: a heading is no concept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attunement.errors import DataError, MissingExtraError
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing.cleaning import clean_text, normalised
from attunement.sources.knowledge.importing.found import Found, unpacked
from attunement.sources.knowledge.importing.origins import Source, chapter_category, stated_licence

_APPARATUS = {"references", "review-questions", "critical-thinking", "personal-application", "section-quiz", "short-answer",
    "further-research", "contrib-auth", "sr-contrib-auth"}  # fmt: skip
_SKIPPED = {"note", "figure", "table", "exercise", "media", "list", "equation", "title", "label"}
"""Inside a section they are read on their own."""
_SENTENCE = re.compile(r"(?<=[.!?])[”\"’)]*\s+(?=[A-Z“\"(])")
_NOT_AN_END = re.compile(r"\b(?:e\.g|i\.e|vs|Dr|Mr|Mrs|Ms|St|et al|U\.S|etc|Fig|[A-Z])\.$")
_CITATION = re.compile(r"(?<!\s)\s*\((?:[^()]{0,300}\b(?:19|20)\d\d[a-z]?[^()]{0,300}|Figure[^()]*|)\)")
_SMALL = frozenset("a an and as at by for from in into is of on or the to with what why how do does are".split())
WORDS_AT_MOST = 90
"""Of a definition taken from the text."""


def read_textbook(path: Path) -> Found:
    """The concepts of one module (`index.cnxml`); its book's collection file tells chapter and licence.

    Raises `DataError` when it is no CNXML or declares entities.
    """
    root, found = _parsed(path), Found()
    if _tag(root) != "document":
        raise DataError(f"{path} is no CNXML module")
    if root.get("class") == "preface":  # about the book, not about its subject
        return found
    module = Module(path, root)
    named: set[str] = set()
    for kind, name, text in module.entries():
        key = normalised(name)
        if key in named:
            continue
        named.add(key)
        before = len(found.concepts)
        found.add(module.concept(kind, name, text))
        if len(found.concepts) == before:
            named.discard(key)  # a later place may define it
    return found


def _parsed(path: Path) -> Any:
    try:
        from defusedxml import ElementTree
        from defusedxml.common import DefusedXmlException
    except ImportError as error:
        raise MissingExtraError("reading textbooks", "knowledge") from error
    try:
        return ElementTree.fromstring(unpacked(path), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(f"{path} declares a document type or entities: not read, they may be an attack") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is no whole XML: {error}") from error


class Module:
    """A chapter's section with what its book says about it."""

    def __init__(self, path: Path, root: Any) -> None:
        self._root, self._name = root, path.parent.name
        self._source = _book(path)

    def concept(self, kind: str, name: str, text: str) -> Concept:
        slug = re.sub(r"\W+", "-", name.casefold()).strip("-")
        return Concept(
            concept_id=f"{self._source.prefix}:{self._name}-{slug}",
            label=name,
            category=self._source.category,
            content=text,
            source=self._source.name,
            licence=self._source.licence,
            clinical_context="" if kind == "glossary" else f"From a {kind} of the book.",
        )

    def entries(self) -> Iterator[tuple[str, str, str]]:
        """(Kind, name, text) of everything that may be a concept; the surest first."""
        for entry in self._root.iter():
            if _tag(entry) == "definition":
                parts = {_tag(child): _text(child) for child in entry}
                yield "glossary", parts.get("term", ""), parts.get("meaning", "")
        blocks = list(_blocks(self._root))
        for block in blocks:
            yield from _bold_terms(block)
        for block in blocks:
            if _tag(block) in ("section", "note"):
                yield from _headed(block)
            elif _tag(block) == "table":
                yield from _rows(block)
            elif _tag(block) == "figure":
                yield from _caption(block)


def _blocks(node: Any) -> Iterator[Any]:
    """Paragraphs, sections, notes, tables and figures of the text, without questions and references."""
    for child in node:
        tag = _tag(child)
        if tag in ("metadata", "glossary", "exercise") or set((child.get("class") or "").split()) & _APPARATUS:
            continue
        if tag in ("para", "section", "note", "table", "figure", "item"):
            yield child
        yield from _blocks(child)


def _bold_terms(block: Any) -> Iterator[tuple[str, str, str]]:
    if _tag(block) not in ("para", "item"):
        return
    sentences = _sentences(_text(block))
    for term in block.iter():
        if _tag(term) == "term" and "no-emphasis" not in (term.get("class") or ""):
            name = _text(term)
            yield "bold term", name, _around(sentences, name, exact=True)


def _headed(block: Any) -> Iterator[tuple[str, str, str]]:
    """A section or box by its title, defined by its own paragraphs."""
    title = next((_text(child) for child in block if _tag(child) == "title"), "")
    if 0 < len(title.split()) <= 8:
        paragraphs = [_text(child) for child in block if _tag(child) == "para"][:4]
        yield _tag(block), title.strip(" ?:"), _around(_sentences(" ".join(paragraphs)), title)


def _rows(block: Any) -> Iterator[tuple[str, str, str]]:
    """Rows of a table of names and what they mean."""
    body = next((node for node in block.iter() if _tag(node) == "tbody"), None)
    for row in body if body is not None else ():
        cells = [_text(cell) for cell in row if _tag(cell) == "entry"]
        if len(cells) == 2 and 0 < len(cells[0].split()) <= 5 and len(cells[1].split()) >= 5:
            yield "table", cells[0], cells[1]


def _caption(block: Any) -> Iterator[tuple[str, str, str]]:
    """What a figure shows, where its caption names it in bold or the figure has a title."""
    caption = next((child for child in block if _tag(child) == "caption"), None)
    names = [_text(n) for n in block.iter() if _tag(n) == "term" or (_tag(n) == "title" and n in list(block))]
    for name in names if caption is not None else ():
        yield "figure", name, _around(_sentences(_text(caption)), name)


def _around(sentences: list[str], name: str, exact: bool = False) -> str:
    """The first sentence that names `name`, and the next one; empty where none does."""
    words = [word for word in normalised(name).split() if word not in _SMALL]
    for number, sentence in enumerate(sentences):
        said = normalised(sentence)
        if words and (f" {normalised(name)} " in f" {said} " or (not exact and set(words) <= set(said.split()))):
            first, following = sentence.split(), " ".join(sentences[number + 1 : number + 2]).split()
            both = first + following if len(first) + len(following) <= WORDS_AT_MOST else first
            return " ".join(both[:WORDS_AT_MOST]) if not sentence.endswith("?") else ""
    return ""


def _sentences(text: str) -> list[str]:
    out: list[str] = []
    for part in _SENTENCE.split(text):
        if out and _NOT_AN_END.search(out[-1]):
            out[-1] += f" {part}"
        else:
            out.append(part)
    return out


def _text(node: Any) -> str:
    """The text of `node` on one line, without what is read on its own, citations and pointers to figures."""

    def pieces(part: Any) -> Iterator[str]:
        yield part.text or ""
        for child in part:
            if _tag(child) not in _SKIPPED:
                yield from pieces(child)
            yield child.tail or ""

    return " ".join(_CITATION.sub("", clean_text("".join(pieces(node)))).split())


def _tag(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]


def _book(path: Path) -> Source:
    """Name, licence and chapter of a module from the collection file of its book, two folders up."""
    for folder in path.parents[1:4]:
        for collection in sorted((folder / "collections").glob("*.xml")):
            root = _parsed(collection)
            chapter = _chapter(root, path.parent.name)
            if chapter is None:
                continue
            facts = {_tag(node): node for node in root.iter() if _tag(node) in ("title", "slug", "license")}
            title = next(_text(node) for node in root.iter() if _tag(node) == "title")
            licence = facts["license"].get("url", "") if "license" in facts else ""
            slug = _text(facts["slug"]) if "slug" in facts else collection.stem
            category = "social" if "sociology" in slug else chapter_category(chapter)
            return Source(f"OpenStax {title}", f"openstax-{slug}", stated_licence(licence) or "unknown", category)
    return Source(path.parent.name, "textbook")


def _chapter(node: Any, module: str, title: str = "") -> str | None:
    """The title of the chapter that holds `module`; None where the book has no such module."""
    for child in node:
        if _tag(child) == "module" and child.get("document") == module:
            return title
        if _tag(child) == "title":
            continue
        own = next((_text(part) for part in child if _tag(part) == "title"), title)
        found = _chapter(child, module, own)
        if found is not None:
            return found
    return None
