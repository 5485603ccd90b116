"""docs/gates.md says what the gates really do: its tables are what the simulation gives today."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.bench import gate_workflows, gates, whole_decision
from tests.bench.tables import rewritten

AGAIN = 60
"""Decisions of each case that are made again here; the table stands on more, which take minutes."""


def test_the_tables_are_what_the_command_writes() -> None:
    text = gates.DOC.read_text(encoding="utf-8")
    assert rewritten(text, [make() for make in gates.TABLES]) == text, "run `python -m tests.bench.gates --write`"


def test_the_table_of_workflows_is_what_the_command_writes() -> None:
    text = gates.DOC.read_text(encoding="utf-8")
    table = gate_workflows.table()
    assert rewritten(text, [table], "workflows") == text, "run `python -m tests.bench.gates --write`"
    upper = [float(re.findall(r"–([\d.]+)\)", row[-1])[0]) for row in table.rows]
    assert max(upper) <= 5.5, "the promise: at most 5 %, with the interval of 10,000 sets"


def rows_of(mark: str, head: list[str]) -> list[list[str]]:
    section = gates.DOC.read_text(encoding="utf-8").split(f"<!-- {mark} -->")[1].split(f"<!-- end of {mark} -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == head
    return rows[2:]


def written() -> dict[str, list[str]]:
    """The rows of the table of all gates, by their first cell."""
    return {name: cells for name, *cells in rows_of("all gates", whole_decision.HEAD)}


@pytest.mark.parametrize("case", whole_decision.CASES, ids=[c[0] for c in whole_decision.CASES])
def test_the_whole_decision_agrees_with_what_is_written(case: tuple[str, whole_decision.Kind, float, bool, float, float]) -> None:
    """Other draws of the same simulation: each share lies where sixty decisions can lie, were the written one the true one."""
    name, kind, loss, live, level, recall = case
    found = whole_decision.shares(kind, loss, level, AGAIN, live=live, seed=100, recall=recall)
    for group, cell in zip(("all", *whole_decision.GROUPS), written()[name], strict=True):
        assert (group in found) == (cell != "none"), group
        if group in found:
            told = min(max(float(cell.removesuffix(" %")) / 100, 0.005), 0.995)
            again = round(found[group] * AGAIN)
            assert binomtest(again, AGAIN, told).pvalue > 1e-4, (
                f"{group}: {again} of {AGAIN} pass; run `python -m tests.bench.gates --write`"
            )


def test_an_equal_cascade_goes_live_within_a_week_as_written() -> None:
    rows = {(name, a_night): (first, last) for name, a_night, first, last in rows_of("weeks", whole_decision.WEEK_HEAD)}
    kind, loss, a_night = whole_decision.CASCADE, 0.0, 40
    rng = np.random.default_rng(100)
    live = np.array([whole_decision.week(rng, kind, loss, a_night) for _ in range(AGAIN)])
    for night, cell in zip((0, -1), rows[f"equal: {kind.name}", str(a_night)], strict=True):
        assert binomtest(int(live[:, night].sum()), AGAIN, float(cell.removesuffix(" %")) / 100).pvalue > 1e-4
