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
            # A blank line is no row; in a file of one column it cannot be told from an empty one.
            if fields and len(fields) != len(header):
                raise DataError(
                    f"{path}, line {line}: {len(fields)} field{'s' * (len(fields) != 1)}, but the header has {len(header)}; "
                    "put text that contains commas or line breaks in quotes"
                )
            if fields:
                yield f"line {line}", dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: invalid CSV ({error}); close every quote, and write a quote inside text as two quotes"
        ) from None
    finally:
        csv.field_size_limit(limit)


def _check_header(path: str, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        places = ", ".join(str(i) for i, name in enumerate(header, 1) if name == twice[0])
        raise DataError(
            f"{path}, line 1: column {shown_names(twice[:1])!r} is there {header.count(twice[0])} times (columns {places}); give each column its own name"
        )


def _lines(path: str, file: Path) -> Iterator[str]:
    """Lines that end with a line feed, or as old spreadsheets end them, with a carriage return."""
    for line in text_lines(path, file):
        if "\r" in line.removesuffix("\r\n"):
            yield from io.StringIO(line, newline="")
        else:
            yield line
