"""Rows of a JSONL file: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.readers.files import decoded, shown_value
from redistill.errors import DataError


def jsonl_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSONL file with their place ("line N"); ``path`` is what errors call it.

    Raises:
        DataError: not UTF-8, invalid JSON, or a line that is not an object.
    """
    start = 0
    with open(file, "rb") as handle:
        for number, raw in enumerate(handle, 1):
            line = decoded(path, number, start, raw)
            start += len(raw)
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: invalid JSON ({error}); write one complete object per line") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: {shown_value(row)} is not a JSON object; write one object per line")
            yield f"line {number}", row
