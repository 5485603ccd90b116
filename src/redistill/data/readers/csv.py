"""Rows of a CSV file with a header."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.readers.files import decoded
from redistill.errors import DataError


def csv_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = decoded(path, 1, 0, file.read_bytes())
    limit, line = csv.field_size_limit(sys.maxsize), 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        line = reader.line_num + 1
        for fields in reader:
            if len(fields) > len(header):
                raise DataError(
                    f"{path}, line {line}: {len(fields)} fields, but the header has {len(header)}; put text that contains commas in quotes"
                )
            if fields:
                yield f"line {line}", dict(zip(header, fields, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: invalid CSV ({error}); close every quote, and write a quote inside text as two quotes"
        ) from None
    finally:
        csv.field_size_limit(limit)
