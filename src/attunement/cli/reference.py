"""The generated reference: settings, commands and HTTP routes as Markdown, from the code that defines them.

`make docs` writes the three to `docs/`; a test keeps the files equal to what stands here.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo, OptionInfo

from attunement.config import Settings, fields

_GENERATED = "<!-- Written by `make docs` from the code; do not edit. -->\n"
TABLE_START, TABLE_END = "<!-- The table, written by `make docs`. -->", "<!-- End of the table. -->"
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


# --- settings ---------------------------------------------------------------------------------------


def environment_variable(key: str) -> str:
    """The variable that sets `section.key`: `training.epochs` is `ATTUNE_TRAINING__EPOCHS`."""
    return "ATTUNE_" + key.replace(".", "__").upper()


def configuration() -> str:
    """`docs/configuration.md`: each section of the settings, each field with default, type, variable and meaning."""
    lines = [
        "# Configuration",
        _GENERATED,
        "One tree of settings. Later wins: the defaults below, one TOML file (`--recipe FILE`, see `recipes/`), environment",
        "variables (`ATTUNE_SECTION__KEY`, the only place for secrets), `--set section.key=value` on the command line.",
        "`attune config show` prints the result with the origin of each value. An unknown key is an error that names the",
        "nearest known one.",
        "",
        "```toml",
        "# a recipe: section by section, only what differs from the defaults",
        "[training]",
        "epochs = 2",
        "```",
    ]
    for section, title, about in _sections():
        lines += ["", f"## {title}", "", about, "", "| key | default | type | meaning |", "|---|---|---|---|"]
        for key, info in fields():
            if key.rpartition(".")[0] == section:
                kind = f"{_type(info.annotation)}{_limits(info)}"
                meaning = _cell(f"{info.description} <br>`{environment_variable(key)}`")
                lines.append(f"| `{key}` | `{_cell(_default(info))}` | {_cell(kind)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, str, str]]:
    """Every section as (its key, title, what it is for); the fields outside any section come first."""
    yield "", "General", "Settings outside any section: in a recipe they stand above the first `[section]`."
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            about, title = inspect.cleandoc(info.annotation.__doc__ or ""), str(info.description).rstrip(".")
            yield name, f"[{name}]", about if about.startswith(title) else f"{title}: {about}"


def _type(annotation: Any) -> str:
    """A type as a reader of TOML knows it."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(a)}`" for a in args)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(a) for a in args if a is not type(None))
    if origin is list:
        return f"list of {_type(args[0])}"
    if origin is dict:
        return f"table of {_type(args[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(info: FieldInfo) -> str:
    found = [f"{sign} {getattr(m, name)}" for m in info.metadata for name, sign in _SIGNS.items() if hasattr(m, name)]
    return f", {' and '.join(found)}" if found else ""


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    return value.as_posix() if isinstance(value, Path) else json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# --- commands ---------------------------------------------------------------------------------------


