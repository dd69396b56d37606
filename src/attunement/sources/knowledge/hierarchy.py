"""The hierarchy over all concepts: parents found by id or by name, cycles opened, entries without a definition bridged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing.cleaning import normalised
from attunement.sources.knowledge.importing.found import Node


class Hierarchy:
    """Who stands under whom. `cycles` names, one sentence each, the links that were left out because they led back."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._labels = {key: node.label for key, node in nodes.items()}
        by_name: dict[tuple[str, str], str] = {}
        for key, node in nodes.items():
            by_name.setdefault((key.partition(":")[0], normalised(node.label)), key)
        self._outside = {key: _outside(key, node) for key, node in nodes.items()}
        self._parents = {key: tuple(_resolved(key, node, nodes, by_name)) for key, node in nodes.items()}
        self.cycles = list(self._open_cycles())

    def label(self, concept_id: str) -> str:
        return self._labels.get(concept_id, "")

    def ancestors(self, concept_id: str) -> list[str]:
        """Ids above `concept_id`, the nearest first."""
        seen, queue = dict[str, None](), deque(self._parents.get(concept_id, ()))
        while queue:
            above = queue.popleft()
            if above not in seen:
                seen[above] = None
                queue.extend(self._parents.get(above, ()))
        return list(seen)

    def names_above(self, concept_id: str) -> list[str]:
        """Names of what stands above `concept_id`, the nearest first; also such as are in no file, where the source gives names."""
        above = self.ancestors(concept_id)
        outside = [name for key in (concept_id, *above) for name in self._outside.get(key, ())]
        return list(dict.fromkeys([self._labels[key] for key in above] + outside))

    def linked(self, concepts: Iterable[Concept]) -> list[Concept]:
        """`concepts` with the ids of the nearest of them above as `parents`."""
        concepts = list(concepts)
        kept = {concept.concept_id for concept in concepts}
        return [replace(concept, parents=tuple(self._nearest(concept.concept_id, kept))) for concept in concepts]

    def _nearest(self, concept_id: str, kept: set[str]) -> Iterator[str]:
        seen, queue = {concept_id}, deque(self._parents.get(concept_id, ()))
        while queue:
            above = queue.popleft()
            if above in seen:
                continue
            seen.add(above)
            if above in kept:
                yield above
            else:
                queue.extend(self._parents.get(above, ()))

    def _open_cycles(self) -> Iterator[str]:
        """Depth first, without recursion: a link to an entry that is still open leads back, and goes."""
        done: set[str] = set()
        for start in self._parents:
            path, stack = dict[str, None](), [(start, 0)]
            while stack:
                key, position = stack.pop()
                path[key] = None
                above = self._parents.get(key, ())
                if key in done or position >= len(above):
                    done.add(key)
                    path.pop(key, None)
                    continue
                parent = above[position]
                if parent in path:
                    self._parents[key] = above[:position] + above[position + 1 :]
                    yield f"the hierarchy has a cycle: '{self.label(key)}' ({key}) is not put under '{self.label(parent)}' ({parent})"
                    stack.append((key, position))
                    continue
                stack.append((key, position + 1))
                if parent not in done:
                    stack.append((parent, 0))


def _resolved(key: str, node: Node, nodes: Mapping[str, Node], by_name: Mapping[tuple[str, str], str]) -> Iterator[str]:
    prefix = key.partition(":")[0]
    for parent in node.parents:
        if parent in nodes:
            yield parent
        else:
            named = by_name.get((prefix, normalised(parent.removeprefix(f"{prefix}:"))))
            if named is not None and named != key:
                yield named


def _outside(key: str, node: Node) -> tuple[str, ...]:
    """Parents that are given by name, as WordNet's are."""
    prefix = key.partition(":")[0]
    names = (parent.removeprefix(f"{prefix}:") for parent in node.parents)
    return tuple(name for name in names if not any(c.isdigit() or c in "_:" for c in name))
