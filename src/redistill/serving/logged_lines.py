"""Reads the router's logs: the file that is written, and those that were renamed when they were full."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def logged_lines(file: Path, since: float = 0.0) -> Iterator[dict[str, Any]]:
    """Lines from ``since`` on (seconds since 1970, key ``at``), oldest first. A line that a crash cut off is left out."""
    numbered = {int(p.suffix[1:]): p for p in file.parent.glob(f"{file.name}.*") if p.suffix[1:].isdigit()}
    for each in [*(numbered[n] for n in sorted(numbered, reverse=True)), file]:
        # One that was renamed meanwhile is missing.
        with suppress(FileNotFoundError), open(each, encoding="utf-8", errors="replace") as handle:
            for text in handle:
                line = _object(text)
                if line is not None and line["at"] >= since:
                    yield line


def _object(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("at"), int | float) else None
