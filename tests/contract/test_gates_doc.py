"""docs/gates.md says what the gates really do: its tables are what the simulation gives today."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from tests.bench import gates, whole_decision

AGAIN = 60
"""Decisions of each case that are made again here; the table stands on more, which take minutes."""


def test_the_tables_are_what_the_command_writes() -> None:
    text = gates.DOC.read_text(encoding="utf-8")
    assert gates.rewritten(text, [make() for make in gates.TABLES]) == text, "run `python -m tests.bench.gates --write`"


def written() -> dict[str, list[str]]:
    """The rows of the table of all gates, by their first cell."""
    section = gates.DOC.read_text(encoding="utf-8").split("<!-- all gates -->")[1].split("<!-- end of all gates -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == whole_decision.HEAD
    return {name: cells for name, *cells in rows[2:]}


@pytest.mark.parametrize(("name", "loss", "live", "level", "recall"), whole_decision.CASES, ids=[c[0] for c in whole_decision.CASES])
def test_the_whole_decision_agrees_with_what_is_written(name: str, loss: float, live: bool, level: float, recall: float) -> None:
    """Other draws of the same simulation: each share lies where sixty decisions can lie, were the written one the true one."""
    found = whole_decision.shares(loss, level, AGAIN, live=live, seed=100, recall=recall)
    for group, cell in zip(("all", *whole_decision.GROUPS), written()[name], strict=True):
        assert (group in found) == (cell != "none"), group
        if group in found:
            told = min(max(float(cell.removesuffix(" %")) / 100, 0.005), 0.995)
            again = round(found[group] * AGAIN)
            assert binomtest(again, AGAIN, told).pvalue > 1e-4, (
                f"{group}: {again} of {AGAIN} pass; run `python -m tests.bench.gates --write`"
            )
