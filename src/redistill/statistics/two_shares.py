"""Is one share larger than another? Exact, for few rows too.

Source: Fisher 1935, The Logic of Inductive Inference, Journal of the Royal Statistical Society 98:39-82 (exact test of two shares).
"""

from __future__ import annotations

import math

from redistill.errors import DataError


def larger_share_test(successes: int, n: int, other_successes: int, other_n: int) -> float:
    """Exact one-sided p-value of H0: the true share behind ``successes`` of ``n`` is at most that behind the other counts; 1 where one of them has no rows.

    Raises:
        DataError: counts that are no shares.
    """
    if not 0 <= successes <= n or not 0 <= other_successes <= other_n:
        raise DataError(f"{successes} of {n} and {other_successes} of {other_n} are not shares of rows")
    if not n or not other_n:
        return 1.0
    both = successes + other_successes
    logs = [_log_choices(n, k) + _log_choices(other_n, both - k) for k in range(successes, min(n, both) + 1)]
    return min(1.0, math.fsum(math.exp(value - _log_choices(n + other_n, both)) for value in logs))


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def spent(alpha: float, look: int) -> float:
    """The part of ``alpha`` for look number 1, 2 and so on: alpha / (k (k + 1)), which is alpha over all looks together."""
    return alpha / (look * (look + 1))
