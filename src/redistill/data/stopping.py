"""Where a completion ends besides the model's own end token: at the first of the task's stop sequences (``DataParams.stops``).

One rule for teacher, benchmark, dev score and timings, so that what is judged is what is served. A stop sequence is searched in the text, because
its first and last token can also contain other text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop sequence."""
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text


def tokens_until_stop(ids: Sequence[int], tokenizer: Any, stops: Sequence[str]) -> int | None:
    """How many tokens it took until the text held a whole stop sequence; None where it holds none."""

    def stopped(count: int) -> bool:
        text = tokenizer.decode(ids[:count])
        return any(stop in text for stop in stops)

    if not stops or not stopped(len(ids)):
        return None
    low, high = 0, len(ids)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if stopped(middle) else (middle, high)
    return high


def tokens_before_stop(ids: Sequence[int], tokenizer: Any, stops: Sequence[str], until: int) -> int | None:
    """How many tokens spell exactly the text before the stop sequence that ``until`` tokens hold; None where a token lies across its begin."""
    text = cut(tokenizer.decode(ids[:until]), stops)
    return next((n for n in range(until - 1, -1, -1) if tokenizer.decode(ids[:n]) == text), None)
