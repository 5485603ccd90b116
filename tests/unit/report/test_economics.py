"""``redistill.report.economics``: by hand, and what must hold whatever the prices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.evaluation.timing import Estimate
from redistill.evaluation.types import Cost
from redistill.report.economics import BreakEven, CycleCost, Month, Price, break_even, student_price, teacher_price
from redistill.report.params import EconomicsParams
from redistill.statistics.types import Interval
from redistill.teacher.params import TeacherParams

PARAMS = EconomicsParams(machine_usd_per_hour=3.6, requests_per_month=100_000)
COST = Cost(10, 10, 10, tokens_per_request=20.0, prompt_tokens_per_request=50.0)
PACE_S = 0.005


def test_a_machine_is_priced_by_its_hour() -> None:
    """20 tokens at 200 a second are 0.1 s; 3.60 USD an hour are 0.001 USD a second."""
    price = student_price(PARAMS)
    assert price.per_request(COST, PACE_S) == pytest.approx(0.0001)
    assert price.per_million_tokens(COST, PACE_S) == pytest.approx(5.0)


def test_an_endpoint_is_priced_by_its_tokens() -> None:
    teacher = TeacherParams(model="m", backend="openai", usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=10.0)
    price = teacher_price(PARAMS, teacher)
    assert price.per_request(COST, None) == pytest.approx(50 * 2e-6 + 20 * 10e-6)
    assert teacher_price(PARAMS, replace(teacher, backend="vllm")) == student_price(PARAMS)


def test_what_has_no_price_costs_nothing_that_could_be_said() -> None:
    assert Price().per_request(COST, PACE_S) is None and Price().per_million_tokens(COST, PACE_S) is None
    assert student_price(PARAMS).per_request(replace(COST, tokens_per_request=None), PACE_S) is None
    assert student_price(PARAMS).per_request(COST, None) is None
    assert CycleCost({"a": 1.0}, 0, 0).usd(EconomicsParams(), Price()) is None


def exactly(usd: float) -> Estimate:
    return Estimate(usd, Interval(usd, usd))


def test_break_even_by_hand() -> None:
    """A cycle of 1,000 s costs 1 USD, and 1,000 prompt tokens at 1 USD a million 0.001; a request saves 0.0004 USD."""
    cycle = CycleCost({"generate": 400.0, "finetune@kd": 600.0}, 1000, 0).usd(PARAMS, Price(None, 1.0, 0.0))
    assert cycle == pytest.approx(1.001)
    nightly = Month(30, 0, 1.0, 0.0)
    found = break_even(exactly(0.0001), 0.0005, nightly, 100_000)
    assert (found.requests, found.requests_per_month, found.verdict) == (2500, 75_000, "worth it")
    assert found.saving_usd_per_month == pytest.approx(40.0 - 30.0)
    assert break_even(exactly(0.0001), 0.0005, nightly, 74_000).verdict == "not worth it"
    never = break_even(exactly(0.0005), 0.0005, nightly, 100_000)
    assert never.requests is None and never.requests_per_month is None and never.verdict == "not worth it"
    assert never.requests_interval == never.requests_per_month_interval == (None, None)


def test_a_quiet_night_costs_what_it_takes() -> None:
    """Two changes and 28 nights of 0.01 USD are 2.28 USD: with thirty whole cycles the same student would not have paid."""
    month = Month(2, 28, 1.0, 0.01)
    assert month.usd == pytest.approx(2.28)
    student, teacher, volume = exactly(0.0001), 0.0005, 10_000
    assert break_even(student, teacher, month, volume).verdict == "worth it"
    assert break_even(student, teacher, Month(30, 0, 1.0, 0.01), volume).verdict == "not worth it"
    assert break_even(student, teacher, month, volume).requests_per_month == 5700


def test_every_number_has_the_interval_of_the_time_ratio() -> None:
    """The student costs 0.2 of the teacher, between 0.1 and 0.6 of it."""
    student = Estimate(0.0002, Interval(0.0001, 0.0006))
    found = break_even(student, 0.001, Month(1, 0, 1.0, 0.0), 2000)
    assert found.saving_usd_per_request_interval == Interval(pytest.approx(0.0004), pytest.approx(0.0009))
    assert (found.requests_interval, found.requests) == ((1112, 2500), 1250)
    assert found.saving_usd_per_month_interval == Interval(pytest.approx(-0.2), pytest.approx(0.8))
    assert found.verdict == "unclear", "the interval holds both signs"
    slower = break_even(Estimate(0.0009, Interval(0.0008, 0.0011)), 0.001, Month(1, 0, 1.0, 0.0), 2000)
    assert slower.requests_interval == (5000, None), "at its upper end the student never pays"


MONEY = st.floats(1e-7, 1.0)


@given(MONEY, MONEY, st.floats(0.0, 100.0), st.integers(1, 10**8), st.floats(0.5, 1.0), st.floats(1.0, 2.0))
def test_what_must_hold_whatever_the_prices(student: float, teacher: float, cycle: float, volume: int, low: float, high: float) -> None:
    found = break_even(Estimate(student, Interval(low * student, high * student)), teacher, Month(3, 27, cycle, cycle / 100), volume)
    month = found.saving_usd_per_month_interval
    assert month.low <= found.saving_usd_per_month <= month.high
    assert found.verdict == ("worth it" if month.low > 0 else "not worth it" if month.high <= 0 else "unclear")
    assert _ordered(found.requests_interval[0], found.requests) and _ordered(found.requests, found.requests_interval[1])
    if found.requests_per_month is None:
        assert teacher <= student and found.saving_usd_per_month <= 0
    elif abs(volume - found.requests_per_month) > 1:
        assert (found.saving_usd_per_month > 0) == (volume > found.requests_per_month)
    assert isinstance(found, BreakEven)


def _ordered(fewer: int | None, more: int | None) -> bool:
    """None is "never", more than any number."""
    return more is None or (fewer is not None and fewer <= more)
