"""docs/cascade.md says how often each rule exceeds its limit: fewer draws of the same simulation agree with its table."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.bench import guard
from tests.bench.cascade_thresholds import DOC, DOUBT, LIMIT, POPULATIONS, RULES, outcomes
from tests.bench.tables import rewritten

AGAIN = 100


def written() -> dict[tuple[str, str], list[str]]:
    """The cells behind rule and number of rows, for the first population."""
    table = DOC.read_text(encoding="utf-8").split("<!-- simulation -->")[1].split("<!-- end of simulation -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    return {(rule, n): cells for name, n, rule, *cells in rows[2:] if name == next(iter(POPULATIONS))}


@pytest.mark.parametrize("rule", RULES)
def test_other_draws_exceed_the_limit_as_often_as_is_written(rule: str) -> None:
    risks, _ = outcomes(next(iter(POPULATIONS.values())), 270, AGAIN, np.random.default_rng(99))[rule]
    over, told = sum(risk > LIMIT for risk in risks), float(written()[rule, "270"][0].split(" ")[0]) / 100
    assert binomtest(over, AGAIN, min(max(told, 0.005), 0.995)).pvalue > 1e-4, "run `python -m tests.bench.cascade_thresholds --write`"


def test_what_is_shipped_keeps_its_promise_and_the_page_has_a_place_for_both_tables() -> None:
    for (rule, _), cells in written().items():
        low = float(re.findall(r"\((.*?) to", cells[0])[0]) / 100
        assert not rule.startswith("learn then test") or low <= DOUBT
    text = DOC.read_text(encoding="utf-8")
    assert rewritten(text, [], "engines") != "" and "python -m tests.bench.cascade_engines" in text


@pytest.mark.parametrize("name", ["5 % throughout, the promise", "20 % from the start"])
def test_the_guard_alarms_as_the_table_says(name: str) -> None:
    """Other streams than the table's: the share of alarms within the first 2,000 requests, and the median delay."""
    before, after = guard.CASES[name]
    first = guard.first_alarms(before, after, streams=500, steps=2000, seed=23)
    row = next(line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {name} |"))
    if after > guard.LIMIT:
        median = float(row.split("|")[4].split("/")[0])
        assert (first < 2000).all() and abs(np.median(first) - median) <= 6, "run `python -m tests.bench.guard --write`"
    else:
        assert (first < 2000).mean() <= guard.ALPHA + 3 * (guard.ALPHA * 0.95 / 500) ** 0.5
