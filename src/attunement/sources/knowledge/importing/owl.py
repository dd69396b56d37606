"""OWL ontologies in RDF/XML, by rdflib. What stands before a cut is kept; imports are not followed, nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.parsers import expat

from attunement.errors import DataError, MissingExtraError
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing.found import Found, unpacked
from attunement.sources.knowledge.importing.origins import ontology, stated_licence, upper

_PLAIN_ENTITY = re.compile(r"[^\"'&%<]{0,200}")
OBO = "http://purl.obolibrary.org/obo/"
DEFINITION, ALTERNATIVE = OBO + "IAO_0000115", OBO + "IAO_0000118"
SYNONYMS = "http://www.geneontology.org/formats/oboInOwl#"
SYNONYM_KINDS = ("hasExactSynonym", "hasSynonym", "hasRelatedSynonym", "hasNarrowSynonym", "hasBroadSynonym")


def check_entities(path: Path, data: bytes) -> None:
    """Raises `DataError` for entities that name a file or an address or expand one another; short names for addresses pass."""
    parser = expat.ParserCreate()  # the one that rdflib's reader uses: it understands the same encodings

    def declared(_name: str, is_parameter: bool, value: str | None, *_: object) -> None:
        if is_parameter or value is None or not _PLAIN_ENTITY.fullmatch(value):
            raise DataError(f"{path} declares XML entities that refer to others or to files: not read, they may be an attack")

    def begun(*_: object) -> None:
        raise _PrologEnds

    parser.EntityDeclHandler, parser.StartElementHandler = declared, begun
    with suppress(_PrologEnds, expat.ExpatError):  # what is broken is told by who reads it
        parser.Parse(data, True)


class _PrologEnds(Exception):
    """Entities are declared before the first element."""


def read_owl(path: Path) -> Found:
    """The defined classes of an OWL file. Raises `DataError` when nothing of it can be read."""
    try:
        from rdflib import RDF, Graph, URIRef
        from rdflib.exceptions import ParserError
    except ImportError as error:
        raise MissingExtraError("reading OWL ontologies", "knowledge") from error
    from xml.sax import SAXException

    found, graph, data = Found(), Graph(), unpacked(path)
    check_entities(path, data)
    try:
        graph.parse(data=data, format="xml", publicID="file:ontology")
    except (SAXException, ParserError) as error:
        found.problems.append(f"{path} is cut or broken, {_told(error)}: the classes before that were read")
    licence = stated_licence(" ".join(str(o) for _, p, o in graph if "licen" in str(p).lower()))
    owl_class = URIRef("http://www.w3.org/2002/07/owl#Class")
    terms = sorted({str(s) for s in graph.subjects(RDF.type, owl_class) if isinstance(s, URIRef)})
    if not terms:
        raise DataError(f"{path} is no OWL in RDF/XML, or cut before its first class")
    for term in terms:
        _add(found, path, graph, URIRef(term), licence)
    return found


def _told(error: Exception) -> str:
    line = getattr(error, "getLineNumber", lambda: None)()
    return f"line {line}" if line else str(error).splitlines()[0][:120]


def _add(found: Found, path: Path, graph: Any, term: Any, licence: str) -> None:
    from rdflib import OWL, RDFS, URIRef

    prefix, local = _split(str(term))
    if not prefix or prefix in upper():
        found.left_out["upper_ontology"] += 1
        return
    if str(graph.value(term, OWL.deprecated)).lower() == "true":
        found.left_out["obsolete"] += 1
        return
    source = ontology(prefix, licence, path)
    synonyms = [o for kind in SYNONYM_KINDS for o in graph.objects(term, URIRef(SYNONYMS + kind))]
    found.add(
        Concept(
            concept_id=f"{source.prefix}:{local}",
            label=_english(graph.objects(term, RDFS.label)),
            category=source.category,
            content=_english(graph.objects(term, URIRef(DEFINITION))),
            source=source.name,
            licence=source.licence,
            synonyms=_in_english([*synonyms, *graph.objects(term, URIRef(ALTERNATIVE))]),
            parents=tuple(sorted(_concept_id(str(o)) for o in graph.objects(term, RDFS.subClassOf) if isinstance(o, URIRef))),
        )
    )


def _split(address: str) -> tuple[str, str]:
    """`.../obo/MF_0000030` as ("MF", "0000030")."""
    prefix, mark, local = re.split(r"[/#]", address)[-1].rpartition("_")
    return (prefix, local) if mark and prefix.isalpha() else ("", "")


def _concept_id(address: str) -> str:
    prefix, local = _split(address)
    return f"{prefix.lower()}:{local}"


def _in_english(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted({str(v) for v in values if (getattr(v, "language", None) or "en").lower().startswith("en")}))


def _english(values: Iterable[Any]) -> str:
    """One of `values`: in English, the longest where several are given."""
    return max(_in_english(values), key=len, default="")
