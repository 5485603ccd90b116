"""Replays logged comparisons under another mode or threshold: what would quality, share, cost and latency have been, against the mode that is live now?

Both rules see the same requests, so differences are paired. Where the student's completion could not be used, or its score is not above the limit, the teacher
answers, after the time of the student. Agreement is with the teacher: of what the teacher answers itself, it is 1.

Source: Clopper & Pearson 1934 (exact intervals of shares); Efron & Tibshirani 1993, chapters 8 and 13 (bootstrap of rows).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np

from redistill.serving.router.plan import in_share
from redistill.serving.types import Comparison, Mode
from redistill.statistics.bootstrap import bootstrap_paired
from redistill.statistics.paired_counts import difference_interval, paired_counts
from redistill.statistics.shares import share_interval
from redistill.statistics.types import Score

FEWEST = 100
"""Fewer comparisons say too little to print a number."""
_FEWEST_OF_SLICE = 30
_MOST_ROWS = 20_000
_SALT = "rehearsal"
_RESAMPLES, _SEED, _ALPHA = 1000, 17, 0.05


@dataclass(frozen=True, slots=True)
class Rule:
    """Who would answer: ``limit`` is what a score by ``score_name`` must be above, in mode cascade.

    ``share`` of the keys are for the mode, the others for the teacher. No key is logged, so that many requests are drawn by their ids.
    """

    mode: Mode
    score_name: str = ""
    limit: float = math.nan
    teacher_slices: tuple[str, ...] = ()
    share: float = 1.0

    def student_answers(self, comparison: Comparison) -> bool:
        if not self._asks_student(comparison) or comparison.objection or comparison.disagreement is None:
            return False
        return self.mode == "student" or (comparison.score is not None and comparison.score > self.limit)

    def disagreement(self, comparison: Comparison) -> float:
        return comparison.disagreement or 0.0 if self.student_answers(comparison) else 0.0

    def seconds(self, comparison: Comparison) -> float:
        """Both models' time where the student is asked and the teacher answers."""
        student_s = comparison.student_s or 0.0 if self._asks_student(comparison) else 0.0
        return student_s + (0.0 if self.student_answers(comparison) else comparison.teacher_s)

    def _asks_student(self, comparison: Comparison) -> bool:
        if self.mode == "teacher" or comparison.slice in self.teacher_slices:
            return False
        return in_share(comparison.id, self.share, _SALT)


@dataclass(frozen=True, slots=True)
class Change:
    """One measure under the live rule and under the rehearsed one, and the paired difference."""

    now: Score
    then: Score
    difference: Score


@dataclass(frozen=True, slots=True)
class Selection:
    """The comparisons that are replayed, and how many were left out, by reason."""

    used: tuple[Comparison, ...]
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """``measures`` by name; ``slices`` has agreement and share of each slice with enough comparisons."""

    n: int
    measures: dict[str, Change]
    slices: dict[str, dict[str, Change]]


def selected(lines: Iterable[dict[str, Any]], version: str, rules: Sequence[Rule]) -> Selection:
    """The comparisons of one version that all rules can judge; the newest 20,000."""
    used, left_out = list[Comparison](), Counter[str]()
    names = {rule.score_name for rule in rules if rule.mode == "cascade"}
    for line in lines:
        comparison = _comparison(line)
        if comparison is None:
            left_out["unreadable"] += 1
        elif comparison.version != version:
            left_out["of other versions"] += 1
        elif comparison.disagreement is None:
            left_out["on which the student failed"] += 1
        elif names - {comparison.score_name}:
            left_out["with another score"] += 1
        elif names and comparison.score is None and not comparison.objection:
            # A student that answered alone may have no recorded score; a cascade would have had one.
            left_out["without a score"] += 1
        else:
            used.append(comparison)
    if len(used) > _MOST_ROWS:
        left_out["older"] += len(used) - _MOST_ROWS
    return Selection(tuple(used[-_MOST_ROWS:]), dict(left_out))


