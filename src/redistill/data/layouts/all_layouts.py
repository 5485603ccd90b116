"""Every way in which a row may write what it asks. The first that reads the row counts."""

from __future__ import annotations

from typing import Any

from redistill.data.layouts import alpaca, openai, sharegpt
from redistill.data.layouts.types import Request

LAYOUTS = (openai, sharegpt, alpaca)
KEYS: tuple[str, ...] = tuple(layout.KEY for layout in LAYOUTS)
"""The column by which each layout is known."""


def read(row: dict[str, Any], where: str) -> Request | None:
    """What the row asks; None where it is in none of the layouts."""
    return next((request for layout in LAYOUTS if (request := layout.read(row, where)) is not None), None)
