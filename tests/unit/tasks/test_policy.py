"""What a new teacher is asked again follows from intervals: what is not shown to be the same is asked again."""

from __future__ import annotations

from redistill.operations.params import ScheduleParams
from redistill.operations.policy import SliceShift, plan
from redistill.statistics.shares import share_interval

PARAMS = ScheduleParams()


def shift(name: str, moved: int, n: int = 24) -> SliceShift:
    return SliceShift(name, "disagreement", n, moved / n, share_interval(moved, n, 0.05))


def test_only_the_slice_that_moved_is_asked_again() -> None:
    chosen = plan([shift("app", 0), shift("phone", 12)], ["app", "phone"], 1, PARAMS)
    assert (chosen.action, chosen.kept) == ("slices", ("app",))
    assert "slice phone: 50 % of the canaries differ" in chosen.reasons[1] and chosen.reasons[1].endswith("it is asked again")


def test_nothing_moved_and_everything_moved() -> None:
    assert plan([shift("app", 0), shift("phone", 0)], ["app", "phone"], 1, PARAMS).action == "keep"
    assert plan([shift("app", 24), shift("phone", 24)], ["app", "phone"], 1, PARAMS).action == "all"


def test_too_few_canaries_show_nothing_and_a_new_slice_was_not_measured() -> None:
    chosen = plan([shift("app", 0, n=4), shift("phone", 0)], ["app", "letter", "phone"], 1, PARAMS)
    assert chosen.kept == ("phone",) and "not measured" in chosen.reasons[1]


def test_at_the_fifth_change_everything_is_asked_again() -> None:
    shifts = [shift("app", 0)]
    assert [plan(shifts, ["app"], changes, PARAMS).action for changes in range(1, 6)] == ["keep"] * 4 + ["all"]
