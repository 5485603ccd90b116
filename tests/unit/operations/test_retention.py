"""What gc keeps, and why: the rules alone, without files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.operations.params import RetentionParams
from redistill.operations.retention import Item, Kept, Version, divided, reason_to_keep, versions_to_keep

DAY = 86400.0
NOW = 1000 * DAY


@pytest.mark.parametrize(
    ("age_days", "needed_by", "reason"),
    [
        (0.0, None, "younger than 30 days"),
        (29.99, None, "younger than 30 days"),
        (30.0, None, None),
        (400.0, None, None),
        (400.0, "the workspace", "the workspace"),
        (0.0, "the workspace", "the workspace"),
        (-5.0, None, "younger than 30 days"),  # the clock of another machine
    ],
)
def test_an_item_stays_while_it_is_young_or_needed(age_days: float, needed_by: str | None, reason: str | None) -> None:
    assert reason_to_keep(Item("x", NOW - age_days * DAY, needed_by), RetentionParams(), NOW) == reason


def test_items_are_divided_and_counted_by_reason() -> None:
    items = [Item("old", 0.0), Item("new", NOW), Item("a", 0.0, "the workspace"), Item("b", NOW, "the workspace")]
    removed, kept = divided("work", items, RetentionParams(days=1), NOW)
    assert [item.name for item in removed] == ["old"]
    assert kept == (Kept("work", "younger than 1 day", 1), Kept("work", "the workspace", 2))


def test_a_version_stays_for_every_reason_that_it_has() -> None:
    versions = [
        Version(1, 0.0, ("reference", "previous")),
        Version(2, 0.0),
        Version(3, 0.0, ("rejected or rolled back by a person",)),
        Version(4, 0.0),
        Version(10, NOW - DAY, ("challenger",)),
        Version(9, NOW - 31 * DAY),
    ]
    assert versions_to_keep(versions, RetentionParams(versions=2), NOW) == {
        1: ("reference", "previous"),
        3: ("rejected or rolled back by a person",),
        10: ("challenger", "one of the newest 2", "younger than 30 days"),
        9: ("one of the newest 2",),
    }


versions = st.lists(
    st.builds(Version, st.integers(1, 50), st.floats(0, NOW), st.just(()) | st.just(("champion",))),
    unique_by=lambda v: v.number,
    max_size=30,
)


@given(versions, st.integers(1, 60), st.integers(0, 20))
def test_longer_retention_never_keeps_less(items: list[Version], days: int, newest: int) -> None:
    less = versions_to_keep(items, RetentionParams(days=days, versions=newest), NOW)
    more = versions_to_keep(items, RetentionParams(days=days + 1, versions=newest + 1), NOW)
    assert less.keys() <= more.keys()
    assert {v.number for v in items if v.needed_by} <= less.keys()
    assert len(less) >= min(newest, len(items))
