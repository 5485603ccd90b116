"""Does a model know when it is right? What a fallback by confidence may rely on.

Bins hold equally many rows, so that none rests on a handful; the error is measured against exact match of the whole response.

Source: Naeini et al. 2015 (ECE); Nguyen & O'Connor 2015, Posterior calibration (equal-mass bins).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redistill.errors import DataError
from redistill.records import Bin, Calibration, Interval, Score


def calibration(confidence: Sequence[float], right: Sequence[bool], resamples: int, seed: int, bins: int = 10) -> Calibration:
    """Expected calibration error, Brier score and reliability bins of N responses.

    Raises:
        DataError: lengths differ, no rows, or a confidence that is no probability.
    """
    sure_N, right_N = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if sure_N.shape != right_N.shape or sure_N.size == 0:
        raise DataError(f"{sure_N.size} confidences for {right_N.size} responses; calibration needs one each")
    if not ((sure_N >= 0) & (sure_N <= 1)).all():
        raise DataError("a confidence lies outside [0, 1]; it must be a probability")
    value, found = _ece(sure_N, right_N, bins)
    rng = np.random.default_rng(seed)
    draws = [_ece(sure_N[rows], right_N[rows], bins)[0] for rows in rng.integers(0, sure_N.size, (resamples, sure_N.size))]
    low, high = np.quantile(draws, (0.025, 0.975))
    interval = Interval(min(float(low), value), max(float(high), value))
    return Calibration(Score(value, interval), float(np.mean((sure_N - right_N) ** 2)), tuple(found))


def _ece(sure_N: np.ndarray, right_N: np.ndarray, bins: int) -> tuple[float, list[Bin]]:
    order = np.argsort(sure_N, kind="stable")
    found = [
        Bin(len(rows), float(sure_N[rows].mean()), float(right_N[rows].mean())) for rows in np.array_split(order, min(bins, len(order)))
    ]
    return sum(b.n * abs(b.confidence - b.accuracy) for b in found) / len(order), found
