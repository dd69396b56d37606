"""docs/compliance.md holds every line of the Security Rule, and each file and test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from attunement.compliance.assessment import CHECKS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "compliance.md").read_text(encoding="utf-8")
ROWS = {
    cells[0]: cells
    for line in TEXT.splitlines()
    if line.startswith("| 164.")
    for cells in [[c.strip() for c in line.strip("| ").split(" | ")]]
}
RULE = """
308(a)(1)(i) 308(a)(1)(ii)(A) 308(a)(1)(ii)(B) 308(a)(1)(ii)(C) 308(a)(1)(ii)(D) 308(a)(2) 308(a)(3)(i) 308(a)(3)(ii)(A) 308(a)(3)(ii)(B) 308(a)(3)(ii)(C)
308(a)(4)(i) 308(a)(4)(ii)(A) 308(a)(4)(ii)(B) 308(a)(4)(ii)(C) 308(a)(5)(i) 308(a)(5)(ii)(A) 308(a)(5)(ii)(B) 308(a)(5)(ii)(C) 308(a)(5)(ii)(D) 308(a)(6)(i)
308(a)(6)(ii) 308(a)(7)(i) 308(a)(7)(ii)(A) 308(a)(7)(ii)(B) 308(a)(7)(ii)(C) 308(a)(7)(ii)(D) 308(a)(7)(ii)(E) 308(a)(8) 308(b)(1) 308(b)(2) 308(b)(3)
310(a)(1) 310(a)(2)(i) 310(a)(2)(ii) 310(a)(2)(iii) 310(a)(2)(iv) 310(b) 310(c) 310(d)(1) 310(d)(2)(i) 310(d)(2)(ii) 310(d)(2)(iii) 310(d)(2)(iv)
312(a)(1) 312(a)(2)(i) 312(a)(2)(ii) 312(a)(2)(iii) 312(a)(2)(iv) 312(b) 312(c)(1) 312(c)(2) 312(d) 312(e)(1) 312(e)(2)(i) 312(e)(2)(ii)
314(a)(1) 314(a)(2)(i) 314(a)(2)(ii) 314(a)(2)(iii) 314(b)(1) 314(b)(2) 316(a) 316(b)(1) 316(b)(2)(i) 316(b)(2)(ii) 316(b)(2)(iii)
""".split()  # fmt: skip


def test_every_line_of_the_rule_is_answered() -> None:
    assert list(ROWS) == [f"164.{paragraph}" for paragraph in RULE]


def test_every_file_and_test_that_it_names_is_there() -> None:
    for paragraph, cells in ROWS.items():
        named = re.findall(r"`((?:src|tests)/[^`]+)`", " ".join(cells))
        assert bool(named) == ("Organisation" not in cells), f"{paragraph}: code and test, or the organisation"
        for place in named:
            path, _, test = place.partition("::")
            assert (ROOT / path).is_file(), f"{paragraph} names {path}"
            assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{paragraph} names {place}"
        assert not named or {part.split("/")[0] for part in named} == {"src", "tests"}, f"{paragraph} needs code and a test"


def test_checks_speak_to_paragraphs_that_there_are() -> None:
    assert {paragraph for check in CHECKS for paragraph in check.hipaa} <= set(ROWS)
    assert len({check.id for check in CHECKS}) == len(CHECKS)


def test_commands_that_the_pages_name_are_there() -> None:
    from attunement.cli.main import app
    from attunement.cli.reference import commands

    known = {name for name, _ in commands(app)}
    for page in ("compliance", "runbook", "responsibilities", "threat-model"):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for words in re.findall(r"`attune ([a-z -]+)", text):
            name = "attune " + words.split(" -")[0].strip()
            assert any(name == one or name.startswith(f"{one} ") for one in known), f"docs/{page}.md names {name}"
