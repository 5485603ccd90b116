"""``redistill.economics``: by hand, and what must hold whatever the prices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.config import EconomicsParams, TeacherParams
from redistill.economics import CycleCost, Price, break_even, student_price, teacher_price
from redistill.records import Cost

PARAMS = EconomicsParams(machine_usd_per_hour=3.6, requests_per_month=100_000, cycles_per_month=30)
COST = Cost(0.1, 0.2, 200.0, 10, 10, 10, tokens_per_request=20.0, prompt_tokens_per_request=50.0)


def test_a_machine_is_priced_by_its_hour() -> None:
    """20 tokens at 200 a second are 0.1 s; 3.60 USD an hour are 0.001 USD a second."""
    price = student_price(PARAMS)
    assert price.per_request(COST) == pytest.approx(0.0001)
    assert price.per_million_tokens(COST) == pytest.approx(5.0)


def test_an_endpoint_is_priced_by_its_tokens() -> None:
    teacher = TeacherParams(model="m", backend="openai", usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=10.0)
    price = teacher_price(PARAMS, teacher)
    assert price.per_request(COST) == pytest.approx(50 * 2e-6 + 20 * 10e-6)
    assert teacher_price(PARAMS, replace(teacher, backend="vllm")) == student_price(PARAMS)


def test_what_has_no_price_costs_nothing_that_could_be_said() -> None:
    assert Price().per_request(COST) is None and Price().per_million_tokens(COST) is None
    assert student_price(PARAMS).per_request(replace(COST, tokens_per_request=None)) is None
    assert student_price(PARAMS).per_request(replace(COST, tokens_per_s=0.0)) is None
    assert CycleCost({"a": 1.0}, 0, 0).usd(EconomicsParams(), Price()) is None


def test_break_even_by_hand() -> None:
    """A cycle of 1,000 s costs 1 USD, and 1,000 prompt tokens at 1 USD a million 0.001; a request saves 0.0004 USD."""
    cycle = CycleCost({"generate": 400.0, "finetune@kd": 600.0}, 1000, 0).usd(PARAMS, Price(None, 1.0, 0.0))
    assert cycle == pytest.approx(1.001)
    found = break_even(0.0001, 0.0005, 1.0, PARAMS)
    assert (found.requests, found.requests_per_month, found.worth_it) == (2500, 75_000, True)
    assert found.saving_usd_per_month == pytest.approx(40.0 - 30.0)
    assert not break_even(0.0001, 0.0005, 1.0, replace(PARAMS, requests_per_month=74_000)).worth_it
    never = break_even(0.0005, 0.0005, 1.0, PARAMS)
    assert never.requests is None and never.requests_per_month is None and not never.worth_it


MONEY = st.floats(1e-7, 1.0)


@given(MONEY, MONEY, st.floats(0.0, 100.0), st.integers(1, 10**8))
def test_worth_it_exactly_from_the_break_even_volume_on(student: float, teacher: float, cycle: float, volume: int) -> None:
    found = break_even(student, teacher, cycle, replace(PARAMS, requests_per_month=volume))
    if found.requests_per_month is None:
        assert teacher <= student and found.saving_usd_per_month <= 0
    elif abs(volume - found.requests_per_month) > 1:
        assert found.worth_it == (volume > found.requests_per_month)
