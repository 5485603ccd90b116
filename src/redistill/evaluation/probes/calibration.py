"""Calibration: how well a model's confidence predicts whether it is right. A fallback by confidence depends on it.

Bins hold equally many rows, so that none rests on a handful; the error is measured against exact match of the whole response.

A calibration error is an average of absolute values, so it is never 0 on a finite number of rows, not even for a perfectly calibrated
model, and no bootstrap interval around it covers 0. The error is therefore compared with what a perfectly calibrated model would show on
the same rows: each response is drawn right with the probability that the model gave it (consistency resampling). Given the confidences
that is the exact distribution, so the chance to call a calibrated model miscalibrated is what it says.

Source: Naeini et al. 2015 (ECE); Nguyen & O'Connor 2015, Posterior calibration (equal-mass bins); Bröcker & Smith 2007, Weather and
Forecasting 22:651-661 (consistency resampling); Vaicenavicius et al. 2019, Evaluating model calibration in classification (as a test).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redistill.errors import DataError
from redistill.evaluation.types import Bin, Calibration
from redistill.statistics.bootstrap import chance_range
from redistill.statistics.shares import share_test

_LEVEL = 0.025
"""The chance to call responses often right that are not: one-sided, as a 95 % interval's lower end has it."""
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Surest:
    """The ``n`` responses that a model was surest of, ``right`` of them right; the least sure bin among them has this mean ``confidence``."""

    confidence: float
    right: int
    n: int


def calibration(confidence: Sequence[float], right: Sequence[bool], resamples: int, seed: int, bins: int = 10) -> Calibration:
    """Expected calibration error, the range of it that a perfectly calibrated model would show, Brier score and reliability bins of N responses.

    With fewer than 39 resamples the range is that of all of them.

    Raises:
        DataError: lengths differ, no rows, or a confidence that is no probability.
    """
    sure_N, right_N = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if sure_N.shape != right_N.shape or sure_N.size == 0:
        raise DataError(
            f"{sure_N.size} confidences for {right_N.size} responses; calibration needs one confidence per response; benchmark again"
        )
    if not ((sure_N >= 0) & (sure_N <= 1)).all():
        raise DataError("a confidence lies outside [0, 1], but it must be a probability; benchmark again")
    order_N = np.argsort(sure_N, kind="stable")
    sorted_N, starts_B = sure_N[order_N], _starts(sure_N.size, bins)
    sizes_B = np.diff([*starts_B, sure_N.size])
    confidence_B = np.add.reduceat(sorted_N, starts_B) / sizes_B

    def accuracy_of(right_N: np.ndarray) -> np.ndarray:
        accuracy_B: np.ndarray = np.add.reduceat(right_N, starts_B) / sizes_B
        return accuracy_B

    def error_of(accuracy_B: np.ndarray) -> float:
        return float(sizes_B @ np.abs(confidence_B - accuracy_B)) / sure_N.size

    rng, accuracy_B = np.random.default_rng(seed), accuracy_of(right_N[order_N])
    drawn = [error_of(accuracy_of((rng.random(sure_N.size) < sorted_N).astype(float))) for _ in range(resamples)]
    value, by_chance = error_of(accuracy_B), chance_range(drawn)
    return Calibration(
        value,
        by_chance,
        value > by_chance.high + _ROUNDING,
        float(np.mean((sure_N - right_N) ** 2)),
        tuple(Bin(int(n), float(c), float(a)) for n, c, a in zip(sizes_B, confidence_B, accuracy_B, strict=True)),
    )


def surest_right(bins: Sequence[Bin], limit: float, level: float = _LEVEL) -> Surest | None:
    """The most responses, from the surest one down, that are shown to be right with more than ``limit``; None where not even the surest bin is.

    Bins are added one after the other and each group is tested, until one fails: such a fixed sequence needs no correction, so the chance of
    a wrong claim is ``level`` at most.

    Source: Maurer, Hothorn & Lehmacher 1995 (fixed-sequence testing), with the exact binomial test.
    """
    surest, n, right = None, 0, 0
    for group in reversed(bins):
        n, right = n + group.n, right + round(group.n * group.accuracy)
        if share_test(right, n, limit) > level:
            break
        surest = Surest(group.confidence, right, n)
    return surest


def _starts(n: int, bins: int) -> np.ndarray:
    """Where each of the bins begins; they differ by one row at most."""
    return np.asarray([part[0] for part in np.array_split(np.arange(n), min(bins, n))])
