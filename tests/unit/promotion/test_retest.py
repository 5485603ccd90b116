"""The re-test of a live champion: shown inferior, on hold for some nights, and what both do to a champion that is truly equal, or truly worse."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from redistill.promotion.params import PromoteParams
from redistill.promotion.retest import Hold, Retest, next_night, retest
from redistill.statistics.paired_counts import PairedCounts, difference_interval
from tests.bench.gates import compared_counts, counts
from tests.unit.promotion.test_decide import evidence

PARAMS = PromoteParams(gates=("teacher",))  # type: ignore[arg-type]


def on_rows(only_champion: int, only_teacher: int, n: int = 500) -> Retest:
    """Both are right on the rows that neither count names."""
    champion = [i >= only_teacher for i in range(n)]
    teacher = [i < only_teacher or i >= only_teacher + only_champion for i in range(n)]
    return retest(evidence(champion, who="champion"), evidence(teacher, who="teacher"), PARAMS)


def test_a_loss_that_is_ruled_out_holds_and_one_that_is_shown_is_inferior() -> None:
    assert on_rows(50, 50).after(99, PARAMS) == "holds"
    shown = on_rows(10, 60)
    assert shown.inferior and shown.gate.interval is not None and shown.gate.interval.high < -PARAMS.teacher_gate.margin
    assert shown.after(1, PARAMS) == "inferior"


def test_a_hold_that_shows_no_loss_keeps_the_traffic_however_long() -> None:
    found = on_rows(48, 60)
    assert not found.gate.passed and not found.worse
    assert [found.after(nights, PARAMS) for nights in (1, 3, 400)] == ["hold"] * 3


def test_a_hold_that_shows_a_loss_ends_after_some_nights() -> None:
    found = on_rows(40, 70)
    assert found.worse and not found.inferior
    assert [found.after(nights, PARAMS) for nights in (1, 2, 3, 4)] == ["hold", "hold", "inferior", "inferior"]
    assert found.after(1, PromoteParams(gates=("teacher",), hold_nights=1)) == "inferior"  # type: ignore[arg-type]


@pytest.mark.parametrize(("champion", "teacher"), [(0, 0), (300, 20), (0, 20)])
def test_a_teacher_that_cannot_do_the_task_shows_nothing_about_the_champion(champion: int, teacher: int) -> None:
    """Right on none of 500 rows, or on 4 % of them, where ``promote.min_teacher`` asks for 10 %: a hold, however long it lasts."""
    first = [[i < right for i in range(500)] for right in (champion, teacher)]
    found = retest(evidence(first[0], who="champion"), evidence(first[1], who="teacher"), PARAMS)
    assert (found.gate.result, found.inferior, found.worse) == ("hold", False, False) and "shows nothing" in found.gate.sentence
    assert [found.after(nights, PARAMS) for nights in (1, 3, 400)] == ["hold"] * 3


def test_worse_is_shown_at_half_of_alpha() -> None:
    """Two tables, on either side of the end of the 95 % interval, that the 90 % interval would both call worse."""
    for only_champion, only_teacher, worse in ((40, 59, False), (40, 60, True)):
        found = on_rows(only_champion, only_teacher)
        assert found.worse == worse == (difference_interval(PairedCounts(500, only_champion, only_teacher), 0.05).high < 0)
        assert difference_interval(PairedCounts(500, only_champion, only_teacher), 0.10).high < 0


NIGHT = dt.datetime(2026, 11, 22, 2, 0, tzinfo=dt.UTC)


def test_each_night_counts_once() -> None:
    first = next_night(None, "1", NIGHT)
    assert first == Hold("1", 1, "2026-11-22T02:00:00+00:00")
    assert next_night(first, "1", NIGHT + dt.timedelta(minutes=20)) == first, "the cycle was killed and run again"
    second = next_night(first, "1", NIGHT + dt.timedelta(days=1, minutes=-30))
    assert second.nights == 2 and next_night(second, "1", NIGHT + dt.timedelta(days=1)) == second
    assert next_night(second, "1", NIGHT + dt.timedelta(days=2)).nights == 3
    assert next_night(second, "2", NIGHT + dt.timedelta(days=2)).nights == 1, "another champion starts anew"


@cache
def of_counts(found: PairedCounts) -> Retest:
    return compared_counts(found, PARAMS)


def test_the_simulation_asks_what_the_cycle_asks() -> None:
    for only_champion, only_teacher in ((50, 50), (48, 60), (40, 70), (10, 60)):
        one, other = of_counts(PairedCounts(500, only_champion, only_teacher)), on_rows(only_champion, only_teacher)
        assert (one.gate.passed, one.inferior, one.worse) == (other.gate.passed, other.inferior, other.worse)


def lost_after(loss: float, nights: int, refreshes: int, *, n: int = 500, nightly: bool = False, seed: int = 1) -> float:
    """How many of the refreshes of a held-out set take the champion's traffic within some nights; ``nightly`` draws a new set each night."""
    drawn = counts(np.random.default_rng(seed), n, loss, refreshes * (nights if nightly else 1))
    return (
        sum(_loses([next(drawn)[0] for _ in range(nights)] if nightly else [next(drawn)[0]] * nights) for _ in range(refreshes)) / refreshes
    )


def _loses(nights: list[PairedCounts]) -> bool:
    return any(result == "inferior" for result in _results(nights))


def _results(nights: list[PairedCounts]) -> Iterator[str]:
    on_hold = 0
    for found in map(of_counts, nights):
        on_hold = 0 if found.gate.passed else on_hold + 1
        yield found.after(on_hold, PARAMS)


@pytest.mark.parametrize("n", [200, 500])
def test_an_equal_champion_loses_its_traffic_in_at_most_five_percent_of_refreshes(n: int) -> None:
    """The set is used for three months; by the rule before, 20 % lost it at once at n = 500, and 54 % at n = 200."""
    drawn = [found for found, _ in counts(np.random.default_rng(1), n, 0.0, 3000)]
    assert sum(not of_counts(found).gate.passed for found in drawn) / 3000 > 0.15
    assert lost_after(0.0, 90, 3000, n=n) <= 0.05


def test_an_equal_champion_survives_a_month_of_nightly_refreshes() -> None:
    """Thirty held-out sets in a row, each a chance to be unlucky; a hold must last three nights to end by bad luck."""
    assert lost_after(0.0, 1, 3000) <= 0.001
    assert lost_after(0.0, 30, 200, nightly=True) <= 0.05


@pytest.mark.parametrize("nightly", [False, True])
def test_one_that_is_ten_points_worse_loses_it_within_three_nights(nightly: bool) -> None:
    assert lost_after(0.10, 3, 2000, nightly=nightly) >= 0.90
