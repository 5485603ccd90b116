"""Intervals by resampling rows: F1, the ratio of two F1s, and ranges by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from redistill.errors import DataError
from redistill.statistics.limits import check_limits
from redistill.statistics.types import Interval, Score

_NORMAL = NormalDist()
_VALUES_AT_ONCE = 1 << 20
"""Drawn values that are in memory at a time."""


def bootstrap_f1(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, resamples: int, seed: int) -> Score:
    """Micro-F1 over rows with a 95 % percentile bootstrap interval; entry i of the three counts is row i.

    For display only: it is too generous to decide with. F1 of no items is undefined: such resamples are left out, and data without any
    give 0 in [0, 1], "nothing is known".
    """
    check_limits(resamples=resamples)
    columns = [np.asarray(values) for values in (tp, fp, fn)]
    n, shapes = columns[0].size, {c.shape for c in columns}
    if shapes != {(n,)} or n == 0 or not all((c >= 0).all() for c in columns):
        raise DataError(f"tp, fp and fn must hold one count of at least 0 for each row, for at least one row; given shapes {shapes}")
    hit, extra, missed = _resampled_sums(np.stack(columns, axis=1), resamples, seed)
    with np.errstate(invalid="ignore"):
        f1 = 2.0 * hit / (2.0 * hit + extra + missed)
    value, known = float(np.nan_to_num(f1[0])), f1[1:][~np.isnan(f1[1:])]
    return _score(value, known) if known.size else Score(value, Interval(0.0, 1.0))


def bootstrap_mean(values_N: ArrayLike, resamples: int, seed: int) -> Score:
    """The mean of one value a row, for at least one row, with a 95 % percentile bootstrap interval. For display only, as ``bootstrap_f1``."""
    check_limits(resamples=resamples)
    rows_N1 = np.asarray(values_N, np.float64).reshape(-1, 1)
    means = _resampled_sums(rows_N1, resamples, seed)[0] / len(rows_N1)
    return _score(float(means[0]), means[1:])


def bootstrap_paired(
    statistic: Callable[[np.ndarray], np.ndarray], first_N: ArrayLike, second_N: ArrayLike, resamples: int, seed: int
) -> tuple[Score, Score, Score]:
    """A statistic of two values a row: of the first, of the second, and second - first, each with a 95 % percentile interval. For display only.

    Rows are drawn with both values, so what is difficult for both cancels out in the difference. ``statistic`` reduces the last axis of an array.
    """
    check_limits(resamples=resamples)
    first, second = np.asarray(first_N, np.float64), np.asarray(second_N, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise DataError(f"both values are needed for the same rows, at least one; given shapes {first.shape} and {second.shape}")
    generator = np.random.default_rng(seed)
    drawn_R3 = np.empty((resamples, 3))
    together = max(1, _VALUES_AT_ONCE // first.size)
    for begin in range(0, resamples, together):
        part = drawn_R3[begin : begin + together]
        places_BN = generator.integers(0, first.size, (len(part), first.size))
        part[:, 0], part[:, 1] = statistic(first[places_BN]), statistic(second[places_BN])
    drawn_R3[:, 2] = drawn_R3[:, 1] - drawn_R3[:, 0]
    one, two = float(statistic(first)), float(statistic(second))
    values = (one, two, two - one)
    first_score, second_score, change = (_score(value, drawn_R3[:, n]) for n, value in enumerate(values))
    return first_score, second_score, change


def bootstrap_retention(
    student: tuple[ArrayLike, ArrayLike], teacher: tuple[ArrayLike, ArrayLike], resamples: int, seed: int
) -> Score | None:
    """Student ÷ teacher of one metric on the same rows, with a 95 % paired percentile bootstrap interval; None where the teacher has none of it.

    Each model is (numerators, denominators), entry i of all four is row i, and its metric is the ratio of their sums: exact match is
    (right, 1), micro-F1 is (2 TP, 2 TP + FP + FN). Rows are drawn with both models' responses, so what is difficult for both cancels out.
    Resamples in which the ratio is undefined are left out. Two models that differ on no row give an interval without width.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13.
    """
    check_limits(resamples=resamples)
    columns = [np.asarray(values) for values in (*student, *teacher)]
    n = columns[0].size
    if n == 0 or {c.shape for c in columns} != {(n,)}:
        raise DataError(f"retention needs the same rows of both models, at least one; given shapes {[c.shape for c in columns]}")
    hit_S, of_S, hit_T, of_T = _resampled_sums(np.stack(columns, axis=1), resamples, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (hit_S / of_S) / (hit_T / of_T)
    value, known = float(ratio[0]), ratio[1:][np.isfinite(ratio[1:])]
    if not math.isfinite(value) or not known.size:
        return None
    return _score(value, known)


def chance_range(drawn: Sequence[float]) -> Interval:
    """The 95 % range of a statistic that was drawn again under the null hypothesis.

    By ranks: the observed one lies above it with a chance of at most 2.5 %, for 39 draws or more. With fewer draws it is
    the range of all of them.

    Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, section 4.2 (Monte Carlo tests).
    """
    ranked = sorted(drawn)
    place = max(0, math.floor(0.025 * (len(ranked) + 1)) - 1)
    return Interval(ranked[place], ranked[len(ranked) - 1 - place])


def _score(value: float, resampled: np.ndarray) -> Score:
    """A value with the 95 % percentile interval of its resamples, which contains it."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Score(value, Interval(min(float(low), value), max(float(high), value)))


def _resampled_sums(rows_NC: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(C × 1 + R): the sums of C columns over the rows, then over each of R resamples of them. Equal rows are drawn together, as one multinomial."""
    kinds_UC, count_U = np.unique(rows_NC, axis=0, return_counts=True)
    draws_RU = np.random.default_rng(seed).multinomial(len(rows_NC), count_U / len(rows_NC), size=resamples)
    sums: np.ndarray = (np.vstack([count_U, draws_RU]) @ kinds_UC).T
    return sums
