"""The promises of the house, read from the tree: layers, lightness, names, and what must never stand in a file."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import attunement

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "attunement"
LAYERS = [
    {"", "records", "errors", "config"},
    {"storage", "security", "providers", "embedding", "onnx_encoder", "readers", "quality", "model", "monitoring"},
    {"sources", "curation", "training", "evaluation", "progress", "compliance"},
    {"serving", "console", "cli", "__main__"},
]
"""docs/architecture.md; a room knows its own layer (stages excepted) and those below. "" is the package itself."""
STAGES = LAYERS[2]
FORBIDDEN_NAMES = re.compile(r"(utils?|helpers?|common|misc|manager|base_.*)\.py")
HEAVY = ("torch", "transformers", "lightning", "pyarrow", "matplotlib", "fastapi")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package with its syntax tree."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = ("attunement", *path.relative_to(SRC).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every absolute name that a module imports, inside functions too, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def own_imports(tree: ast.Module, top_only: bool = False) -> set[str]:
    """The modules of this package that `tree` imports; with `top_only` not those inside functions."""
    trees = [ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])] if top_only else [tree]
    found = set()
    for name, _ in (pair for part in trees for pair in imports(part)):
        if name.split(".")[0] == "attunement":
            found.add(name if name in modules() else name.rpartition(".")[0])
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def layer(module: str) -> int:
    for number, rooms in enumerate(LAYERS):
        if room(module) in rooms:
            return number
    raise AssertionError(f"{module} stands in no layer: add its room to docs/architecture.md and to LAYERS")


def tracked() -> list[Path]:
    """The files of the checkout that git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listing.returncode:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_down_only(module: str) -> None:
    for target in own_imports(modules()[module]):
        assert layer(target) <= layer(module), f"{module} imports {target}, which stands above it"
        if room(module) in STAGES and room(target) in STAGES:
            assert room(module) == room(target), f"the stage {module} imports the stage {target}"


def test_there_are_no_import_cycles() -> None:
    graph = {name: own_imports(tree, top_only=True) - {name} for name, tree in modules().items()}
    while free := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in free}
    assert not graph, f"these import each other: {sorted(graph)}"


@pytest.mark.parametrize("arguments", [["-c", "import attunement"], ["-m", "attunement", "--help"]])
def test_loads_nothing_heavy(arguments: list[str]) -> None:
    code = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    loaded = {line.rpartition("|")[2].strip() for line in code.stderr.splitlines()}
    assert "attunement" in loaded
    assert ("Usage: " in code.stdout) == ("--help" in arguments)
    assert not loaded & set(HEAVY)


def defined(tree: ast.Module) -> set[str]:
    """The names that a module defines at its top level."""
    names = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


def test_every_public_name_is_there() -> None:
    for name in set(attunement.__all__) - {"__version__"}:
        home = attunement._HOME[name]
        assert home in modules(), f"{name} should come from {home}, which does not exist"
        assert name in defined(modules()[home]), f"{home} defines no {name}"
    for module, tree in modules().items():
        for node in tree.body:
            if module != "attunement" and isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                missing = set(ast.literal_eval(node.value)) - defined(tree)
                assert not missing, f"{module}.__all__ names {missing}, which it does not define"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        attunement.Nonsense  # noqa: B018
    assert "DataPipeline" in dir(attunement)


def test_every_module_says_what_it_is_for() -> None:
    for module, tree in modules().items():
        if tree.body:
            assert ast.get_docstring(tree), f"{module} has no docstring"


def test_no_room_for_leftovers() -> None:
    assert [str(p) for p in SRC.rglob("*.py") if FORBIDDEN_NAMES.fullmatch(p.name)] == []


def test_third_party_imports_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=!~\[ ]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    wanted |= {
        "tokenizers",
        "huggingface-hub",
        "starlette",
        "anyio",
        "pydantic-core",
    }  # parts of transformers, fastapi and pydantic, pinned by them
    extras = {re.split(r"[<>=!~\[ .]", line)[0].lower() for lines in project["optional-dependencies"].values() for line in lines}
    homes = importlib.metadata.packages_distributions()
    for module, tree in modules().items():
        at_top = {node.lineno for node in tree.body}
        for name, line in imports(tree):
            top = name.split(".")[0]
            if top == "attunement" or top in sys.stdlib_module_names:
                continue
            if line not in at_top and top.lower().replace("_", "-") in extras:
                continue  # of an extra, imported where it is used
            owners = {owner.lower().replace("_", "-") for owner in homes.get(top, [])}
            assert owners & wanted, f"{module}, line {line}: {top} is not among the dependencies in pyproject.toml"


def test_nothing_runs_what_it_reads() -> None:
    """No pickle, eval, exec, yaml.load, os.system, shell=True; weights are safetensors."""
    for module, tree in modules().items():
        for name, line in imports(tree):
            assert name.split(".")[0] not in {"pickle", "dill", "shelve", "marshal"}, f"{module}, line {line}"
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "yaml.load", "os.system", "torch.load"} or _weights_only(node), (
                f"{module}: {called}"
            )
            shell = [k for k in node.keywords if k.arg == "shell" and ast.unparse(k.value) != "False"]
            assert not shell, f"{module}, line {node.lineno}: shell=True"


def _weights_only(call: ast.Call) -> bool:
    return any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)


def test_files_name_no_registry_and_no_machine() -> None:
    hosts = [
        "py" + "pi.org",
        "python" + "hosted.org",
        "download.py" + "torch.org",
        "registry.np" + "mjs.org",
        "deb.deb" + "ian.org",
    ]
    paths = ["/wo" + "rk/", "/op" + "t/wheels", "/op" + "t/pypi", "/tm" + "p/dev", "/roo" + "t/"]
    pattern = re.compile("|".join(map(re.escape, hosts + paths)).encode())
    for path in tracked():
        if path.suffix not in {".safetensors", ".parquet", ".png"}:
            found = pattern.search(path.read_bytes())
            assert not found, f"{path.relative_to(ROOT)} names {found[0].decode()}"  # type: ignore[index]


def test_setup_takes_the_pinned_torch() -> None:
    setup = (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    version = re.search(r"^TORCH_VERSION=(\S+)$", setup, re.M)
    assert version and f"\ntorch=={version[1]}\n" in constraints
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in constraints.splitlines())


def test_setup_says_which_python_it_needs() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "setup"], env={**os.environ, "PYTHON": "no-such-python"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("setup: Python 3.11 or newer is needed") and done.stderr.count("\n") == 1


def test_make_lists_its_commands() -> None:
    listing = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in ("setup", "demo", "test", "check", "docs", "bench", "clean"):
        assert f"make {command} " in listing


def test_ci_runs_what_the_readme_says() -> None:
    commands = [
        line for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    assert commands[0] == "set -euo pipefail"
    assert commands[-1] == "exec make test"
    assert len(commands) == 3
