"""The score of one held-out row, by the metric that ``promote.metric`` names: a share from 0 to 1.

Exact match is right or wrong. The F1 of a row's items gives credit for a record that is right in part: with many labels and fields, two
records that differ in one of ten are nearly alike. chrF does so for free text, which has no one right spelling.

Source: Popović 2015, chrF: character n-gram F-score for automatic MT evaluation (WMT); computed by sacrebleu, a row at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from redistill.evaluation.types import Metric, Outcome

NAMES: dict[Metric, str] = {"exact_match": "exact match", "row_f1": "row F1", "chrf": "chrF"}
"""The metrics' names in texts; all are means over rows."""


def row_scores(outcomes: Sequence[Outcome], metric: Metric) -> list[float]:
    """The score of each row, in order."""
    if metric == "exact_match":
        return [float(o.exact) for o in outcomes]
    if metric == "row_f1":
        return [_row_f1(o) for o in outcomes]
    return chrf_scores([(o.target, o.response) for o in outcomes])


def chrf_scores(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """chrF of (reference, completion) pairs, each by itself."""
    return [_chrf(reference, completion) for reference, completion in pairs]


@cache
def _metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@lru_cache(maxsize=100_000)
def _chrf(reference: str, completion: str) -> float:
    """Cached, because every gate of a decision needs the same rows, and a row takes a millisecond."""
    return float(min(1.0, max(0.0, _metric().sentence_score(completion, [reference]).score / 100)))


def _row_f1(outcome: Outcome) -> float:
    items = 2 * outcome.true_positives + outcome.false_positives + outcome.false_negatives
    return 2 * outcome.true_positives / items if items else float(outcome.exact)
