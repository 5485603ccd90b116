"""``redistill.evaluation.probes.calibration``: by hand, at its extremes, and by simulation on models that are calibrated by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from redistill.errors import DataError
from redistill.evaluation.probes.calibration import Surest, calibration, surest_right
from redistill.evaluation.types import Bin
from redistill.statistics.types import Interval

DRAWS = 400


def test_by_hand() -> None:
    """Two bins: 0.6 and 0.8 sure with one right of two; 0.9 and 1.0 sure, both right."""
    found = calibration([0.9, 0.6, 1.0, 0.8], [True, False, True, True], 100, 7, bins=2)
    assert found.bins == (Bin(2, pytest.approx(0.7), 0.5), Bin(2, pytest.approx(0.95), 1.0))
    assert found.error == pytest.approx(0.5 * 0.2 + 0.5 * 0.05)
    assert found.brier == pytest.approx((0.1**2 + 0.6**2 + 0 + 0.2**2) / 4)


def test_what_chance_explains_by_enumeration() -> None:
    """Two responses in one bin, 0.5 and 0.9 sure: errors of 0.7, 0.2 and 0.3 with chances of 0.05, 0.5 and 0.45, so the range is 0.2 to 0.7."""
    found = calibration([0.5, 0.9], [True, True], 4000, 7, bins=1)
    assert found.by_chance == Interval(pytest.approx(0.2), pytest.approx(0.7))
    assert found.error == pytest.approx(0.3) and not found.miscalibrated


def test_sure_and_wrong_is_miscalibrated_and_sure_and_right_is_not() -> None:
    """A model that is wholly sure leaves nothing to chance."""
    wrong, right = (calibration([1.0] * 50, [outcome] * 50, 100, 7) for outcome in (False, True))
    assert (wrong.error, wrong.by_chance, wrong.miscalibrated) == (1.0, Interval(0.0, 0.0), True)
    assert (right.error, right.by_chance, right.miscalibrated) == (0.0, Interval(0.0, 0.0), False)


def simulated(n: int, excess: float, draws: int, seed: int) -> list[tuple[float, Interval, bool]]:
    """Errors of models that are surer by ``excess`` than they are right, with confidences skewed upwards as those of a tuned model are."""
    rng = np.random.default_rng(seed)
    found = []
    for draw in range(draws):
        sure = rng.beta(4, 1.2, n)
        right = rng.random(n) < np.clip(sure - excess, 0, 1)
        done = calibration(sure.tolist(), right.tolist(), 199, draw)
        found.append((done.error, done.by_chance, done.miscalibrated))
    return found


@pytest.mark.parametrize("n", [60, 500])
def test_a_calibrated_model_is_called_miscalibrated_as_often_as_promised(n: int) -> None:
    """The range holds the error of 95 % of calibrated models, and 2.5 % lie above it; within what so many draws can tell (99.9 %)."""
    found = simulated(n, 0.0, DRAWS, 11)
    assert min(error for error, _, _ in found) > 0.0, "chance alone keeps the error above 0, so no interval of it may be asked to cover 0"
    inside = sum(chance.low <= error <= chance.high for error, chance, _ in found)
    low, high = binom.interval(0.999, DRAWS, 0.95)
    assert low <= inside <= high
    assert sum(wrong for *_, wrong in found) <= binom.ppf(0.999, DRAWS, 0.025)


def test_ten_points_of_over_confidence_are_seen_on_500_rows() -> None:
    assert sum(wrong for *_, wrong in simulated(500, 0.1, 100, 5)) >= 95


def test_same_rows_and_seed_same_numbers() -> None:
    sure, right = np.linspace(0.1, 0.9, 50).tolist(), [i % 3 > 0 for i in range(50)]
    assert calibration(sure, right, 100, 7) == calibration(sure, right, 100, 7)


@pytest.mark.parametrize(
    ("sure", "right", "says"),
    [
        ([], [], "one confidence per response"),
        ([0.5], [True, False], "one confidence per response"),
        ([1.2], [True], "outside"),
        ([float("nan")], [True], "outside"),
    ],
)
def test_what_is_no_confidence_is_refused(sure: list[float], right: list[bool], says: str) -> None:
    with pytest.raises(DataError, match=says):
        calibration(sure, right, 10, 7)


def test_the_surest_responses_are_counted_until_a_group_fails() -> None:
    """At 2.5 % and a limit of 90 %: 50 of 50 and 98 of 100 show it, 136 of 150 do not; what comes after is not looked at."""
    bins = [Bin(50, 0.3, 1.0), Bin(50, 0.6, 0.76), Bin(50, 0.8, 0.96), Bin(50, 0.95, 1.0)]
    assert surest_right(bins, 0.9) == Surest(0.8, 98, 100)
    assert surest_right(bins[:2], 0.9) is None and surest_right([], 0.9) is None


def test_a_model_that_is_right_in_nine_of_ten_is_seldom_called_better() -> None:
    """Over all groups together; each alone would reach the level."""
    rng = np.random.default_rng(3)
    claimed = sum(surest_right([Bin(50, 0.9, float(rng.binomial(50, 0.9)) / 50) for _ in range(10)], 0.9) is not None for _ in range(2000))
    assert claimed <= binom.ppf(0.999, 2000, 0.025)
