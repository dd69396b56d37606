"""OBO ontologies, by obonet. A stanza that is cut or broken is told with its line and left out; the others are read."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from attunement.errors import DataError, MissingExtraError
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing.found import Found, decoded
from attunement.sources.knowledge.importing.origins import ontology, stated_licence, upper

_LINE = re.compile(r"[\w-]+:\s?.*|!.*|")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LICENCE = re.compile(r"^property_value: \S*licen[cs]e\S* (.*)$", re.M | re.I)


def read_obo(path: Path) -> Found:
    """The defined terms of an OBO file, plain or gzip. Raises `DataError` when it is none."""
    try:
        import obonet
    except ImportError as error:
        raise MissingExtraError("reading OBO ontologies", "knowledge") from error
    found = Found()
    text = decoded(path)
    head, *stanzas = re.split(r"^(?=\[\w+\]\s*$)", text, flags=re.M)
    if not stanzas:
        raise DataError(f"{path} is no OBO ontology: it has no [Term]")
    licence = stated_licence("\n".join(_LICENCE.findall(head)))
    whole = _whole_stanzas(path, head, stanzas, found)
    graph = obonet.read_obo(io.StringIO("format-version: 1.2\nontology: concepts\n\n" + "".join(whole)), ignore_obsolete=True)
    for term, facts in graph.nodes(data=True):
        _add(found, path, str(term), facts, licence)
    return found


def _whole_stanzas(path: Path, head: str, stanzas: list[str], found: Found) -> list[str]:
    """The terms that can be read; what cannot is told."""
    line, kept = head.count("\n") + 1, []
    for number, stanza in enumerate(stanzas):
        cut = number == len(stanzas) - 1 and not stanza.endswith("\n")
        if stanza.startswith("[Term]"):
            fault = "the file ends inside it" if cut else _fault(stanza)
            if fault:
                found.problems.append(f"{path}, line {line}: a term is left out, {fault}")
            elif "\nis_obsolete: true" in stanza:
                found.left_out["obsolete"] += 1
            else:
                kept.append(stanza.rstrip("\n") + "\n\n")
        line += stanza.count("\n")
    return kept


def _fault(stanza: str) -> str:
    lines = stanza.splitlines()[1:]
    if not any(re.match(r"id: \S", line) for line in lines):
        return "it has no id"
    wrong = next((line for line in lines if not _LINE.fullmatch(line)), None)
    if wrong is not None:
        return f"this is no 'tag: value': {wrong[:60]!r}"
    texts = [line for line in lines if line.startswith(("def:", "synonym:"))]
    return "a quotation mark is missing" if any(not _TEXT.search(line) for line in texts) else ""


def _add(found: Found, path: Path, term: str, facts: dict[str, Any], licence: str) -> None:
    prefix = term.split(":")[0]
    if prefix in upper():
        found.left_out["upper_ontology"] += 1
        return
    source = ontology(prefix, licence, path)
    quoted = _TEXT.search(facts.get("def", ""))
    found.add(
        Concept(
            concept_id=term.replace(prefix, source.prefix, 1),
            label=facts.get("name", ""),
            category=source.category,
            content=quoted[1].replace('\\"', '"') if quoted else "",
            source=source.name,
            licence=source.licence,
            synonyms=tuple(m[1] for m in map(_TEXT.search, facts.get("synonym", ())) if m),
            parents=tuple(_own_id(parent) for parent in facts.get("is_a", ())),
        )
    )


def _own_id(term: str) -> str:
    prefix, colon, rest = term.partition(":")
    return prefix.lower() + colon + rest
