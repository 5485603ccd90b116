"""Rehearsals, checked against counts by hand, and against systems whose quality is known."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace

import pytest

from redistill.serving.rehearsal import Rule, more_needed, rehearsed, selected
from redistill.serving.types import Comparison

ONE = Comparison("a", 1.0, "7", "app", "teacher", False, False, 0.0, "sum_logprob", -0.1, "", 0.1, 0.4, 3, 3)
TEACHER, STUDENT = Rule("teacher"), Rule("student")
CASCADE = Rule("cascade", "sum_logprob", -0.5)


def comparisons(count: int = 400, seed: int = 5) -> list[Comparison]:
    """A student that is wrong on 30 % of what it is unsure of, and on 1 % of the rest."""
    draw = random.Random(seed)
    rows = []
    for n in range(count):
        sure = draw.random() < 0.7
        wrong = draw.random() < (0.01 if sure else 0.3)
        rows.append(replace(ONE, id=str(n), slice=f"s{n % 2}", score=-0.1 if sure else -0.9, disagreement=float(wrong)))
    return rows


def test_every_mode_is_counted_as_the_router_would_answer() -> None:
    rows = [
        *[replace(ONE, disagreement=0.0)] * 60,
        *[replace(ONE, score=-0.9, disagreement=1.0)] * 30,
        *[replace(ONE, objection="malformed", disagreement=1.0)] * 10,
    ]
    result = rehearsed(rows, TEACHER, CASCADE, 3.6 / 3600)
    share, agreement = result.measures["share"], result.measures["agreement"]
    assert (share.now.value, share.then.value, share.difference.value) == (0.0, 0.6, 0.6)
    assert (agreement.now.value, agreement.then.value) == (1.0, 1.0)
    seconds = result.measures["model_seconds_per_1000"]
    assert seconds.now.value == pytest.approx(400.0) and seconds.then.value == pytest.approx(1000 * (0.6 * 0.1 + 0.4 * 0.5))
    assert result.measures["usd_per_1000"].then.value == pytest.approx(seconds.then.value * 0.001)
    assert result.measures["latency_p95_s"].then.value == pytest.approx(0.5)
    alone = rehearsed(rows, CASCADE, STUDENT, None).measures
    assert (alone["share"].then.value, alone["agreement"].then.value) == (0.9, pytest.approx(0.7))
    assert "usd_per_1000" not in alone and alone["latency_p50_s"].then.value == pytest.approx(0.1)


def test_intervals_hold_the_truth_and_a_slice_of_the_teacher_stays_with_it() -> None:
    truth = 1.0 - 0.7 * 0.01
    inside = 0
    for seed in range(60):
        change = rehearsed(comparisons(200, seed), TEACHER, CASCADE, None).measures["agreement"]
        inside += change.then.interval.low <= truth <= change.then.interval.high
    assert inside >= 54, "an interval of 95 % misses its value in 1 of 20"
    rows = comparisons()
    result = rehearsed(rows, TEACHER, replace(CASCADE, teacher_slices=("s0",)), None)
    assert set(result.slices) == {"s0", "s1"} and result.slices["s0"]["share"].then.value == 0.0
    assert result.slices["s1"]["share"].then.value > 0.5
    free = [replace(row, disagreement=0.25 * row.disagreement + 0.1) for row in rows]
    quality = rehearsed(free, STUDENT, CASCADE, None).measures["agreement"]
    assert quality.now.interval.low < quality.now.value < quality.now.interval.high < 1.0 and quality.difference.interval.low > 0.0


def test_a_canary_is_rehearsed_with_its_share() -> None:
    rows = [replace(ONE, id=str(n), disagreement=1.0) for n in range(400)]
    measures = rehearsed(rows, replace(STUDENT, share=0.3), STUDENT, None).measures
    share, agreement = measures["share"], measures["agreement"]
    assert share.now.interval.low <= 0.3 <= share.now.interval.high and share.then.value == 1.0
    assert agreement.now.value == pytest.approx(1.0 - share.now.value) and agreement.then.value == 0.0
    more = replace(STUDENT, share=0.6)
    assert all(more.student_answers(row) for row in rows if replace(STUDENT, share=0.3).student_answers(row)), "as in the router"


def test_only_comparisons_that_both_rules_can_judge_are_used() -> None:
    rows = [
        ONE,
        replace(ONE, version="6"),
        replace(ONE, score_name="min_margin"),
        replace(ONE, score=None),
        replace(ONE, score=None, objection="cut-off"),
        replace(ONE, disagreement=2.0),
        replace(ONE, student_s=math.nan),
    ]
    lines = [asdict(row) for row in rows] + [{"at": 1.0}, {**asdict(ONE), "score": "high"}]
    selection = selected(lines, "7", (TEACHER, CASCADE))
    assert len(selection.used) == 2
    assert selection.left_out == {"of other versions": 1, "with another score": 1, "without a score": 1, "unreadable": 4}
    assert len(selected(lines, "7", (TEACHER, STUDENT)).used) == 4, "without a threshold no score is needed"
    later = selected([{**asdict(ONE), "a key of a later version": 1}], "7", (TEACHER, STUDENT))
    assert len(later.used) == 1


def test_how_many_comparisons_are_missing() -> None:
    assert more_needed(0.1, 100, 0.05) is None
    assert more_needed(0.0, 1000, 0.05) == 0
    missing = more_needed(0.0, 20, 0.05)
    assert missing is not None and 45 < missing < 65, "72 without a disagreement show at most 5 %"
