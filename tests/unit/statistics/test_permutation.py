"""Two samples under permuted labels: known values, p-values that are uniform without a difference, and differences that are seen."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.stats import binom, chi2, ks_2samp, kstest

from redistill.errors import DataError
from redistill.statistics.permutation import distribution_distance, permutation_p, stability_index

DRAWS = 200


def test_the_index_is_that_of_the_definition() -> None:
    old, new = ["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 70
    p, q = [(30 + 0.5) / 101, (70 + 0.5) / 101], [(60 + 0.5) / 101, (40 + 0.5) / 101]
    expected = sum((x - y) * math.log(x / y) for x, y in zip(p, q, strict=True))
    result = stability_index(old, new, 199, 1)
    assert result.value == pytest.approx(expected) and result.p_value == 1 / 200
    assert stability_index(old, old, 199, 1).value == 0.0 and stability_index(old, old, 199, 1).p_value == 1.0
    assert math.isfinite(stability_index(["a"] * 50, ["b"] * 50, 99, 1).value), "a category that one sample lacks"


def test_the_usual_limits_are_exceeded_by_chance_in_small_samples() -> None:
    """With ten categories and 50 rows a side, an index of 0.25 is common without any difference: why fixed limits are not used."""
    draw, values, ranges = random.Random(2), [], []
    for seed in range(DRAWS):
        old, new = ([draw.randrange(10) for _ in range(50)] for _ in range(2))
        result = stability_index(old, new, 199, seed)
        values.append(result.value)
        ranges.append(result.by_chance.high)
    assert np.mean([v > 0.25 for v in values]) > 0.6 and min(ranges) > 0.25
    assert np.mean(values) == pytest.approx(chi2.mean(9) * (1 / 50 + 1 / 50), rel=0.25)


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(3)
    old, new = np.round(rng.normal(size=80), 1).tolist(), np.round(rng.normal(0.5, 1, size=50), 1).tolist()
    result = distribution_distance(old, new, 199, 1)
    assert result.value == pytest.approx(ks_2samp(old, new).statistic)
    assert distribution_distance(new, old, 99, 1).value == pytest.approx(result.value)
    assert distribution_distance([1.0] * 30, [1.0] * 20, 99, 1).p_value == 1.0, "equal values are no difference"


@pytest.mark.parametrize("kind", ["categories", "scores"])
def test_without_a_difference_p_values_are_uniform(kind: str) -> None:
    rng, p_values, outside = np.random.default_rng(4), [], 0
    for seed in range(DRAWS):
        if kind == "categories":
            old, new = (rng.choice(6, n, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05]).tolist() for n in (120, 70))
            result = stability_index(old, new, 99, seed)
        else:
            result = distribution_distance(rng.normal(size=90).tolist(), rng.normal(size=60).tolist(), 99, seed)
        # Ties make a p-value larger, never smaller.
        p_values.append(result.p_value)
        outside += result.value > result.by_chance.high
    assert kstest(p_values, "uniform", alternative="greater").pvalue > 0.001
    assert outside <= binom.ppf(0.999, DRAWS, 0.025)


def test_a_difference_is_seen() -> None:
    rng = np.random.default_rng(5)
    assert distribution_distance(rng.normal(size=200).tolist(), rng.normal(0.6, 1, 200).tolist(), 999, 1).p_value == 0.001
    assert stability_index([0] * 150 + [1] * 50, [0] * 100 + [1] * 100, 999, 1).p_value == 0.001


def test_a_p_value_is_never_zero() -> None:
    assert permutation_p(1.0, [0.0] * 99) == 0.01 and permutation_p(0.0, [0.0] * 99) == 1.0


def test_empty_samples_and_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="0 and 1 rows"):
        stability_index([], ["a"], 9, 1)
    with pytest.raises(DataError, match="not a number"):
        distribution_distance([1.0, math.nan], [1.0], 9, 1)
