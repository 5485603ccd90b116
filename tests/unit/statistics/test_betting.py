"""``redistill.statistics.betting``: the level by enumeration and simulation, where a t-test does not keep it; intervals, power, and rows that it asks for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, ttest_1samp

from redistill.errors import DataError
from redistill.statistics.betting import PairedScores, paired_scores

MARGIN = 0.05
Draw = Callable[[np.random.Generator, int], np.ndarray]


def rare_ruin(rng: np.random.Generator, n: int) -> np.ndarray:
    """Alike on most rows, wholly wrong on one in twenty."""
    return np.where(rng.random(n) < MARGIN, -1.0, 0.0)


def right_or_wrong(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.asarray(rng.choice([1.0, 0.0, -1.0], n, p=[0.075, 0.8, 0.125]))


def free_text(rng: np.random.Generator, n: int) -> np.ndarray:
    """As chrF differences look: symmetric, a fifth of the scale wide."""
    return np.asarray(rng.triangular(-0.5, 0.0, 0.5, n) - MARGIN)


def few_rows_differ(rng: np.random.Generator, n: int) -> np.ndarray:
    sizes = np.where(rng.random(n) < 0.2, rng.choice([-1.0, 1.0], n) * rng.beta(3, 6, n), 0.0)
    return np.asarray(sizes * (1 - MARGIN) - MARGIN)


NULLS = [rare_ruin, right_or_wrong, free_text, few_rows_differ]
"""Distributions whose mean is a loss of exactly the margin."""


def most_wrong(draws: int, level: float) -> int:
    """More wrong passes than this come up less than once in a million when the level is kept."""
    return int(binom.ppf(1 - 1e-6, draws, level))


@pytest.mark.parametrize("draw", NULLS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [30, 100, 400])
def test_the_level_is_kept_for_any_distribution(draw: Draw, n: int) -> None:
    rng, draws = np.random.default_rng(n), 2000
    p_values = np.array([PairedScores(tuple(draw(rng, n))).p_value(MARGIN) for _ in range(draws)])
    for level in (0.05, 0.005):
        assert (p_values <= level).sum() <= most_wrong(draws, level)


def test_a_t_test_does_not_keep_it() -> None:
    """The reason for all this: on the same rows it passes students that lose the margin far more often than one time in twenty."""
    rng, draws = np.random.default_rng(200), 2000
    rows = [rare_ruin(rng, 200) for _ in range(draws)]
    wrong = (ttest_1samp(np.array(rows), -MARGIN, axis=1, alternative="greater").pvalue <= 0.05).sum()
    assert wrong > most_wrong(draws, 0.05)
    assert sum(PairedScores(tuple(r)).p_value(MARGIN) <= 0.05 for r in rows) <= most_wrong(draws, 0.05)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-1.0, 0.1), (-0.3, 0.6)])
def test_the_level_is_exact_by_enumeration(low: float, high: float) -> None:
    """All sequences of ten rows with two values: the chance of p ≤ level under the null, summed up, is at most the level."""
    chance_low = (high + MARGIN) / (high - low)
    for level in (0.3, 0.1, 0.05):
        wrong = 0.0
        for rows in itertools.product((low, high), repeat=10):
            if PairedScores(rows).p_value(MARGIN) <= level:
                lows = rows.count(low)
                wrong += chance_low**lows * (1 - chance_low) ** (10 - lows)
        assert wrong <= level


def test_power_is_near_a_t_tests_where_that_is_right() -> None:
    """Equal students, chrF-like differences: what a guarantee for every distribution costs."""
    rng, draws, passed = np.random.default_rng(3), 300, np.zeros(2)
    for _ in range(draws):
        rows = rng.triangular(-0.5, 0.0, 0.5, 200)
        passed += [PairedScores(tuple(rows)).p_value(MARGIN) <= 0.05, ttest_1samp(rows, -MARGIN, alternative="greater").pvalue <= 0.05]
    assert passed[1] / draws > 0.9 and passed[0] / draws > 0.8


@pytest.mark.parametrize("draw", NULLS, ids=lambda f: f.__name__)
def test_the_interval_decides_as_the_test_and_covers_the_truth(draw: Draw) -> None:
    rng, draws, covered = np.random.default_rng(9), 120, 0
    for _ in range(draws):
        found = PairedScores(tuple(draw(rng, 150)))
        interval = found.interval(0.10)
        covered += interval.low <= -MARGIN <= interval.high
        assert -1.0 <= interval.low <= found.difference <= interval.high <= 1.0
        for margin in (0.01, 0.03, 0.05, 0.1, 0.2):
            p_value = found.p_value(margin)
            if abs(p_value - 0.05) > 1e-9:
                assert (p_value < 0.05) == (interval.low > -margin)
    assert draws - covered <= most_wrong(draws, 0.10)


def test_the_interval_mirrors_when_the_models_swap() -> None:
    rows = tuple(few_rows_differ(np.random.default_rng(1), 80))
    there, back = PairedScores(rows).interval(0.1), PairedScores(tuple(-d for d in rows)).interval(0.1)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=40)


@given(SCORES, st.data())
def test_a_better_row_never_takes_evidence_away(scores: list[tuple[float, float]], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(scores) - 1))
    better = data.draw(st.floats(scores[row][0], 1))
    candidate, reference = [c for c, _ in scores], [r for _, r in scores]
    before = paired_scores(candidate, reference)
    after = paired_scores([*candidate[:row], better, *candidate[row + 1 :]], reference)
    for margin in (0.02, 0.05, 0.3):
        assert after.p_value(margin) <= before.p_value(margin) * (1 + 1e-9)


def test_equal_rows_are_evidence_that_grows_with_their_number() -> None:
    p_values = [PairedScores((0.0,) * n).p_value(MARGIN) for n in (10, 50, 100, 200)]
    assert p_values == sorted(p_values, reverse=True) and p_values[1] > 0.05 > p_values[2] and p_values[3] < 0.005


def test_rows_that_are_all_alike_need_as_many_more_as_make_the_test_pass() -> None:
    needed = PairedScores((0.0,) * 30).rows_needed(MARGIN, 0.05, 0.8, most=2000)
    assert PairedScores((0.0,) * needed).p_value(MARGIN) <= 0.05 < PairedScores((0.0,) * (needed - 1)).p_value(MARGIN)
    smallest = PairedScores((0.0,) * 100).smallest_loss(0.05, 0.8)
    assert PairedScores((0.0,) * 100).p_value(smallest) <= 0.05 < PairedScores((0.0,) * 100).p_value(smallest - 0.002)


def test_early_luck_is_no_evidence_for_a_mean_that_lies_beyond_the_margin() -> None:
    rows = (0.5,) * 100 + (-1.0,) * 100
    assert PairedScores(rows).p_value(MARGIN) == 1.0


@pytest.mark.parametrize(("draw", "n", "shift"), [(few_rows_differ, 60, 0.03), (free_text, 60, 0.05), (free_text, 150, 0.02)])
def test_the_rows_that_are_asked_for_bring_the_power_that_is_promised(draw: Draw, n: int, shift: float) -> None:
    """If all rows are like those that were seen: fresh draws from them, of the promised number, pass about as often as promised."""
    seen = draw(np.random.default_rng(4), n)
    found = PairedScores(tuple(np.clip(seen - seen.mean() - MARGIN + shift, -1, 1)))
    needed = found.rows_needed(MARGIN, 0.05, 0.8, most=20_000)
    assert n < needed <= 20_000
    rng, draws = np.random.default_rng(77), 300
    passed = sum(PairedScores(tuple(rng.choice(found.differences, needed))).p_value(MARGIN) <= 0.05 for _ in range(draws))
    assert 0.72 <= passed / draws <= 0.92
    assert found.rows_needed(MARGIN, 0.05, 0.8, most=needed // 2) == needed // 2 + 1, "too few is said to be too few"


def test_no_number_of_rows_helps_a_loss_of_the_margin() -> None:
    assert PairedScores((-0.1, 0.0) * 30).rows_needed(MARGIN, 0.05, 0.8, most=10_000) == 0


def test_the_smallest_loss_is_the_margin_that_an_equal_student_meets_with_that_power() -> None:
    found = PairedScores(tuple(few_rows_differ(np.random.default_rng(5), 200)))
    smallest = found.smallest_loss(0.05, 0.8)
    assert 0.01 < smallest < 0.1
    assert found.power_if_equal(smallest, 0.05) >= 0.8 > found.power_if_equal(smallest - 0.005, 0.05)
    assert PairedScores((1.0, -1.0)).smallest_loss(0.005, 0.8) == 1.0


@pytest.mark.parametrize(
    ("candidate", "reference", "says"),
    [
        ([0.5], [0.5, 0.5], "1 candidate rows against 2"),
        ([0.5], [0.5], "at least 2 rows"),
        ([0.5, 1.2], [0.5, 0.5], "row 1 has scores"),
        ([math.nan, 0.0], [0.5, 0.5], "row 0 has scores"),
    ],
)
def test_bad_scores_are_named(candidate: list[float], reference: list[float], says: str) -> None:
    with pytest.raises(DataError, match=says):
        paired_scores(candidate, reference)
    with pytest.raises(DataError, match=r"is not in \[-1, 1\]"):
        PairedScores((0.0, -1.5))
