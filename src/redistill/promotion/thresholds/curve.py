"""The risk–coverage curve of a score: which share of rows a student answers at each threshold, and the loss that this costs.

Source: El-Yaniv & Wiener 2010, On the foundations of noise-free selective classification (the curve); Geifman, Uziel & El-Yaniv 2019 (its area).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redistill.errors import DataError


@dataclass(frozen=True, slots=True)
class Curve:
    """N rows, the surest first. A row is answered where its score is above the threshold, so equal scores are answered or deferred together.

    ``cuts`` are the numbers of rows that can be answered, ``thresholds`` the score of the surest row that is deferred then (minus infinity where none is).
    """

    scores: tuple[float, ...]
    losses: tuple[float, ...]
    cuts: tuple[int, ...]
    thresholds: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.losses)

    def risks(self) -> list[float]:
        """The loss per request (of all rows) at each cut."""
        total = np.cumsum(self.losses)
        return [float(total[cut - 1]) / self.n for cut in self.cuts]

    def area(self) -> float:
        """Mean loss of the answered rows, averaged over all coverages: lower is better. It is 0 only if no row has a loss."""
        total = np.cumsum(self.losses)
        return float(np.mean(total / np.arange(1, self.n + 1)))


def curve(scores: Sequence[float], losses: Sequence[float]) -> Curve:
    """The curve of a score. A row whose score is not a number can never be answered; it is last.

    Raises:
        DataError: no rows, numbers of scores and losses that differ, or a loss outside [0, 1].
    """
    if len(scores) != len(losses) or not losses:
        raise DataError(f"{len(scores)} scores for {len(losses)} losses; a curve needs at least one row, and one score and loss per row")
    if not all(0.0 <= loss <= 1.0 for loss in losses):
        raise DataError("a loss lies outside [0, 1]; run the stage `calibrate` again")
    sure = [-math.inf if math.isnan(s) else float(s) for s in scores]
    order = sorted(range(len(sure)), key=lambda i: -sure[i])
    ordered = [sure[i] for i in order]
    cuts = [n for n in range(1, len(ordered) + 1) if ordered[n - 1] > -math.inf and (n == len(ordered) or ordered[n] < ordered[n - 1])]
    thresholds = tuple(ordered[n] if n < len(ordered) else -math.inf for n in cuts)
    return Curve(tuple(ordered), tuple(float(losses[i]) for i in order), tuple(cuts), thresholds)


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """The chance that a right row has a higher score than a wrong one, ties half; None where all rows are right, or all are wrong."""
    from scipy.stats import rankdata

    sure_N = np.array([-math.inf if math.isnan(s) else s for s in scores])
    right_N = np.array(right, dtype=bool)
    n, m = int(right_N.sum()), int((~right_N).sum())
    if not n or not m:
        return None
    return float((rankdata(sure_N)[right_N].sum() - n * (n + 1) / 2) / (n * m))
