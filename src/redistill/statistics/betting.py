"""Is a loss of ``margin`` or more ruled out, when a row has a graded score instead of right or wrong?

Row differences candidate − reference lie in [−1, 1], and nothing else is known of them. A t-test keeps its level only for many
rows: where a student is rarely wrong by much, it passes too many inferior ones (docs/gates.md, "Graded scores"). Here the test is a bet against the null
hypothesis "the mean difference is ``null`` or less". Each row multiplies the capital by 1 + f · (difference − null) / (1 + null), where f is the share that
is bet. Under the null no strategy is expected to gain, so the chance that the capital ever reaches 1/alpha is at most alpha (Ville's inequality), for any
distribution and any number of rows.

The capital is divided over a fixed grid of f. Each f is best for another spread of the differences. The grid depends on the number of rows only, so
each row's payment rises with its difference: a better answer never takes evidence away.

Source: Waudby-Smith & Ramdas 2024, Journal of the Royal Statistical Society B 86:1-27, sections 4 (capital process, intervals by inversion) and 5
(capital diversified over constant bets).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from redistill.errors import DataError
from redistill.statistics.types import Interval

_Z = 2.8
"""Standard errors at which a bet is best; between what levels of 0.05 and 0.005 ask for."""
_SPREADS = np.geomspace(0.04, 1.0, 12)
_SPREAD_WEIGHTS = np.exp(-0.5 * (np.log(_SPREADS / 0.3) / 0.6) ** 2)
_SPREAD_WEIGHTS /= _SPREAD_WEIGHTS.sum()
"""Standard deviations of row differences to be ready for, and the share of the capital for each; real ones lie around 0.1 to 0.5."""
_LARGEST_BET = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Row differences candidate − reference of scores in [0, 1], in an order that has nothing to do with the scores."""

    differences: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.n < 2:
            raise DataError(f"{self.n} rows; a paired comparison needs at least 2 rows; benchmark more held-out rows")
        if not all(-1.0 <= d <= 1.0 for d in self.differences):
            odd = next(d for d in self.differences if not -1.0 <= d <= 1.0)
            raise DataError(f"a row difference of {odd} is not in [-1, 1]; scores must be between 0 and 1; benchmark again")

    @property
    def n(self) -> int:
        return len(self.differences)

    @property
    def difference(self) -> float:
        """The mean difference."""
        return math.fsum(self.differences) / self.n

    @property
    def discordance(self) -> float:
        """The share of rows on which the two score differently."""
        return sum(d != 0.0 for d in self.differences) / self.n

    def p_value(self, margin: float) -> float:
        """One-sided p-value of H0: the candidate loses ``margin`` or more on average; small means that such a loss is ruled out."""
        if self.difference <= -margin:
            return 1.0  # capital may have grown over the early rows, but the mean of all rows shows no evidence
        return math.exp(-max(0.0, _largest_log_capital(np.array(self.differences), -margin)))

    def interval(self, alpha: float) -> Interval:
        """Two-sided 1 − alpha interval of the mean difference; its lower end lies above −margin exactly when ``p_value`` ≤ alpha / 2."""
        rows = np.array(self.differences)
        return Interval(_lower_bound(rows, self.difference, alpha / 2), -_lower_bound(-rows, -self.difference, alpha / 2))

    def rows_needed(self, margin: float, alpha: float, power: float, most: int) -> int:
        """Total rows at which the test reaches ``power``, if these rows are what all rows are like; 0 where the observed loss is the margin.

        ``most + 1`` says that ``most`` rows are not enough.
        """
        rows = np.array(self.differences)
        if self.difference <= -margin + 1e-12:
            return 0
        if _power(rows, most, -margin, alpha) < power:
            return most + 1
        low, high = min(self.n, most - 1), most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _power(rows, middle, -margin, alpha) >= power else (middle, high)
        return high

    def smallest_loss(self, alpha: float, power: float) -> float:
        """The margin that a candidate passes with ``power`` that is equal on average and differs from row to row as this one does."""
        equal, low, high = self._equal, 0.0, 0.999
        if _power(equal, self.n, -high, alpha) < power:
            return 1.0
        while high - low > 1e-4:
            middle = (low + high) / 2.0
            low, high = (low, middle) if _power(equal, self.n, -middle, alpha) >= power else (middle, high)
        return high

    def power_if_equal(self, margin: float, alpha: float) -> float:
        """How often a candidate passes that is equal on average and differs from row to row as this one does."""
        return _power(self._equal, self.n, -margin, alpha)

    @property
    def _equal(self) -> np.ndarray:
        return np.clip(np.array(self.differences) - self.difference, -1.0, 1.0)


