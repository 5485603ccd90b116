"""Rows of a CSV file with a header."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.readers.files import shown_names, text_lines
from redistill.errors import DataError


def csv_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a CSV file with their place ("line N"); ``path`` is what errors call it.

    Raises:
        DataError: invalid CSV, two columns of one name, or a row with more or fewer fields than the header.
    """
    limit, line = csv.field_size_limit(sys.maxsize), 1
    try:
        reader = csv.reader(_lines(path, file), strict=True)
        header = next(reader, [])
        _check_header(path, header)
        line = reader.line_num + 1
        for fields in reader:
            if _is_row(fields, header):
                yield (
                    f"line {line}",
                    {name: field for name, field in zip(header, _checked(fields, header, path, line), strict=True) if name},
                )
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: invalid CSV ({error}); close every quote, and write a quote inside text as two quotes"
        ) from None
    finally:
        csv.field_size_limit(limit)


def _is_row(fields: list[str], header: list[str]) -> bool:
    """A blank line is no row. In a file of one column, spaces are a text."""
    return bool(fields) and (len(header) == 1 or any(field.strip() for field in fields))


def _checked(fields: list[str], header: list[str], path: str, line: int) -> list[str]:
    if len(fields) != len(header):
        raise DataError(
            f"{path}, line {line}: {len(fields)} field{'s' * (len(fields) != 1)}, but the header has {len(header)}; "
            "put text that contains commas or line breaks in quotes"
        )
    if any(field.strip() for field, name in zip(fields, header, strict=True) if not name):
        raise DataError(f"{path}, line {line}: it has a value in a column without a name; give the column a name")
    return fields


def _check_header(path: str, header: list[str]) -> None:
    # Spreadsheets write empty columns behind the last one. They have no name and no values.
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        places = ", ".join(str(i) for i, name in enumerate(header, 1) if name == twice[0])
        raise DataError(
            f"{path}, line 1: the column {shown_names(twice[:1])} is there {header.count(twice[0])} times (columns {places}); give each column its own name"
        )


def _lines(path: str, file: Path) -> Iterator[str]:
    """Lines that end with a line feed, or as old spreadsheets end them, with a carriage return."""
    for line in text_lines(path, file):
        if "\r" in line.removesuffix("\r\n"):
            yield from io.StringIO(line, newline="")
        else:
            yield line
