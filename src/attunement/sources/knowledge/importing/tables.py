"""JSON, JSON lines, CSV, TSV and XLSX: one concept a record, under our field names, the usual other ones, or named columns."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attunement.errors import DataError, MissingExtraError
from attunement.sources.knowledge.concepts import CATEGORIES, Concept
from attunement.sources.knowledge.importing.found import MAX_BYTES, Found, decoded, texts
from attunement.sources.knowledge.importing.origins import Source, table

NAMES = {
    "concept_id": ("concept_id", "id", "identifier", "code"),
    "label": ("label", "name", "term", "title", "concept"),
    "content": ("content", "definition", "definition_text", "description", "collection_description", "gloss"),
    "category": ("category",),
    "source": ("source",),
    "licence": ("licence", "license"),
    "synonyms": ("synonyms", "synonym", "alias", "aliases"),
    "parents": ("parents", "parent", "is_a", "kind_of", "subclassof"),
    "related_concepts": ("related_concepts", "related"),
    "therapeutic_approaches": ("therapeutic_approaches", "approaches"),
    "clinical_context": ("clinical_context",),
    "steps": ("steps",),
    "contrasts": ("contrasts",),
    "evidence": ("evidence",),
}
NEEDED = ("label", "content")
Row = tuple[str, Any]
"""Where a record stands, for the user, and the record."""


def read_table(path: Path) -> Found:
    """The concepts of a table or JSON file. Raises `DataError` when no record has a label and a definition column."""
    source, found, columns = table(path), Found(), set[str]()
    for place, row in _rows(path, found):
        if not isinstance(row, Mapping):
            found.problems.append(f"{path}, {place}: no record with named fields, left out")
            continue
        named = _named(row, source)
        columns |= {str(key) for key in row}
        if not str(named.get("label") or "").strip():
            found.problems.append(f"{path}, {place}: no label, left out")
            continue
        concept = _concept(named, source, place)
        if concept.category in CATEGORIES:
            found.add(concept)
        else:
            found.problems.append(
                f"{path}, {place}: unknown category '{concept.category}', left out; one of {', '.join(CATEGORIES)}"
            )
    _check_columns(path, source, columns)
    return found


def _check_columns(path: Path, source: Source, columns: set[str]) -> None:
    have = {name.casefold() for name in columns}
    for field in NEEDED:
        wanted = {source.columns[field]} if field in source.columns else set(NAMES[field])
        if not have & {name.casefold() for name in wanted}:
            told = ", ".join(sorted(columns)) or "none"
            raise DataError(f"{path} has no column for the {field} ({' or '.join(sorted(wanted))}); its columns are: {told}")


def _named(row: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The record under our field names."""
    folded = {str(key).strip().casefold(): value for key, value in row.items()}
    named = {}
    for field, names in NAMES.items():
        for name in (source.columns[field],) if field in source.columns else names:
            if folded.get(name.casefold()) not in (None, "", []):
                named[field] = folded[name.casefold()]
                break
    return named


def _concept(named: dict[str, Any], source: Source, place: str) -> Concept:
    own = str(named.get("concept_id") or named["label"]).strip()
    described = source.licence != "unknown"
    return Concept(
        concept_id=own if ":" in own and own.split(":")[0].isidentifier() else f"{source.prefix}:{own}",
        label=str(named["label"]),
        category=str(named.get("category") or source.category),
        content=str(named.get("content") or ""),
        source=str(named.get("source") or source.name) if not described else source.name,
        licence=source.licence if described else str(named.get("licence") or source.licence),
        synonyms=texts(named.get("synonyms")),
        parents=tuple(p if ":" in p else f"{source.prefix}:{p}" for p in texts(named.get("parents"))),
        related_concepts=texts(named.get("related_concepts")),
        links=texts(named.get("related_concepts")),
        therapeutic_approaches=texts(named.get("therapeutic_approaches")),
        clinical_context=str(named.get("clinical_context") or ""),
        steps=tuple(str(step) for step in named.get("steps") or ())
        if isinstance(named.get("steps"), list)
        else texts(named.get("steps")),
        contrasts=texts(named.get("contrasts")),
        evidence=tuple(row for row in named.get("evidence") or () if isinstance(row, dict)),
    )


def _rows(path: Path, found: Found) -> Iterator[Row]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".xlsx":
        return _sheet_rows(path, found)
    text = decoded(path)
    if kind in (".csv", ".tsv"):
        return _csv_rows(path, text, found)
    return _line_rows(path, text, found) if kind == ".jsonl" else _json_rows(path, text)


def _line_rows(path: Path, text: str, found: Found) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                found.problems.append(f"{path}, line {number}: not valid JSON ({error.msg}), left out")
            except RecursionError:
                found.problems.append(f"{path}, line {number}: nested too deep, left out")


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON (line {error.lineno}: {error.msg})") from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deep to be a list of records") from error
    inside = list(value.values()) if isinstance(value, dict) else [value]
    lists: list[list[Any]] = [part for part in inside if isinstance(part, list)]
    if not lists:
        raise DataError(f"{path} holds no list of records")
    longest = sorted(lists, key=len)[-1]
    for number, row in enumerate(longest, 1):
        yield f"record {number}", row


def _csv_rows(path: Path, text: str, found: Found) -> Iterator[Row]:
    first = text.split("\n", 1)[0]
    delimiter = max("\t,;|", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                found.problems.append(f"{path}, line {reader.line_num}: not as many cells as columns, left out")
            else:
                yield f"line {reader.line_num}", row
    except csv.Error as error:
        found.problems.append(f"{path}, line {reader.line_num}: {error}; what stands before it was read")


def _sheet_rows(path: Path, found: Found) -> Iterator[Row]:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise MissingExtraError("reading XLSX tables", "knowledge") from error
    try:
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > MAX_BYTES:
                raise DataError(f"{path} is longer than {MAX_BYTES // 1_000_000} MB unpacked: split it")
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError) as error:
        raise DataError(f"{path} is no XLSX table, or damaged: {error}") from error
    try:
        for sheet in book.worksheets:
            rows = sheet.iter_rows(values_only=True)
            names = [str(cell or "") for cell in next(rows, ())]
            for number, cells in enumerate(rows, 2):
                if any(cell is not None for cell in cells):
                    yield f"sheet '{sheet.title}', row {number}", dict(zip(names, cells, strict=False))
    finally:
        book.close()
