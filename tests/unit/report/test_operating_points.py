"""What a cascade gives and costs at each threshold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from redistill.evaluation.timing import Estimate, Times, Timing
from redistill.evaluation.types import Confidence, Outcome
from redistill.promotion.cascade import Cascade
from redistill.report.operating_points import groups, operating_points, request_percentiles, with_deferral
from redistill.statistics.types import Interval, Score


def outcome(number: int, right: bool, sure: float | None = None, slice: str = "app") -> Outcome:
    response = "x" if right else "y"
    row = Outcome(f"p{number}", f"d{number}", "h", slice, "x", response, right, int(right), int(not right), int(not right))
    return row if sure is None else replace(row, confidences=(Confidence("s", sure),))


STUDENT = [outcome(0, True, 0.9), outcome(1, False, 0.1), outcome(2, True, 0.5, "phone"), outcome(3, False, 0.5)]
TEACHER = [outcome(0, True), outcome(1, True), outcome(2, False), outcome(3, True)]


def test_from_answering_nothing_to_answering_everything() -> None:
    points = operating_points(STUDENT, TEACHER, "s", "exact_match", 0.4)
    assert [(p.answered, p.quality, p.request_time) for p in points] == [
        (0.0, 0.75, 1.4),
        (0.25, 0.75, pytest.approx(1.15)),
        (0.75, 0.75, pytest.approx(0.65)),
        (1.0, 0.5, pytest.approx(0.4)),
    ], "the two rows with the same score are answered together"


def test_rows_without_a_score_are_answered_last() -> None:
    unsure = [outcome(0, True, math.nan), *STUDENT[1:]]
    assert operating_points(unsure, TEACHER, "s", "exact_match", 0.4)[1].answered == 0.5


def test_groups_say_who_answers_what_and_what_is_right() -> None:
    found = groups(STUDENT, TEACHER, Cascade("s", 0.3, 0.0, "", ()), lambda o: [o.slice])
    assert [(g.name, g.rows, g.deferred, g.student_right, g.teacher_right, g.system_right) for g in found] == [
        ("app", 3, pytest.approx(1 / 3), 1, 3, 2),
        ("phone", 1, 0.0, 1, 0, 1),
    ]


def test_a_deferred_request_takes_both_models() -> None:
    timing = Timing("hf", Times("", 10, (1.0, 1.0)), Times("", 10, (3.0, 3.0)))
    assert request_percentiles(timing, 0.0) == {"latency_p50_s": 1.0, "latency_p95_s": 1.0}
    assert request_percentiles(timing, 0.4) == {"latency_p50_s": 1.0, "latency_p95_s": 4.0}
    assert request_percentiles(timing, 1.0) == {"latency_p50_s": 4.0, "latency_p95_s": 4.0}
    found = with_deferral(Estimate(0.3, Interval(0.2, 0.4)), 2.0, Score(0.5, Interval(0.4, 0.6)))
    assert (found.value, found.interval.low, found.interval.high) == (pytest.approx(1.3), pytest.approx(1.0), pytest.approx(1.6))
