"""A test of a mean that may be looked at after every observation: no expected gain under the null by enumeration, its level by simulation, and detection."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from redistill.statistics.e_process import EProcess, advanced, kept_back, observations_needed

LIMIT, ALPHA = 0.05, 0.05


def capital_after(observations: list[float], limit: float = LIMIT) -> float:
    state = EProcess(limit)
    for x in observations:
        state = state.after(x)
    return sum(state.capital) + kept_back(len(observations) - 1)


@pytest.mark.parametrize("limit", [0.02, 0.3, 0.9])
def test_no_stream_at_the_limit_is_expected_to_gain(limit: float) -> None:
    """All streams of ten zeros and ones, each with its chance: the mean capital is exactly 1."""
    expected = math.fsum(
        limit ** sum(bits) * (1 - limit) ** (10 - sum(bits)) * capital_after([float(b) for b in bits], limit)
        for bits in itertools.product((0, 1), repeat=10)
    )
    assert expected == pytest.approx(1.0, abs=1e-9)


def test_the_mean_capital_stays_one_when_parts_are_bet_later() -> None:
    """Over several periods, where the parts that were kept back come in: by the linearity of the mean."""
    capital = np.zeros(10)
    for n in range(350):
        # An observation of exactly the limit is the mean step under the null.
        capital = advanced(capital, LIMIT, n, LIMIT)
        assert capital.sum() + kept_back(n) == pytest.approx(1.0, abs=1e-12)


def test_false_alarms_and_detection_by_simulation() -> None:
    rng, streams, steps = np.random.default_rng(11), 2000, 2000

    def first_alarms(means: np.ndarray) -> np.ndarray:
        capital, first = np.zeros((streams, 10)), np.full(streams, steps)
        for n in range(steps):
            capital = advanced(capital, (rng.random(streams) < means[n]).astype(float), n, LIMIT)
            crossed = capital.sum(-1) + kept_back(n) >= 1 / ALPHA
            first = np.where(crossed & (first == steps), n, first)
        return first

    at_limit = first_alarms(np.full(steps, LIMIT))
    # 5 % is the promise; three standard errors of 2,000 streams are 1.5 points.
    assert (at_limit < steps).mean() <= 0.065
    doubled = first_alarms(np.full(steps, 2 * LIMIT))
    assert np.median(doubled) <= observations_needed(LIMIT, 2 * LIMIT, ALPHA)
    # A thousand quiet observations first: without parts that are bet later, most of these would not be seen within the next thousand.
    late = first_alarms(np.where(np.arange(steps) < 1000, 0.01, 3 * LIMIT))
    assert (late < 1000).mean() < 0.01 and (late < steps).mean() > 0.99 and np.median(late) < 1200


def test_the_largest_capital_counts_and_the_state_goes_on_where_it_was() -> None:
    state = EProcess(LIMIT)
    for _ in range(6):
        state = state.after(1.0)
    assert state.rejects(ALPHA) and state.p_value <= ALPHA
    for _ in range(500):
        state = state.after(0.0)
    assert state.rejects(ALPHA) and state.n == 506 and state.mean == pytest.approx(6 / 506)
    again = EProcess(state.limit, state.n, state.total, state.capital, state.largest)
    assert again.after(1.0) == state.after(1.0)


def test_an_endless_stream_of_disagreements_stays_a_number() -> None:
    state = EProcess(LIMIT)
    for _ in range(2000):
        state = state.after(1.0)
    assert math.isfinite(state.largest) and state.rejects(1e-9)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_what_is_no_share_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not in"):
        EProcess(LIMIT).after(bad)
    with pytest.raises(ValueError, match="not between 0 and 1"):
        EProcess(bad)
    with pytest.raises(ValueError, match="not above the limit"):
        observations_needed(0.1, 0.1, 0.05)