def rehearsed(comparisons: Sequence[Comparison], now: Rule, then: Rule, usd_per_second: float | None) -> Rehearsal:
    """Every measure under both rules. ``usd_per_second`` is the price of a model's second; None leaves the price out."""
    seconds = [[rule.seconds(c) for c in comparisons] for rule in (now, then)]
    measures = _quality(comparisons, now, then) | {
        "model_seconds_per_1000": _scaled(seconds, _mean, 1000.0),
        "latency_p50_s": _scaled(seconds, _quantile(0.5)),
        "latency_p95_s": _scaled(seconds, _quantile(0.95)),
    }
    if usd_per_second is not None:
        measures["usd_per_1000"] = _scaled(seconds, _mean, 1000.0 * usd_per_second)
    counted = Counter(c.slice for c in comparisons)
    slices = {
        name: _quality([c for c in comparisons if c.slice == name], now, then)
        for name in sorted(counted)
        if len(counted) > 1 and counted[name] >= _FEWEST_OF_SLICE
    }
    return Rehearsal(len(comparisons), measures, slices)


def more_needed(disagreement: float, n: int, limit: float) -> int | None:
    """How many more comparisons would show that the disagreement is at most ``limit``, if it stays as observed; 0 if they show it now, None if it is too high.

    By the exact interval; for disagreements between 0 and 1 its width is too large rather than too small.
    """
    if disagreement >= limit:
        return None
    needed = n
    while share_interval(math.ceil(disagreement * needed), needed, _ALPHA).high > limit:
        needed += max(1, needed // 20)
    return needed - n


def _quality(comparisons: Sequence[Comparison], now: Rule, then: Rule) -> dict[str, Change]:
    agreement = [[1.0 - rule.disagreement(c) for c in comparisons] for rule in (now, then)]
    by_student = [[rule.student_answers(c) for c in comparisons] for rule in (now, then)]
    exact = all(value in (0.0, 1.0) for values in agreement for value in values)
    return {
        "agreement": _shares([[v == 1.0 for v in values] for values in agreement]) if exact else _scaled(agreement, _mean),
        "share": _shares(by_student),
    }


def _shares(pair: Sequence[Sequence[bool]]) -> Change:
    (now, then), n = pair, len(pair[0])
    one, two = (Score(sum(values) / n, share_interval(sum(values), n, _ALPHA)) for values in (now, then))
    return Change(one, two, Score(two.value - one.value, difference_interval(paired_counts(then, now), _ALPHA)))


def _scaled(pair: Sequence[Sequence[float]], statistic: Callable[[np.ndarray], Any], factor: float = 1.0) -> Change:
    scores = bootstrap_paired(lambda rows: factor * statistic(rows), pair[0], pair[1], _RESAMPLES, _SEED)
    return Change(*scores)


def _quantile(q: float) -> Callable[[np.ndarray], Any]:
    return lambda rows: np.asarray(np.quantile(rows, q, axis=-1))


def _mean(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows.mean(axis=-1))


def _comparison(line: dict[str, Any]) -> Comparison | None:
    """A comparison of the log; None for a line that is none."""
    try:
        comparison = Comparison(**{field.name: line[field.name] for field in fields(Comparison)})
        # Both are null where the student failed.
        numbers = (comparison.disagreement or 0.0, comparison.student_s or 0.0, comparison.teacher_s)
        usable = (
            all(math.isfinite(value) and value >= 0.0 for value in numbers)
            and (comparison.disagreement is None) == (comparison.student_s is None)
            and numbers[0] <= 1.0
            and (comparison.score is None or math.isfinite(comparison.score))
            and comparison.live in get_args(Mode)
            and all(isinstance(text, str) for text in (comparison.version, comparison.slice, comparison.score_name, comparison.objection))
        )
    except (KeyError, TypeError):
        return None
    return comparison if usable else None


def interval_text(score: Score, form: str) -> str:
    """A value with its interval, for people."""
    low, high = (format(value, form) for value in (score.interval.low, score.interval.high))
    return f"{format(score.value, form)} [{low}, {high}]"