def paired_scores(candidate: Sequence[float], reference: Sequence[float]) -> PairedScores:
    """Differences of the scores of the same rows.

    Raises:
        DataError: lengths differ, fewer than two rows, or a score outside [0, 1].
    """
    if len(candidate) != len(reference):
        raise DataError(
            f"{len(candidate)} candidate rows against {len(reference)} reference rows: a paired test needs the same rows; benchmark both again"
        )
    for row, scores in enumerate(zip(candidate, reference, strict=True)):
        if not all(0.0 <= s <= 1.0 for s in scores):
            raise DataError(f"row {row} has scores {scores}, but a score must be between 0 and 1; benchmark again")
    return PairedScores(tuple(c - r for c, r in zip(candidate, reference, strict=True)))


def _bets(n: int) -> np.ndarray:
    """The shares of its capital that each strategy stakes on every one of ``n`` rows."""
    return np.minimum(_LARGEST_BET, _Z / (_SPREADS * math.sqrt(n)))


def _log_payments(rows_N: np.ndarray, n: int, null: float) -> np.ndarray:
    """Log of what each row pays to each strategy (strategies × rows), when ``n`` rows are played."""
    return np.asarray(np.log1p(np.multiply.outer(_bets(n), (rows_N - null) / (1.0 + null))))


def _log_capital(gains: np.ndarray) -> np.ndarray:
    """Log of the whole capital over time, from the log payments summed up to each time; strategies are the first axis."""
    weighted = gains + np.log(_SPREAD_WEIGHTS).reshape(-1, *[1] * (gains.ndim - 1))
    peak = weighted.max(axis=0)
    return np.asarray(peak + np.log(np.exp(weighted - peak).sum(axis=0)))


def _largest_log_capital(rows_N: np.ndarray, null: float) -> float:
    return float(_log_capital(np.cumsum(_log_payments(rows_N, len(rows_N), null), axis=1)).max())


def _lower_bound(rows_N: np.ndarray, difference: float, level: float) -> float:
    """The largest null that is rejected at ``level``, or the observed difference where that is smaller; by bisection."""
    low, high, wanted = -1.0, difference, -math.log(level)
    for _ in range(40):
        middle = (low + high) / 2.0
        if middle <= -1.0 or middle >= high:
            break
        low, high = (middle, high) if _largest_log_capital(rows_N, middle) >= wanted else (low, middle)
    return low


def _power(rows_N: np.ndarray, n: int, null: float, alpha: float) -> float:
    """Chance that ``n`` rows like ``rows_N`` reject ``null``: that the capital, a random walk with drift, ever reaches log 1/alpha.

    The walk is that of the strategy that leads at the end, with what the others add to it on average. Source: the first passage of Brownian motion
    with drift (Karatzas & Shreve 1991, Brownian Motion and Stochastic Calculus, 3.5.C).
    """
    table = _log_payments(rows_N, n, null)
    drifts, spreads = table.mean(axis=1), table.std(axis=1)
    whole = _log_capital(n * drifts)
    lead = int(np.argmax(np.log(_SPREAD_WEIGHTS) + n * drifts))
    drift, spread = float(drifts[lead]), max(float(spreads[lead]), 1e-6)  # rows that are all alike have none
    wanted, scale = -math.log(alpha) - float(whole - n * drift), spread * math.sqrt(n)
    # Both parts of the formula may overflow where their product is no more than one.
    late = 2.0 * drift * wanted / spread**2
    early = math.exp(late + _log_normal_cdf(-(wanted + n * drift) / scale)) if wanted > 0 else 0.0
    return min(1.0, _NORMAL.cdf((n * drift - wanted) / scale) + early) if wanted > 0 else 1.0


def _log_normal_cdf(z: float) -> float:
    from scipy.special import log_ndtr

    return float(log_ndtr(z))
