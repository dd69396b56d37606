"""Every regular expression of the package with how it is used, and hostile texts for each: what it repeats, repeated, then broken off."""

from __future__ import annotations

import ast
import importlib
import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2] / "src" / "attunement"
CALLS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
ANCHORED = {"match", "fullmatch"}
SIZE = 20_000
BREAKS = ("\x00", "a", " ")


@dataclass(frozen=True)
class Expression:
    """One expression, where it stands, and whether it is only ever tried at the start of a text."""

    pattern: re.Pattern[str]
    where: str
    methods: frozenset[str]

    def run(self, text: str) -> None:
        """As the code does; an expression that is searched for is tried at every place."""
        if self.methods <= ANCHORED:
            for method in self.methods:
                getattr(self.pattern, method)(text)
        else:
            for _ in self.pattern.finditer(text):
                pass


@cache
def everything() -> tuple[Expression, ...]:
    """All of them, each once."""
    found = {(e.pattern.pattern, e.pattern.flags, e.methods): e for e in [*literals(), *built()]}
    return tuple(found.values())


def literals() -> Iterator[Expression]:
    """Those that stand as text in the code."""
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        names = {n.value: ast.unparse(n.targets[0]) for n in ast.walk(tree) if isinstance(n, ast.Assign)}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) in {f"re.{call}" for call in CALLS} and node.args):
                continue
            pattern, how = _text(node), {node.func.attr}  # type: ignore[attr-defined]
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            if pattern is None:
                continue
            if how == {"compile"}:
                name = names.get(node, "")
                how = set(re.findall(rf"\b{re.escape(name)}\.(\w+)", source)) & CALLS if name.isidentifier() else set()
                how |= _used().get(name, set()) if name.isidentifier() and not name.startswith("_") else set()
            yield Expression(pattern, where, frozenset(how or {"search"}))


def dynamic() -> list[str]:
    """Where an expression is put together while the program runs; `built` must know all of these."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in {f"re.{call}" for call in CALLS}
                and node.args
                and _text(node) is None
            ):
                found.append(str(path.relative_to(ROOT)))
    return sorted(set(found))


BUILT_IN = {
    "quality/counterfactual.py", "quality/rules.py", "readers/turns.py", "security/phi/detector.py", "security/phi/patterns.py",
    "security/phi/shifting.py", "sources/edge_cases/categories.py", "sources/edge_cases/safety.py",
}  # fmt: skip


def built() -> Iterator[Expression]:
    """Those that are put together from lexicons and lists."""
    from attunement.quality import counterfactual, rules
    from attunement.sources.edge_cases.categories import load_categories

    for path in sorted((ROOT / "quality" / "lexicon").glob("*.toml")):
        if path.stem != "demographics":
            for rule in rules.lexicon(path.stem):
                yield Expression(rule.pattern, f"{path.stem}.toml: {rule.code}", frozenset({"finditer"}))
    for name, pattern in counterfactual._patterns().items():
        how = "match" if name == "person after" else "finditer"  # once behind each term
        yield Expression(pattern, f"counterfactual: {name}", frozenset({how}))
    for category in load_categories()[0].values():
        for text in category.never_patterns:
            yield Expression(re.compile(rf"\b(?:{text})"), f"categories.toml: {category.id}", frozenset({"search"}))
    for module in ("quality.rules", "readers.turns", "security.phi.patterns", "security.phi.shifting"):
        yield from _globals(module)


def _globals(module: str) -> Iterator[Expression]:
    def walk(value: Any, depth: int = 0) -> Iterator[re.Pattern[str]]:
        if isinstance(value, re.Pattern):
            yield value
        elif depth < 3 and isinstance(value, list | tuple | dict):
            for part in value.values() if isinstance(value, dict) else value:
                yield from walk(part, depth + 1)
        elif depth < 3 and isinstance(getattr(value, "expression", None), re.Pattern):
            yield value.expression

    for name, value in vars(importlib.import_module(f"attunement.{module}")).items():
        for pattern in walk(value):
            yield Expression(pattern, f"{module}: {name}", frozenset({"finditer"}))


def _text(call: ast.Call) -> re.Pattern[str] | None:
    """The expression of a call whose text is all in the code, with its flags."""
    try:
        text = ast.literal_eval(call.args[0])
    except (ValueError, TypeError, SyntaxError):
        return None
    if isinstance(text, bytes):  # hostile texts are made as text; the expression is the same
        text = text.decode("latin-1")
    at = {"compile": 1, "search": 2, "match": 2, "fullmatch": 2, "findall": 2, "finditer": 2}.get(call.func.attr, 9)  # type: ignore[attr-defined]
    given = [k.value for k in call.keywords if k.arg == "flags"] + call.args[at : at + 1]
    flags = eval(compile(ast.Expression(given[0]), "flags", "eval"), {"re": re}) if given else 0
    return re.compile(text, flags) if isinstance(text, str) else None


@cache
def _used() -> dict[str, set[str]]:
    """Name of an expression to the methods that are called on it anywhere."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        for name, method in re.findall(
            r"\b(\w+)\.(search|match|fullmatch|subn?|split|findall|finditer)\b", path.read_text(encoding="utf-8")
        ):
            found.setdefault(name, set()).add(method)
    return found


