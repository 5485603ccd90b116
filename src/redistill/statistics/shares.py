"""Shares of rows: intervals, tests against a limit, and Holm's correction.

Source: Wilson 1927; Holm 1979, Scandinavian Journal of Statistics 6:65-70; Clopper & Pearson 1934.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from redistill.errors import DataError
from redistill.statistics.limits import check_limits
from redistill.statistics.types import Interval, Score

_NORMAL = NormalDist()


def share(successes: int, n: int) -> Score:
    """A share with its 95 % Wilson interval, which stays inside [0, 1] and keeps a width at 0 % and 100 %."""
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"{successes} of {n} rows is not a share; there must be at least one row, and between 0 and {n} successes")
    return _wilson(successes / n, n)


def clustered_share(clusters: Sequence[tuple[int, int]]) -> Score:
    """Mean over clusters, given as (successes, rows), of each one's share, with a 95 % interval in which a cluster counts as one row.

    Source: as ``clustered_counts``.
    """
    shares = [share(successes, rows).value for successes, rows in clusters]
    return _wilson(math.fsum(shares) / len(shares), len(shares))


def _wilson(p: float, n: int) -> Score:
    z = _NORMAL.inv_cdf(0.975)
    centre, half, scale = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)), 1.0 + z * z / n
    return Score(p, Interval(min(p, max(0.0, (centre - half) / scale)), max(p, min(1.0, (centre + half) / scale))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: comparing each with alpha holds the chance of any wrong claim at alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def share_test(successes: int, n: int, limit: float) -> float:
    """Exact one-sided p-value of H0: the true share is at most ``limit``, P(X >= successes) of a binomial."""
    from scipy.stats import binom

    return float(binom.sf(successes - 1, n, limit))


def share_interval(successes: int, n: int, alpha: float) -> Interval:
    """Clopper-Pearson interval, 1 - alpha two-sided: its lower end lies above a limit when ``share_test`` passes at alpha / 2."""
    from scipy.stats import beta

    check_limits(alpha=alpha / 2)
    low = float(beta.ppf(alpha / 2, successes, n - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - alpha / 2, successes + 1, n - successes)) if successes < n else 1.0
    return Interval(low, high)


def share_rows_needed(successes: int, n: int, limit: float, alpha: float, power: float) -> int:
    """Rows at which ``share_test`` reaches ``power`` (the fewest, to 0.2 %) if the observed share is the true one; 0 where it is not above the limit.

    Searched upwards with the exact distribution from below the normal approximation, which is too low for few rows.
    """
    from scipy.stats import binom

    observed = successes / n
    if observed <= limit:
        return 0
    null, true = math.sqrt(limit * (1 - limit)), math.sqrt(observed * (1 - observed))
    rows = int(0.5 * ((_NORMAL.inv_cdf(1 - alpha) * null + _NORMAL.inv_cdf(power) * true) / (observed - limit)) ** 2)
    while True:
        rows += max(1, rows // 500)
        fewest = binom.isf(alpha, rows, limit) + 1
        if fewest <= rows and binom.sf(fewest - 1, rows, observed) >= power:
            return rows
