"""Who is told how often: ten nights that say the same are one message and a count; a version that waits is reminded of once."""

from __future__ import annotations

import datetime as dt

from redistill.operations.alerts import Alert, AlertKind, next_alert

START = dt.datetime(2026, 11, 1, 2, tzinfo=dt.UTC)


def nights(kind: AlertKind, about: list[str]) -> list[int]:
    """The nights on which somebody is told."""
    last: Alert | None = None
    told = []
    for night, what in enumerate(about):
        last, tell = next_alert(last, kind, what, "text", START + dt.timedelta(days=night))
        told += [night] if tell else []
    return told


def test_the_same_for_ten_nights_is_one_message_and_one_after_a_week() -> None:
    assert nights("held", ["version 3"] * 10) == [0, 7]
    assert nights("failed", ["StageError generate"] * 22) == [0, 7, 14, 21]


def test_something_else_is_news() -> None:
    assert nights("held", ["version 3", "version 3", "version 4", "version 4"]) == [0, 2]


def test_a_version_that_waits_is_reminded_of_once() -> None:
    assert nights("waiting", ["3"] * 40) == [0, 7]
    assert nights("waiting", ["3"] * 10 + ["4"] * 10) == [0, 7, 10, 17]


def test_the_title_counts() -> None:
    first, _ = next_alert(None, "held", "3", "text", START)
    second, _ = next_alert(first, "held", "3", "text", START + dt.timedelta(days=1))
    assert (first.title("bank"), second.title("bank")) == (
        "bank: a student is on hold",
        "bank: a student is on hold (2 times since 2026-11-01)",
    )


def test_alerts_that_an_earlier_version_remembered_are_read() -> None:
    fields = {"kind": "waiting", "about": "3", "text": "t", "count": 1, "first_at": START.isoformat(), "sent_at": START.isoformat()}
    assert next_alert(Alert(**fields), "waiting", "3", "t", START + dt.timedelta(days=8))[1]  # type: ignore[arg-type]
