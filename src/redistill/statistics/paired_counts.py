"""Comparison of two models by their responses to the same held-out rows.

Two models that respond to the same rows are compared row by row: only rows on which one is right and the other wrong carry
evidence. The question is never "is there a difference" but "is a loss of ``margin`` or more ruled out", so the test is
one-sided non-inferiority by the paired score statistic, whose true size stays near or under the nominal one at the few
hundred rows that a user has; the percentile bootstrap's does not. A loss is a negative difference, candidate - reference.

Source: Tango 1998, Statistics in Medicine 17:891-908; Nam 1997, Biometrics 53:1422-1430 (rows, power).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from redistill.errors import DataError
from redistill.statistics.limits import check_limits
from redistill.statistics.types import Interval

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """A paired comparison: how many rows, and on how many exactly one of the two is right (the discordant ones).

    The discordant ones are whole numbers, except where each row is the mean of a cluster (``clustered_counts``).
    """

    n: int
    only_candidate: float
    only_reference: float

    def __post_init__(self) -> None:
        check_limits(rows=self.n)
        if min(self.only_candidate, self.only_reference) < 0 or self.only_candidate + self.only_reference > self.n:
            raise DataError(f"{self.only_candidate} and {self.only_reference} discordant rows cannot be counts out of {self.n} rows")

    @property
    def difference(self) -> float:
        return (self.only_candidate - self.only_reference) / self.n

    @property
    def discordance(self) -> float:
        return (self.only_candidate + self.only_reference) / self.n

    def p_value(self, margin: float) -> float:
        """``score_test``. Every paired comparison has these methods, see also ``redistill.statistics.betting``."""
        return score_test(self, margin)

    def interval(self, alpha: float) -> Interval:
        """``difference_interval``."""
        return difference_interval(self, alpha)

    def rows_needed(self, margin: float, alpha: float, power: float, most: int) -> int:
        """``rows_needed``, or ``most + 1`` where that is more than ``most``."""
        return min(rows_needed(self, margin, alpha, power), most + 1)

    def smallest_loss(self, alpha: float, power: float) -> float:
        """``minimum_detectable_effect`` with these rows."""
        return minimum_detectable_effect(self.n, self.discordance, alpha, power)

    def power_if_equal(self, margin: float, alpha: float) -> float:
        """``power`` of a truly equal candidate with these rows."""
        return power(self.n, self.discordance, 0.0, margin, alpha)


def paired_counts(candidate: Sequence[bool], reference: Sequence[bool]) -> PairedCounts:
    """Count the rows that only one of two models got right; entry i of both is the same row.

    Raises:
        DataError: lengths differ, fewer than two rows, or an entry that is neither true nor false.
    """
    if len(candidate) != len(reference):
        raise DataError(
            f"{len(candidate)} candidate rows against {len(reference)} reference rows: a paired test needs the same rows; benchmark both again"
        )
    pairs = list(zip(candidate, reference, strict=True))
    for row, pair in enumerate(pairs):
        if any(value not in (False, True) for value in pair):
            raise DataError(f"row {row} has {pair!r}, but an outcome must be right (true) or wrong (false)")
    return PairedCounts(len(pairs), sum(bool(c) and not r for c, r in pairs), sum(bool(r) and not c for c, r in pairs))


def clustered_counts(clusters: Sequence[tuple[int, int, int]]) -> PairedCounts:
    """Paired counts in which each cluster counts as one row; a cluster is (rows, only candidate right, only reference right).

    Rows of one cluster may depend on each other in any way; clusters are independent. A cluster enters with the mean of its rows, whose variance is at
    most that of a single row. So the score test of these counts keeps its level for every correlation inside the clusters, and is the
    plain test where each cluster has one row. The price is power, where rows of a cluster do not depend on each other.

    Source: Rao & Scott 1992, Biometrics 48:577-585 (clustered binary data as counts divided by the design effect); Donner, Birkett & Buck 1981,
    American Journal of Epidemiology 114:906-914 (design effect 1 + (m - 1) * rho; here at its largest, rho = 1).

    Raises:
        DataError: fewer than two clusters, or counts that no cluster of that size can have.
    """
    for rows, candidate, reference in clusters:
        if min(candidate, reference) < 0 or not 1 <= rows >= candidate + reference:
            raise DataError(f"{candidate} and {reference} discordant rows cannot be counts out of a cluster of {rows} rows")
    candidates, references = (math.fsum(cluster[i] / cluster[0] for cluster in clusters) for i in (1, 2))
    # Thirds that are discordant in every row add up to a little more than all rows.
    return PairedCounts(len(clusters), candidates, min(references, len(clusters) - candidates))


def score_test(counts: PairedCounts, margin: float) -> float:
    """One-sided p-value of H0: p_reference - p_candidate >= margin; small means that such a loss is ruled out.

    The variance is that of the constrained maximum-likelihood estimate, a loss of exactly ``margin``, so it does not vanish
    without discordant rows: z is then sqrt(n * margin / (1 - margin)). With margin 0 this is McNemar's test, one-sided.
    """
    check_limits(margin=margin)
    z = _statistic(counts.n, counts.discordance, counts.difference, -margin)
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def difference_interval(counts: PairedCounts, alpha: float) -> Interval:
    """Two-sided 1 - alpha score interval of p_candidate - p_reference, inside [-1, 1].

    It holds every difference that the score test does not reject at alpha / 2 (found by bisection): with alpha = 0.10 its
    lower end lies above -margin exactly when the one-sided test at 5 % passes. The wider 95 % interval is for display.
    """
    check_limits(alpha=alpha)
    z = _NORMAL.inv_cdf(1.0 - alpha / 2.0)
    low = _lower_bound(counts.n, counts.discordance, counts.difference, z)
    return Interval(low, -_lower_bound(counts.n, counts.discordance, -counts.difference, z))


def rows_needed(counts: PairedCounts, margin: float, alpha: float, power: float) -> int:
    """Total rows at which the test reaches ``power``, if the observed discordance and difference d are the true ones.

    n = (z_alpha * s0 + z_power * s1)² / (margin + d)², s1² = discordance - d², s0² the same under the null; the textbook's s0 = s1
    can name fewer rows than the test has just failed with. Without discordant rows half a row is assumed. Returns 0 when
    d <= -margin: the observed loss is itself too large, and more rows will not help.
    """
    check_limits(margin=margin, alpha=alpha, power=power)
    reach = margin + counts.difference
    if reach <= 1e-12:
        return 0
    null, true = _deviations(counts.discordance or 0.5 / counts.n, counts.difference, margin)
    return max(2, math.ceil(((_NORMAL.inv_cdf(1.0 - alpha) * null + _NORMAL.inv_cdf(power) * true) / reach) ** 2))


def power(n: int, discordance: float, difference: float, margin: float, alpha: float) -> float:
    """Chance that the test passes with n rows, when discordance and difference (candidate - reference) are the true ones.

    Ask this before a benchmark: a margin that an equal student meets half of the time decides nothing.
    """
    check_limits(margin=margin, alpha=alpha, rows=n, discordance=discordance)
    if abs(difference) > discordance + 1e-9:
        raise DataError(f"difference={difference:g} cannot exceed discordance={discordance:g}, the share of rows that make it")
    null, true = _deviations(discordance, difference, margin)
    reach = math.sqrt(n) * (margin + difference) - _NORMAL.inv_cdf(1.0 - alpha) * null
    return _NORMAL.cdf(reach / true) if true > 0.0 else float(reach >= 0.0)


def minimum_detectable_effect(n: int, discordance: float, alpha: float, power: float) -> float:
    """Smallest loss that n rows can rule out: the margin that a truly equal candidate passes with the given power.

    About (z_alpha + z_power) * sqrt(discordance / n); a smaller margin needs more held-out rows. Returns 1 when no margin will do.
    """
    check_limits(alpha=alpha, power=power, rows=n, discordance=discordance)
    z_alpha, z_power, low, high = _NORMAL.inv_cdf(1.0 - alpha), _NORMAL.inv_cdf(power), 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        null, true = _deviations(discordance, 0.0, middle)
        low, high = (low, middle) if math.sqrt(n) * middle >= z_alpha * null + z_power * true else (middle, high)
    return high


def _null_variance(discordance: float, difference: float, null: float) -> float:
    """Variance of one row's difference under H0: difference = null, at the constrained maximum-likelihood estimate."""
    if null < 0:  # by symmetry; this way round the product of the two roots is never positive: the larger one fits
        difference, null = -difference, -null
    b = (2.0 - difference) * null - discordance
    c = -(discordance - difference) / 2.0 * null * (1.0 - null)
    rarer_cell = (-b + math.sqrt(max(0.0, b * b - 8.0 * c))) / 4.0
    return max(0.0, 2.0 * rarer_cell + null - null * null)


def _deviations(discordance: float, difference: float, margin: float) -> tuple[float, float]:
    """Standard deviation of one row's difference, at the null and in truth."""
    return math.sqrt(_null_variance(discordance, difference, -margin)), math.sqrt(max(0.0, discordance - difference**2))


def _statistic(n: int, discordance: float, difference: float, null: float) -> float:
    """Tango's z: positive when the observed difference lies above the null one; it falls as the null rises."""
    variance = max(_null_variance(discordance, difference, null), 1e-300)
    return math.sqrt(n) * (difference - null) / math.sqrt(variance)


def _lower_bound(n: int, discordance: float, difference: float, z: float) -> float:
    low, high = -1.0, difference
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _statistic(n, discordance, difference, middle) > z else (low, middle)
    return low
