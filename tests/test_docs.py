"""The generated reference stands in docs/ as the code has it, and nothing is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attunement.cli.main import app
from attunement.cli.reference import command_line, commands, configuration, environment_variable, http_routes
from attunement.config import Settings, fields

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(("name", "text"), [("configuration.md", configuration()), ("cli.md", command_line(app))])
def test_generated_files_are_current(name: str, text: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == text, f"docs/{name} is out of date: make docs"


def test_every_setting_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for key, info in fields():
        assert f"| `{key}` |" in text
        assert f"`{environment_variable(key)}`" in text
        assert info.description.replace("|", "\\|") in text
    for section in set(Settings.model_fields) - {"home"}:
        assert f"\n## [{section}]\n" in text


def test_every_command_is_documented_with_an_example() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    names = dict(commands(app))
    assert {"attune data build", "attune train run", "attune eval run", "attune serve", "attune chat", "attune demo"} <= set(
        names
    )
    for name, function in names.items():
        assert f"\n## {name}\n" in text
        assert f"Example: `{name}" in (function.__doc__ or ""), f"{name} has no example"


def test_relative_links_lead_somewhere() -> None:
    for path in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_paths_named_in_the_guides_exist() -> None:
    """A file or folder of this tree that a page names in backticks is there."""
    for path in [*DOCS.rglob("*.md"), *(ROOT / n for n in ("CONTRIBUTING.md", "SECURITY.md"))]:
        for named in re.findall(
            r"`((?:src|tests|docs|scripts|recipes|benchmarks|\.ci)/[\w./-]*)`", path.read_text(encoding="utf-8")
        ):
            assert (ROOT / named).exists(), f"{path.relative_to(ROOT)} names {named}"


def test_routes_are_told_with_their_fields() -> None:
    described = {
        "paths": {
            "/api/v1/inference": {
                "post": {
                    "description": "Answer one turn.",
                    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}},
                    "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"type": "object", "properties": {"score": {"type": "number", "description": "0-1."}}}}}}, "422": {"description": "Refused"}},
                }
            }
        },
        "components": {"schemas": {"Ask": {"required": ["text"], "properties": {
            "text": {"type": "string", "description": "What is said."},
            "before": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/Turn"}]}, "title": "Before"},
        }}}},
    }  # fmt: skip
    text = http_routes(described)
    assert "## POST /api/v1/inference\n\nAnswer one turn." in text
    assert "- `text` (string): What is said." in text
    assert "- `before` (list of string or Turn, optional): Before" in text
    assert "- `score` (number): 0-1." in text


def test_the_routes_are_those_of_the_service() -> None:
    from attunement.serving.app import create_app
    from attunement.serving.service import DeploymentService

    text = http_routes(create_app(DeploymentService()).openapi())
    assert (DOCS / "api.md").read_text(encoding="utf-8") == text, "docs/api.md is out of date: make docs"
