"""``redistill.calibration``: by hand, at its extremes, and on models that are calibrated by construction."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.calibration import calibration
from redistill.errors import DataError
from redistill.records import Bin


def test_by_hand() -> None:
    """Two bins: 0.6 and 0.8 sure with one right of two; 0.9 and 1.0 sure, both right."""
    found = calibration([0.9, 0.6, 1.0, 0.8], [True, False, True, True], 100, 7, bins=2)
    assert found.bins == (Bin(2, pytest.approx(0.7), 0.5), Bin(2, pytest.approx(0.95), 1.0))
    assert found.ece.value == pytest.approx(0.5 * 0.2 + 0.5 * 0.05)
    assert found.brier == pytest.approx((0.1**2 + 0.6**2 + 0 + 0.2**2) / 4)


def test_sure_and_wrong_is_one_sure_and_right_is_none() -> None:
    assert calibration([1.0] * 50, [False] * 50, 100, 7).ece.value == 1.0
    assert calibration([1.0] * 50, [True] * 50, 100, 7).ece.value == 0.0


def test_a_calibrated_model_has_a_small_error_and_an_over_confident_one_its_excess() -> None:
    rng = np.random.default_rng(3)
    sure = rng.uniform(0.3, 0.9, 4000)
    right = (rng.random(4000) < sure).tolist()
    assert calibration(sure.tolist(), right, 100, 7).ece.value < 0.03
    over = calibration((sure + 0.1).tolist(), right, 200, 7).ece
    assert over.value == pytest.approx(0.1, abs=0.02) and over.interval.low < over.value < over.interval.high
    assert calibration(sure.tolist(), right, 100, 7) == calibration(sure.tolist(), right, 100, 7)


@pytest.mark.parametrize(
    ("sure", "right", "says"),
    [([], [], "one each"), ([0.5], [True, False], "one each"), ([1.2], [True], "outside"), ([float("nan")], [True], "outside")],
)
def test_what_is_no_confidence_is_refused(sure: list[float], right: list[bool], says: str) -> None:
    with pytest.raises(DataError, match=says):
        calibration(sure, right, 10, 7)
