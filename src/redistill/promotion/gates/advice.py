"""Advice at a gate on hold: how many more rows are needed, or that no realistic number is enough.

Realistic is up to fifteen times the present number of rows, or two thousand rows if that is more. If more are needed, the sentence asks for
none and says why: the observed value is close to the limit, or the margin is too narrow for this data.
"""

from __future__ import annotations

_TIMES, _ROWS = 15, 2000


def most_rows(n: int) -> int:
    """The largest realistic total number of rows, if there are ``n`` rows now."""
    return n + max(_TIMES * n, _ROWS)


def more_rows(needed: int, n: int, rows: str, power: float, assumption: str, close: str, wide: str | None = None) -> tuple[str, int]:
    """The end of the sentence of a gate on hold, and the number of additional ``rows`` to ask for (0 if more rows would not help).

    ``needed`` is the total, and ``assumption`` its condition. ``close`` and ``wide`` say why an unrealistic number is needed: ``wide`` replaces
    ``close`` if the value is not close to the limit.
    """
    if needed > most_rows(n):
        return f"; this cannot be shown with a realistic number of {rows}: {wide or close}", 0
    missing = max(1, needed - n)
    return f"; {missing:,} more {rows} would show it with {100 * power:g} % power, if {assumption}", missing
