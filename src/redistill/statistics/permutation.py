"""Two samples under permuted labels: without a difference all labellings are equally likely, so a p-value needs no assumption about the values.

Source: Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39 (a permutation p-value is never zero); Yurdakul & Naranjo 2020,
Journal of Risk Model Validation 14(4) (the population stability index of two samples of n and m rows is about (1/n + 1/m) times a chi-square of B - 1
degrees of freedom, so fixed limits such as 0.1 and 0.25 are exceeded by chance in small samples).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from redistill.errors import DataError
from redistill.statistics.bootstrap import chance_range
from redistill.statistics.types import Interval

_SMOOTHED = 0.5
"""Added to each count, so that a category that one sample lacks gives a finite index."""


@dataclass(frozen=True, slots=True)
class Permuted:
    """A statistic of two samples, its 95 % range and its mean under permuted labels, and the p-value for a value of at least this size."""

    value: float
    by_chance: Interval
    expected: float
    p_value: float


def permutation_p(value: float, drawn: Sequence[float]) -> float:
    """The chance of ``value`` or more without a difference, by draws under permuted labels."""
    return (1 + sum(each >= value for each in drawn)) / (1 + len(drawn))


def stability_index(old: Sequence[Hashable], new: Sequence[Hashable], permutations: int, seed: int) -> Permuted:
    """The population stability index of categories: the sum of (p - q) ln(p / q), 0 where both samples have the same shares.

    Raises:
        DataError: a sample is empty.
    """
    _check_sizes(old, new)
    places = {kind: i for i, kind in enumerate(dict.fromkeys([*old, *new]))}
    old_C, new_C = (np.bincount([places[kind] for kind in kinds], minlength=len(places)) for kinds in (old, new))
    # Permuted labels give each sample its number of rows of the two samples' counts together.
    drawn_PC = np.random.default_rng(seed).multivariate_hypergeometric(old_C + new_C, len(new), size=permutations, method="marginals")
    values_P = _index(np.vstack([old_C, old_C + new_C - drawn_PC]), np.vstack([new_C, drawn_PC]))
    return _permuted(values_P)


def _index(old_PC: np.ndarray, new_PC: np.ndarray) -> np.ndarray:
    p_PC, q_PC = ((counts + _SMOOTHED) / (counts + _SMOOTHED).sum(1, keepdims=True) for counts in (new_PC, old_PC))
    # Rounded, so that equal tables of counts are equal however their sums are ordered.
    return np.asarray(np.round(((p_PC - q_PC) * np.log(p_PC / q_PC)).sum(1), 12))


def distribution_distance(old: Sequence[float], new: Sequence[float], permutations: int, seed: int) -> Permuted:
    """The largest distance of two cumulative distributions (Kolmogorov and Smirnov), in [0, 1]; equal values may occur.

    Raises:
        DataError: a sample is empty, or a value is not a number.
    """
    _check_sizes(old, new)
    values = np.array([*old, *new], np.float64)
    if np.isnan(values).any():
        raise DataError("a score is not a number; leave such rows out before two samples are compared")
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    is_new_N = np.arange(len(values)) >= len(old)
    rng, distances = np.random.default_rng(seed), []
    for draw in range(permutations + 1):
        labels_N = (is_new_N if draw == 0 else rng.permutation(is_new_N))[order]
        of_new_N = np.cumsum(labels_N)[ends]
        of_old_N = ends + 1 - of_new_N
        distances.append(float(np.round(np.abs(of_new_N / len(new) - of_old_N / len(old)).max(), 12)))
    return _permuted(np.array(distances))


def _permuted(values_P: np.ndarray) -> Permuted:
    """The first value is the observed one, the others are drawn."""
    value, *drawn = values_P.tolist()
    return Permuted(value, chance_range(drawn), float(np.mean(drawn)), permutation_p(value, drawn))


def _check_sizes(old: Sequence[object], new: Sequence[object]) -> None:
    if not old or not new:
        raise DataError(f"two samples of {len(old)} and {len(new)} rows cannot be compared; each needs at least one row")
