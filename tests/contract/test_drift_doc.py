"""docs/serving.md says after how many windows a drift is seen: another run of the same simulation agrees with its tables."""

from __future__ import annotations

import re

from tests.bench.drift import CASES, DOC, LONGEST, MARK, first_at, month, none

CASE = "a new topic in 40 % of the requests"
ADVICE = "run `python -m tests.bench.drift --write`"


def written() -> dict[str, list[str]]:
    """The cells of both tables, by their first one."""
    section = DOC.read_text(encoding="utf-8").split(f"<!-- {MARK} -->")[1].split(f"<!-- end of {MARK} -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return {name: cells for name, *cells in rows}


def test_every_case_is_in_the_table_and_no_month_without_drift_was_acted_on() -> None:
    rows = written()
    assert set(CASES) <= set(rows), ADVICE
    [(_, [acted])] = [(name, cells) for name, cells in rows.items() if re.fullmatch(r"\d+ of \d+ \(.*", name)]
    assert acted.startswith("0 of "), "the schedule of the example promises a quiet month"


def test_another_run_sees_the_drift_as_soon_as_is_written() -> None:
    verdicts = []
    for verdict in month(77_001, CASES[CASE], LONGEST):
        verdicts.append(verdict)
        if verdict == "act":
            break
    most = int(written()[CASE][1].rpartition(", ")[2])
    acted = first_at(verdicts, "act")
    assert acted is not None and acted <= most + 2, ADVICE


def test_windows_without_drift_are_calm() -> None:
    assert list(month(77_002, none, 6)) == ["calm"] * 6, ADVICE
