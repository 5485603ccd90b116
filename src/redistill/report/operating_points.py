"""What a cascade gives and costs at each threshold, from the outcomes of its two models on the same rows.

Times and money are those of the student for every request, and of the teacher for the requests that it is given after the student.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from redistill.evaluation.row_scores import row_scores
from redistill.evaluation.timing import Estimate, Timing
from redistill.evaluation.types import Metric, Outcome
from redistill.promotion.cascade import Cascade
from redistill.statistics.types import Interval, Score

_MOST_POINTS = 120


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One threshold: the share that the student answers, the metric of the whole system, and its expected time of a request, the teacher's being 1."""

    answered: float
    quality: float
    request_time: float


def operating_points(
    student: Sequence[Outcome], teacher: Sequence[Outcome], score: str, metric: Metric, time_ratio: float
) -> list[OperatingPoint]:
    """From "answers nothing" to "answers everything", the surest rows first. Both lists are of the same rows in the same order."""
    sure = [confidence_of(o, score) for o in student]
    order = sorted(range(len(sure)), key=lambda i: -sure[i])
    student_N, teacher_N = np.array(row_scores(student, metric)), np.array(row_scores(teacher, metric))
    gains_N = np.cumsum(student_N[order] - teacher_N[order])
    n, total = len(sure), float(teacher_N.sum())
    # Equal scores are answered together.
    cuts = [0, *(c for c in range(1, n + 1) if c == n or sure[order[c]] < sure[order[c - 1]])]
    step = max(1, math.ceil(len(cuts) / _MOST_POINTS))
    kept = [c for i, c in enumerate(cuts) if i % step == 0 or c == n]
    return [OperatingPoint(c / n, (total + (float(gains_N[c - 1]) if c else 0.0)) / n, time_ratio + 1.0 - c / n) for c in kept]


def confidence_of(outcome: Outcome, score: str) -> float:
    """The score of a response; minus infinity where it has none, or cannot be used."""
    if outcome.objection:
        return -math.inf
    value = next((c.value for c in outcome.confidences if c.score == score), math.nan)
    return -math.inf if math.isnan(value) else value


def with_deferral(student: Estimate, teacher: float, deferral: Score) -> Estimate:
    """What a request of the system takes: the student's, and the teacher's for the deferred share. Both intervals are added, which is wider than needed."""
    value, low, high = (
        alone + share * teacher
        for alone, share in (
            (student.value, deferral.value),
            (student.interval.low, deferral.interval.low),
            (student.interval.high, deferral.interval.high),
        )
    )
    return Estimate(value, Interval(low, high))


def request_percentiles(timing: Timing, deferral: float) -> dict[str, float]:
    """Median and 95th percentile of the time of a request, in seconds: each timed request counts as answered and as deferred, by their shares."""
    alone = list(timing.student.request_s)
    both = [a + b for a, b in zip(timing.student.request_s, timing.teacher.request_s, strict=True)]
    seconds = sorted([(s, 1.0 - deferral) for s in alone] + [(s, deferral) for s in both])
    total = math.fsum(weight for _, weight in seconds)

    def at(share: float) -> float:
        reached = 0.0
        for s, weight in seconds:
            reached += weight
            if reached >= share * total - 1e-12:
                return s
        return seconds[-1][0]

    return {"latency_p50_s": at(0.5), "latency_p95_s": at(0.95)}


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that have something in common: the share that goes to the teacher, and how many each model and the system have right."""

    name: str
    rows: int
    deferred: float
    student_right: int
    teacher_right: int
    system_right: int


def groups(
    student: Sequence[Outcome], teacher: Sequence[Outcome], cascade: Cascade, names_of: Callable[[Outcome], Sequence[str]]
) -> list[Group]:
    """Rows by what ``names_of`` says of them; a row may belong to several groups."""
    counts: dict[str, list[int]] = {}
    for of_student, of_teacher in zip(student, teacher, strict=True):
        answers = cascade.choose(of_student.confidences, of_student.objection).answers == "student"
        row = (1, answers, of_student.exact, of_teacher.exact, of_student.exact if answers else of_teacher.exact)
        for name in names_of(of_student):
            counts[name] = [a + int(b) for a, b in zip(counts.get(name, [0] * 5), row, strict=True)]
    return [Group(name, rows, 1 - answered / rows, *right) for name, (rows, answered, *right) in sorted(counts.items())]
