"""Words without which a pattern cannot match: looking for them is much faster than the pattern."""

from __future__ import annotations

from collections.abc import Iterable


def holds_any(lower: str, signs: Iterable[str]) -> bool:
    """Whether a text in small letters holds one of these."""
    # A loop, since ``any`` with a generator takes twice as long, and this runs a dozen times for each row.
    for sign in signs:  # noqa: SIM110
        if sign in lower:
            return True
    return False
