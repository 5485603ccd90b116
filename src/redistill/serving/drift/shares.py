"""Shares of requests: against the same share of the reference rows, and against a promise.

Source: Fisher 1935, The Design of Experiments (the exact test of two shares); ``redistill.statistics.e_process`` for the promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redistill.serving.drift.types import Measure
from redistill.statistics.bootstrap import bootstrap_mean
from redistill.statistics.shares import share_interval
from redistill.statistics.types import Interval

_ALPHA = 0.05
_RESAMPLES, _SEED = 1000, 7


def against_reference(measure: Measure, live: int, reference: int, *, two_sided: bool) -> Measure:
    """A count of the live rows against one of the reference rows: Fisher's exact test. The excess is the distance of both shares; one-sided, only upwards."""
    from scipy.stats import fisher_exact, hypergeom

    n, m = measure.rows, measure.reference_rows
    table = [[live, n - live], [reference, m - reference]]
    p = float(fisher_exact(table, alternative="two-sided" if two_sided else "greater").pvalue)
    usual = hypergeom(n + m, live + reference, n)
    by_chance = Interval(float(usual.ppf(_ALPHA / 2)) / n, float(usual.ppf(1 - _ALPHA / 2)) / n)
    distance = live / n - reference / m
    return replace(
        measure,
        value=live / n,
        by_chance=by_chance,
        interval=share_interval(live, n, _ALPHA),
        excess=abs(distance) if two_sided else distance,
        p_value=min(1.0, p),
    )


def against_promise(measure: Measure, compared: Sequence[float], p_value: float, promised: float) -> Measure:
    """The mean disagreement of the window's comparisons, with its 95 % interval. ``p_value`` is of all comparisons of this student, and valid at any time."""
    mean = sum(compared) / len(compared)
    whole = all(value in (0.0, 1.0) for value in compared)
    interval = (
        share_interval(round(sum(compared)), len(compared), _ALPHA) if whole else bootstrap_mean(compared, _RESAMPLES, _SEED).interval
    )
    return replace(
        measure, value=mean, by_chance=Interval(0.0, promised), interval=interval, excess=mean - promised, p_value=min(1.0, p_value)
    )
