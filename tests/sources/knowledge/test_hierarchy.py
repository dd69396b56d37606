"""Parents are found, cycles opened and told, gaps bridged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.hierarchy import Hierarchy
from attunement.sources.knowledge.importing.found import Node


def concept(key: str) -> Concept:
    return Concept(key, key, "emotion", "A definition of it.", "s", "CC0-1.0")


def test_a_gap_is_bridged() -> None:
    hierarchy = Hierarchy({"a:1": Node("fear", ("a:2",)), "a:2": Node("undefined", ("a:3",)), "a:3": Node("emotion", ("a:9",))})
    assert hierarchy.ancestors("a:1") == ["a:2", "a:3"]
    assert hierarchy.linked([concept("a:1"), concept("a:3")])[0].parents == ("a:3",)


def test_parents_by_name_and_names_outside() -> None:
    hierarchy = Hierarchy({"wn:1": Node("fear", ("wn:feelings", "wn:state")), "wn:2": Node("feeling", ())})
    assert hierarchy.ancestors("wn:1") == ["wn:2"]
    assert hierarchy.names_above("wn:1") == ["feeling", "feelings", "state"]


def test_cycles_are_opened_and_told() -> None:
    hierarchy = Hierarchy({"a:1": Node("joy", ("a:2",)), "a:2": Node("emotion", ("a:1",)), "a:3": Node("self", ("a:3",))})
    assert hierarchy.ancestors("a:1") == ["a:2"]
    assert hierarchy.ancestors("a:2") == [] and hierarchy.ancestors("a:3") == []
    assert hierarchy.cycles == [
        "the hierarchy has a cycle: 'emotion' (a:2) is not put under 'joy' (a:1)",
        "the hierarchy has a cycle: 'self' (a:3) is not put under 'self' (a:3)",
    ]


@given(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4), max_size=8))
def test_no_hierarchy_has_a_cycle(links: dict[int, list[int]]) -> None:
    nodes = {f"a:{key}": Node(str(key), tuple(f"a:{parent}" for parent in parents)) for key, parents in links.items()}
    hierarchy = Hierarchy(nodes)
    assert not any(key in hierarchy.ancestors(key) for key in nodes)
