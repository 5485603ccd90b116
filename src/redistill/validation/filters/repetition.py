"""Does a completion go round in circles? Small and badly sampled teachers loop, and a student learns the loop first.

Measured as the share of word 3-grams that stood before, or of the text that one run of a single word or sign takes,
whichever is larger.
"""

from __future__ import annotations

import re
from itertools import groupby

from redistill.validation.types import Candidate, Drop, Keep

_TOKEN = re.compile(r"\w+|[^\w\s]")
_GRAM = 3
_MIN_TOKENS = 4
_MIN_RUN_CHARS = 16


def share(text: str) -> float:
    """How much of a text repeats, in [0, 1]."""
    tokens = _TOKEN.findall(text.lower())
    drawn_out = max((len(list(run)) for _, run in groupby(text)), default=0)
    # Sixteen equal characters are no word; fewer may be an ellipsis or a row of dots.
    shares = [drawn_out / len(text)] if drawn_out >= _MIN_RUN_CHARS else [0.0]
    if len(tokens) >= _MIN_TOKENS:
        longest = max(len(list(run)) for _, run in groupby(tokens))
        shares.append(longest / len(tokens) if longest > 1 else 0.0)
        words = [token for token in tokens if token[0].isalnum() or token[0] == "_"]
        grams = [tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1)]
        shares.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return max(shares)


class Repetition:
    """Drops a text of which more than ``max_share`` repeats."""

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share

    def judge(self, candidate: Candidate) -> Keep | Drop:
        return Drop("repetition", "repeats itself") if share(candidate.text) > self._max_share else Keep()
