"""Conformal risk control: the expected loss per request is at most ``limit``, on average over draws of the calibration rows.

A single threshold may therefore exceed the limit; about every second one does where the risk is close to it.

Source: Angelopoulos, Bates, Fisch, Lei & Schuster 2022, Conformal risk control (arXiv 2208.02814), theorem 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rows_to_answer(losses: Sequence[float], cuts: Sequence[int], limit: float) -> int:
    """The most rows for which (sum of losses + 1) / (N + 1) is at most the limit; the loss of a row is at most 1."""
    total, n = np.cumsum(losses), len(losses)
    return max((cut for cut in cuts if (total[cut - 1] + 1.0) / (n + 1) <= limit), default=0)
