"""Isotonic regression: the most rows whose fitted mean loss is at most ``limit``. A baseline: nothing is promised.

Source: Zadrozny & Elkan 2002, Transforming classifier scores into accurate multiclass probability estimates; UCCI (arXiv 2605.18796) uses it for cascades.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rows_to_answer(losses: Sequence[float], cuts: Sequence[int], limit: float) -> int:
    from sklearn.isotonic import IsotonicRegression

    n = len(losses)
    fitted_N = IsotonicRegression().fit_transform(np.arange(n), np.asarray(losses, dtype=float))
    total = np.cumsum(fitted_N)
    return max((cut for cut in cuts if total[cut - 1] / n <= limit), default=0)
