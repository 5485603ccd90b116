"""Rules for a cascade's threshold that redistill does not ship, to compare with the one that it does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def conformal(losses: Sequence[float], cuts: Sequence[int], limit: float) -> int:
    """Conformal risk control: the most rows for which (sum of losses + 1) / (N + 1) is at most the limit; the loss of a row is at most 1.

    The expected loss is at most the limit on average over draws of the calibration rows. A single threshold may exceed it.

    Source: Angelopoulos, Bates, Fisch, Lei & Schuster 2022, Conformal risk control (arXiv 2208.02814), theorem 1.
    """
    total, n = np.cumsum(losses), len(losses)
    return max((cut for cut in cuts if (total[cut - 1] + 1.0) / (n + 1) <= limit), default=0)


def isotonic(losses: Sequence[float], cuts: Sequence[int], limit: float) -> int:
    """Isotonic regression: the most rows whose fitted mean loss is at most the limit. Nothing is promised.

    Source: Zadrozny & Elkan 2002, Transforming classifier scores into accurate multiclass probability estimates; UCCI (arXiv 2605.18796) uses it for
    cascades.
    """
    from sklearn.isotonic import IsotonicRegression

    n = len(losses)
    fitted_N = IsotonicRegression().fit_transform(np.arange(n), np.asarray(losses, dtype=float))
    total = np.cumsum(fitted_N)
    return max((cut for cut in cuts if total[cut - 1] / n <= limit), default=0)