def commands(app: typer.Typer, prefix: str = "attune") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command below `app` as (what the user types, the function behind it), groups last, as registered."""
    for command in app.registered_commands:
        if command.callback is not None:
            name = command.name or command.callback.__name__.replace("_", "-")
            yield f"{prefix} {name}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{prefix} {group.name}")


def command_line(app: typer.Typer) -> str:
    """`docs/cli.md`: each command's help, usage, arguments and options."""
    lines = [
        "# Command line",
        _GENERATED,
        "`attune NOUN VERB`. Every command has `--help`; `attune --debug ...` shows the traceback of an error.",
        "",
        "Exit codes: 0 done; 1 a bug (its traceback is worth reporting); 2 wrong usage; 3 something that you can mend,",
        "told in one line; 4 done, but some input could not be read (only with `--strict`); 130 interrupted by Ctrl-C, a training also by SIGTERM.",
    ]
    for name, function in sorted(commands(app), key=lambda pair: pair[0]):
        rows = list(_parameters(function))
        arguments = "".join(f" {shown}" for shown, _, _, is_argument in rows if is_argument)
        options = " [OPTIONS]" if any(not row[3] for row in rows) else ""
        lines += ["", f"## {name}", "", inspect.cleandoc(function.__doc__ or ""), ""]
        lines += ["```text", f"{name}{arguments}{options}", "```"]
        if rows:
            lines += ["", "| | default | meaning |", "|---|---|---|"]
            lines += [f"| `{_cell(shown)}` | {default} | {_cell(about)} |" for shown, default, about, _ in rows]
    return "\n".join(lines) + "\n"


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Each parameter of a command as (how it is written, default, meaning, whether it is an argument)."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        marks = [a for a in typing.get_args(hints[name])[1:] if isinstance(a, ArgumentInfo | OptionInfo)]
        if not marks:
            continue
        mark, required = marks[0], parameter.default is inspect.Parameter.empty
        if isinstance(mark, ArgumentInfo):
            shown = mark.metavar or name.upper()
            shown = shown if required else f"[{shown}]"
        else:
            # In `Annotated`, the first flag of `typer.Option("--set")` stands where the default would.
            flags = [flag for flag in (mark.default, *(mark.param_decls or ())) if isinstance(flag, str)]
            kind = typing.get_args(hints[name])[0]
            value = "" if kind is bool else f" {mark.metavar or _metavar(kind)}"
            shown = ", ".join(flags or [f"--{name.replace('_', '-')}"]) + value
        plain = required or parameter.default in (None, False)
        default = "required" if required else ("" if plain else f"`{_cell(str(parameter.default))}`")
        yield shown, default, mark.help or "", isinstance(mark, ArgumentInfo)


def _metavar(kind: Any) -> str:
    """How the value of an option is written when the command gives no name for it."""
    inner = [a for a in typing.get_args(kind) if a is not type(None)]
    if inner and typing.get_origin(kind) is not typing.Literal:
        return _metavar(inner[0])
    if inner:
        return "|".join(str(choice) for choice in inner)
    return {Path: "PATH", int: "NUMBER", float: "NUMBER"}.get(kind, "TEXT")


# --- routes -----------------------------------------------------------------------------------------


def http_routes(openapi: Mapping[str, Any]) -> str:
    """`docs/api.md`: each route of the service's OpenAPI description, with the fields it takes and gives."""
    lines = [
        "# HTTP interface",
        _GENERATED,
        "`attune serve` answers these routes; `/docs` of a running service is the interactive page, `/openapi.json` the",
        "description for programs.",
    ]
    schemas = openapi.get("components", {}).get("schemas", {})
    for path, methods in openapi["paths"].items():
        for method, route in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", inspect.cleandoc(route.get("description") or route["summary"])]
            if action := route.get("x-action"):
                lines += ["", f"Action: `{action}` ([who may](access.md#who-may-do-what))."]
            body = route.get("requestBody", {}).get("content", {})
            lines += _body("Takes", body, schemas)
            for status, answer in sorted(route["responses"].items()):
                lines += _body(f"{status}: {answer['description']}", answer.get("content", {}), schemas)
    return "\n".join(lines) + "\n"


def with_table(guide: str) -> str:
    """`docs/access.md` with the table of permissions as the code has it."""
    from attunement.security.permissions import table

    before, start, rest = guide.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    assert start and end, "docs/access.md has lost the marks of its table"
    return f"{before}{start}\n{table()}\n{end}{after}"


def _body(title: str, content: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, media in content.items():
        schema = media.get("schema", {})
        shape = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
        lines += ["", f"**{title}** (`{kind}`)", ""]
        required = shape.get("required", ())
        for name, field in shape.get("properties", {}).items():
            optional = "" if name in required or not title.startswith("Takes") else ", optional"
            lines.append(f"- `{name}` ({_json_type(field)}{optional}): {field.get('description', field.get('title', name))}")
    return [line for line in lines if lines] if lines and lines[-1] else lines[:-1]


def _json_type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_json_type(f) for f in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_json_type(field.get('items', {}))}"
    return str(field.get("type") or field.get("$ref", "any").rpartition("/")[2])
