"""Each reader on whole, cut, hostile and wrong input: one line for what cannot be read, the rest is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.sources.knowledge.importing.files import files_below, read
from attunement.sources.knowledge.importing.found import Found

OBO = """format-version: 1.2
property_value: terms:license https://creativecommons.org/licenses/by/4.0/

[Term]
id: XY:1
name: phobia
def: "A fear that is out of \\"proportion\\" to its object." [url:http\\://x.org]
synonym: "phobic fear" EXACT []
synonym: "Phobia" EXACT []

[Term]
id: XY:2
name: agoraphobia
def: "A phobia of places that are hard to leave." []
is_a: XY:1 ! phobia

[Term]
id: XY:3
name: old phobia
def: "A phobia that nobody speaks of now." []
is_obsolete: true

[Term]
id: XY:4
name: undefined phobia
is_a: XY:2

[Term]
id: BFO:1
name: entity
def: "An entity is anything that exists." []
"""
OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#"
  xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:obo="http://purl.obolibrary.org/obo/" xmlns:dc="http://purl.org/dc/elements/1.1/">
<owl:Ontology rdf:about="http://x.org/o"><dc:license>https://creativecommons.org/licenses/by-nc/4.0/</dc:license></owl:Ontology>
<owl:Class rdf:about="http://x.org/XY_1"><rdfs:label xml:lang="de">Freude</rdfs:label><rdfs:label>joy</rdfs:label>
  <obo:IAO_0000115>A feeling of great happiness.</obo:IAO_0000115><rdfs:subClassOf rdf:resource="http://x.org/XY_2"/></owl:Class>
<owl:Class rdf:about="http://x.org/XY_2"><rdfs:label>emotion</rdfs:label>
  <obo:IAO_0000115>A feeling with a cause and a direction.</obo:IAO_0000115><rdfs:subClassOf rdf:resource="http://x.org/XY_1"/></owl:Class>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/GO_1"><rdfs:label>transport</rdfs:label></owl:Class>
</rdf:RDF>
"""
COLLECTION = """<col:collection xmlns:col="http://cnx.rice.edu/collxml" xmlns:md="http://cnx.rice.edu/mdml">
<metadata><md:title>Minds 1e</md:title><md:license url="http://creativecommons.org/licenses/by-nc-sa/4.0/">x</md:license><md:slug>minds</md:slug></metadata>
<col:content><col:subcollection><md:title>Memory</md:title><col:content><col:module document="m1"/></col:content></col:subcollection></col:content>
</col:collection>"""
MODULE = """<document xmlns="http://cnx.rice.edu/cnxml"><title>How we remember</title><content>
<para id="p">Nobody knows. When the brain takes up something, this is <term>encoding</term> (<link/>), as it is called (Smith, 2009). It comes first.
 <term class="no-emphasis">Smith</term> found it.</para>
<section><title>Long-Term Memory</title><para>You may ask. Long-term memory keeps what we know for years. It has no known limit. More.</para></section>
<section><title>Unnamed Thing</title><para>Nothing here says what the heading means.</para></section>
<section class="review-questions"><title>Recall</title><para>Recall is asked for here in a question.</para></section>
<table><tgroup><tbody><row><entry>Chunking</entry><entry>Putting single items together into larger ones</entry></row></tbody></tgroup></table>
</content><glossary><definition><term>recall</term><meaning>taking something out of memory without a cue</meaning></definition>
<definition><term>Encoding</term><meaning>input of information into the memory system</meaning></definition></glossary></document>"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def labels(found: Found) -> list[str]:
    return [concept.label for concept in found.concepts]


def test_obo(tmp_path: Path) -> None:
    found = read(write(tmp_path / "xy.obo", OBO))
    first, second = found.concepts
    assert (first.concept_id, first.licence, first.synonyms) == ("xy:1", "CC-BY-4.0", ("phobic fear",))
    assert first.content == 'A fear that is out of "proportion" to its object.'
    assert second.parents == ("xy:1",)
    assert found.left_out == {"obsolete": 1, "undefined": 1, "upper_ontology": 1}
    assert found.hierarchy["xy:4"].parents == ("xy:2",)
    assert found.problems == []


def test_packed_obo_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "xy.obo.gz"
    path.write_bytes(gzip.compress(OBO.encode()))
    assert labels(read(path)) == ["phobia", "agoraphobia"]
    path.write_bytes(gzip.compress(OBO.encode())[:-20])
    assert "cannot be read" in read(path).problems[0]


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (OBO[: OBO.index("hard to leave")], "line 11: a term is left out, the file ends inside it"),
        (OBO.replace("id: XY:2", "idXY2"), "line 11: a term is left out, it has no id"),
        (OBO.replace('leave." []', "leave."), "line 11: a term is left out, a quotation mark is missing"),
        (OBO.replace("is_a: XY:1 ! phobia", "is a phobia"), "no 'tag: value': 'is a phobia'"),
    ],
)
def test_a_broken_obo_loses_one_term(tmp_path: Path, broken: str, fault: str) -> None:
    found = read(write(tmp_path / "xy.obo", broken))
    assert labels(found) == ["phobia"]
    assert len(found.problems) == 1 and fault in found.problems[0]


def test_what_is_no_obo(tmp_path: Path) -> None:
    assert "has no [Term]" in read(write(tmp_path / "a.obo", "hello")).problems[0]
    (tmp_path / "b.obo").write_bytes(b"\xff\xfe[Term]")
    assert "is not UTF-8" in read(tmp_path / "b.obo").problems[0]


def test_owl(tmp_path: Path) -> None:
    found = read(write(tmp_path / "xy.owl", OWL))
    joy = found.concepts[0]
    assert (joy.concept_id, joy.label, joy.content) == ("xy:1", "joy", "A feeling of great happiness.")
    assert joy.licence == "CC-BY-NC-4.0"
    assert found.left_out == {"upper_ontology": 1}


def test_a_cut_owl_keeps_what_stands_before(tmp_path: Path) -> None:
    found = read(write(tmp_path / "xy.owl", OWL[: OWL.index("with a cause")]))
    assert labels(found) == ["joy"]
    assert len(found.problems) == 1 and "is cut or broken, line 8" in found.problems[0]
    assert "no OWL in RDF/XML" in read(write(tmp_path / "none.owl", "<html>")).problems[0]


@pytest.mark.parametrize(
    "entities",
    [
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">',
        '<!ENTITY x SYSTEM "file:///etc/passwd">',
        "<!ENTITY % p \"<!ENTITY q SYSTEM 'http://x.org'>\">",
    ],
)
def test_xml_never_expands_or_fetches(tmp_path: Path, entities: str) -> None:
    hostile = f"<!DOCTYPE rdf:RDF [{entities}]>"
    found = read(write(tmp_path / "a.owl", OWL.replace('<?xml version="1.0"?>', hostile)))
    assert found.concepts == [] and "may be an attack" in found.problems[0]
    module = hostile.replace("rdf:RDF", "document") + MODULE
    assert "may be an attack" in read(write(tmp_path / "m" / "index.cnxml", module)).problems[0]


def test_owl_with_short_names_for_addresses_is_read(tmp_path: Path) -> None:
    named = OWL.replace('<?xml version="1.0"?>', '<!DOCTYPE rdf:RDF [<!ENTITY xy "http://x.org/">]>').replace(
        '"http://x.org/XY_2"', '"&xy;XY_2"'
    )
    assert labels(read(write(tmp_path / "xy.owl", named))) == ["joy", "emotion"]


def test_textbook(tmp_path: Path) -> None:
    write(tmp_path / "collections" / "minds.collection.xml", COLLECTION)
    found = read(write(tmp_path / "modules" / "m1" / "index.cnxml", MODULE))
    by_label = {concept.label: concept for concept in found.concepts}
    assert list(by_label) == ["recall", "Encoding", "Long-Term Memory", "Chunking"]
    assert by_label["recall"].content == "Taking something out of memory without a cue."
    assert by_label["Long-Term Memory"].content == "Long-term memory keeps what we know for years. It has no known limit."
    assert {(c.source, c.licence, c.category) for c in found.concepts} == {("OpenStax Minds 1e", "CC-BY-NC-SA-4.0", "cognition")}
    assert by_label["recall"].concept_id == "openstax-minds:m1-recall"
    preface = MODULE.replace("<document ", '<document class="preface" ')
    assert read(write(tmp_path / "modules" / "m1" / "index.cnxml", preface)).concepts == []


def test_a_textbook_without_its_book_has_an_unknown_licence(tmp_path: Path) -> None:
    found = read(
        write(
            tmp_path / "m1" / "index.cnxml", MODULE.replace("<glossary>", "<para>").split("<para>")[0] + "</content></document>"
        )
    )
    assert found.concepts == []
    found = read(write(tmp_path / "m1" / "index.cnxml", MODULE))
    assert {concept.licence for concept in found.concepts} == {"unknown"}
    assert "no whole XML" in read(write(tmp_path / "m2" / "index.cnxml", MODULE[:300])).problems[0]


def test_json_lines_with_our_fields_and_broken_lines(tmp_path: Path) -> None:
    whole = {"concept_id": "own:ptsd", "label": "PTSD", "category": "clinical_diagnosis", "content": "A disorder after a trauma.", "source": "clinic",
        "licence": "Apache-2.0", "therapeutic_approaches": ["EMDR", "CPT"], "steps": ["a; b", "c"], "evidence": [{"approach": "CPT", "level": "high"}]}  # fmt: skip
    lines = [
        json.dumps(whole),
        '{"label": "cut',
        json.dumps({**whole, "category": "nonsense"}),
        "[1]",
        json.dumps({**whole, "label": ""}),
    ]
    found = read(write(tmp_path / "own.jsonl", "\n".join(lines)))
    (concept,) = found.concepts
    assert (concept.concept_id, concept.source, concept.licence) == ("own:ptsd", "clinic", "Apache-2.0")
    assert concept.therapeutic_approaches == ("EMDR", "CPT") and concept.steps == ("a; b", "c")
    assert [told.split(", ", 1)[1].split(":")[0] for told in found.problems] == ["line 2", "line 3", "line 4", "line 5"]


def test_csv_with_named_columns(tmp_path: Path) -> None:
    write(
        tmp_path / "knowledge.toml",
        'name = "Clinic"\nprefix = "clinic"\nlicence = "CC-BY-SA-4.0"\ncategory = "symptom"\n[columns]\nlabel = "Wort"\ncontent = "Was"',
    )
    found = read(
        write(
            tmp_path / "a.csv",
            'Wort;Was;synonyms\nrumination;"turning over; the same thoughts";brooding|mulling\nx;too;many;cells\n',
        )
    )
    (concept,) = found.concepts
    assert (concept.concept_id, concept.licence, concept.category) == ("clinic:rumination", "CC-BY-SA-4.0", "symptom")
    assert concept.synonyms == ("brooding", "mulling")
    assert "line 3: not as many cells as columns" in found.problems[0]


def test_wrong_columns_name_those_that_are_there(tmp_path: Path) -> None:
    (problem,) = read(write(tmp_path / "a.csv", "Begriff,Text\nx,y\n")).problems
    assert "no column for the label" in problem or "no label" in problem
    (problem,) = read(write(tmp_path / "b.csv", "term,text\nx,y\n")).problems
    assert "no column for the content" in problem and "text" in problem


def test_xlsx(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for row in (
        ["Term", "Definition", "Aliases"],
        ["insomnia", "trouble in falling or staying asleep", "sleeplessness"],
        [None, None, None],
        ["x", None, None],
    ):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    found = read(tmp_path / "a.xlsx")
    assert labels(found) == ["insomnia"] and found.left_out == {"undefined": 1}
    (tmp_path / "b.xlsx").write_bytes((tmp_path / "a.xlsx").read_bytes()[:500])
    assert "no XLSX table, or damaged" in read(tmp_path / "b.xlsx").problems[0]


def test_paths_without_anything_to_read(tmp_path: Path) -> None:
    for path, told in (
        (tmp_path / "no", "does not exist"),
        (tmp_path, "holds no file"),
        (write(tmp_path / "a.pdf", "x"), "no format that is read"),
    ):
        with pytest.raises(DataError, match=told):
            list(files_below(path))


@pytest.mark.realdata
def test_the_real_sources(shared: Path) -> None:
    if not (shared / "knowledge").is_dir():
        pytest.skip("../shared/knowledge is not on this machine")
    found = read(shared / "knowledge" / "symp" / "symp.obo")
    assert len(found.concepts) > 400 and not found.problems
    assert {concept.licence for concept in found.concepts} == {"CC0-1.0"}
    book = read(shared / "knowledge" / "openstax" / "psychology" / "modules" / "m82225" / "index.cnxml")
    assert {"intrinsic motivation", "habit"} <= set(labels(book))
    assert {concept.licence for concept in book.concepts} == {"CC-BY-4.0"}
