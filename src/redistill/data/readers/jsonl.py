"""Rows of a JSONL file: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.readers.files import described, text_lines
from redistill.errors import DataError


class _TwiceError(ValueError):
    """A key that is in one object twice."""


def jsonl_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSONL file with their place ("line N"); ``path`` is what errors call it.

    Raises:
        DataError: not text, invalid JSON, a line that is not an object, or an object with one key twice.
    """
    for number, line in enumerate(text_lines(path, file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except _TwiceError as error:
            raise DataError(f"{path}, line {number}: key {error} is there twice in one object; keep one of the two") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: invalid JSON ({error}); write one complete object per line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {described(row)} is not a JSON object; write one object per line")
        yield f"line {number}", row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(repr(next(name for name in names if names.count(name) > 1)))
    return tree