# --- hostile texts -------------------------------------------------------------------------------------------------


def hostile(pattern: re.Pattern[str]) -> Iterator[str]:
    """Texts of `SIZE`: for each unbounded repetition what leads to it and what it repeats, over and over, then a break."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    seen = set()
    for lead, body in [("", _sample(tree)), *_repeats(tree, "")]:
        for unit in (body, lead + body, lead):
            for head in ("", lead):
                if unit and (head, unit) not in seen:
                    seen.add((head, unit))
                    yield from ((head + unit * (SIZE // len(unit)))[: SIZE - 1] + end for end in BREAKS)


def _repeats(tree: Any, lead: str) -> Iterator[tuple[str, str]]:
    """(what leads there, one turn) of each repetition that can go on for long."""
    for op, arg in tree:
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            _, most, inner = arg
            if most > 20:
                yield lead, _sample(inner)
            yield from _repeats(inner, lead)
        elif op is sre.SUBPATTERN:
            yield from _repeats(arg[3], lead)
        elif op is sre.BRANCH:
            for branch in arg[1]:
                yield from _repeats(branch, lead)
        elif op is sre.ATOMIC_GROUP:
            yield from _repeats(arg, lead)
        elif op in (sre.ASSERT, sre.ASSERT_NOT):
            yield from _repeats(arg[1], lead)
        lead += _sample([(op, arg)])


def _sample(tree: Any) -> str:
    """A text that the expression takes, mostly; lookarounds add nothing."""
    out = ""
    for op, arg in tree:
        if op is sre.LITERAL:
            out += chr(arg)
        elif op is sre.NOT_LITERAL:
            out += "a" if arg != ord("a") else "b"
        elif op is sre.ANY:
            out += "a"
        elif op is sre.IN:
            out += _one_of(arg)
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            out += _sample(arg[2]) * max(1, arg[0])
        elif op is sre.SUBPATTERN:
            out += _sample(arg[3])
        elif op is sre.ATOMIC_GROUP:
            out += _sample(arg)
        elif op is sre.BRANCH:
            out += _sample(arg[1][0])
    return out


CLASSES = {
    sre.CATEGORY_DIGIT: "1",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_WORD: "a",
    sre.CATEGORY_NOT_DIGIT: "a",
    sre.CATEGORY_NOT_SPACE: "a",
    sre.CATEGORY_NOT_WORD: " ",
}


def _one_of(choices: Any) -> str:
    if choices and choices[0][0] is sre.NEGATE:
        banned = re.compile("[" + "".join(_written(c) for c in choices[1:]) + "]")
        return next(c for c in "a1 A.-_,;:\t\x01é" if not banned.match(c))
    op, arg = choices[0]
    return chr(arg) if op is sre.LITERAL else chr(arg[0]) if op is sre.RANGE else CLASSES[arg]


def _written(choice: Any) -> str:
    op, arg = choice
    if op is sre.LITERAL:
        return re.escape(chr(arg))
    if op is sre.RANGE:
        return f"{re.escape(chr(arg[0]))}-{re.escape(chr(arg[1]))}"
    return {
        sre.CATEGORY_DIGIT: r"\d",
        sre.CATEGORY_SPACE: r"\s",
        sre.CATEGORY_WORD: r"\w",
        sre.CATEGORY_NOT_DIGIT: r"\D",
        sre.CATEGORY_NOT_SPACE: r"\S",
        sre.CATEGORY_NOT_WORD: r"\W",
    }[arg]
