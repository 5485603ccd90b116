"""Learn then test: with a probability of at least 1 - ``doubt``, over the draw of the calibration rows, the expected loss per request is at most ``limit``.

Thresholds are tested one after the other, from the one that answers least, until one test fails. Such a fixed sequence needs no correction. The test is
exact for losses of 0 and 1, and Hoeffding's and Bentkus's bound for losses in between.

Source: Angelopoulos, Bates, Candès, Jordan & Lei 2021, Learn then test (arXiv 2110.01052), sections 1.1 and 3.2; Bates et al. 2021, Distribution-free,
risk-controlling prediction sets, Journal of the ACM 68:43 (the bound).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def rows_to_answer(losses: Sequence[float], cuts: Sequence[int], limit: float, doubt: float) -> int:
    """How many of the surest rows may be answered: the last of ``cuts`` before the first test that fails; 0 if none passes.

    ``losses`` are in the order of the scores, the surest row first. ``cuts`` are the numbers of rows that are possible: rows with equal scores stay
    together. The sequence starts with "answer nothing", whose loss is 0.
    """
    if not cuts:
        return 0
    lost_C = np.cumsum(losses)[np.asarray(cuts) - 1]
    failed_C = p_values(lost_C, len(losses), limit, whole=set(losses) <= {0.0, 1.0}) > doubt
    passed = int(failed_C.argmax()) if failed_C.any() else len(cuts)
    return cuts[passed - 1] if passed else 0


def p_values(lost_C: np.ndarray, n: int, limit: float, *, whole: bool = True) -> np.ndarray:
    """Of the null hypotheses "the expected loss is above ``limit``", where the losses of ``n`` rows sum to each of ``lost_C``."""
    from scipy.special import rel_entr
    from scipy.stats import binom

    exact_C: np.ndarray = binom.cdf(np.ceil(lost_C - 1e-9), n, limit)
    if whole:
        return exact_C
    mean_C = np.minimum(lost_C / n, limit)
    divergence_C = rel_entr(mean_C, limit) + rel_entr(1.0 - mean_C, 1.0 - limit)
    bound_C: np.ndarray = np.minimum(1.0, np.minimum(np.exp(-n * divergence_C), math.e * exact_C))
    return bound_C


def rows_needed(limit: float, doubt: float) -> int:
    """The fewest calibration rows with which a student without any loss may answer something."""
    return math.ceil(math.log(doubt) / math.log1p(-limit))
