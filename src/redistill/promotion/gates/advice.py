"""What a held gate asks for: how many more rows would settle it, or that no realistic number would.

A person can be asked to label fifteen times as many rows as there are, or two thousand. Where more are needed the sentence asks for none and says why: the observed value is close to the limit, or the margin is too narrow for this data.
"""

from __future__ import annotations

_TIMES, _ROWS = 15, 2000


def most_rows(n: int) -> int:
    """The largest total that it is realistic to ask for, where there are ``n`` rows now."""
    return n + max(_TIMES * n, _ROWS)


def more_rows(needed: int, n: int, rows: str, power: float, assumption: str, close: str, wide: str | None = None) -> tuple[str, int]:
    """The end of a held gate's sentence, and how many more ``rows`` to ask for (0 where asking makes no sense).

    ``needed`` is the total, ``assumption`` what it rests on. ``close`` says why an unrealistic number is needed, and ``wide`` what else would be
    where the value is not close to the limit.
    """
    if needed > most_rows(n):
        return f"; this cannot be shown with a realistic number of {rows}: {wide or close}", 0
    missing = max(1, needed - n)
    return f"; {missing:,} more {rows} would show it with {100 * power:g} % power, were {assumption}", missing
