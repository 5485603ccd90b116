"""Each night runs once: a repeated schedule, an outage of days, and the two nights on which clocks change."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from redistill.operations.params import ScheduleParams
from redistill.operations.workspace import Workspace
from tasks.orchestration import nights

NEW_YORK = ZoneInfo("America/New_York")
EARLY = ScheduleParams(nightly_cron="30 1 * * *", timezone="America/New_York")
SKIPPED = ScheduleParams(nightly_cron="30 2 * * *", timezone="America/New_York")
DAILY = ScheduleParams()


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("params", "day"), [(EARLY, dt.date(2026, 11, 1)), (SKIPPED, dt.date(2026, 3, 8))])
def test_the_night_that_clocks_change_has_one_run(params: ScheduleParams, day: dt.date) -> None:
    """01:30 exists twice on 1 November, and 02:30 not at all on 8 March."""
    moment = dt.datetime.combine(day - dt.timedelta(days=2), dt.time(12), NEW_YORK)
    dates = []
    for _ in range(4):
        following = nights.next_night(params, moment)
        assert following is not None
        moment = following
        dates.append(moment.astimezone(NEW_YORK).date())
    assert dates == [day + dt.timedelta(days=offset) for offset in (-1, 0, 1, 2)]


def test_a_night_that_was_inserted_twice_runs_once() -> None:
    scheduled, now = at("2026-11-27T02:00"), at("2026-11-27T02:01")
    assert nights.not_tonight(DAILY, scheduled, "first", now) is None
    nights.begin_night(scheduled, "first")
    assert "has run already" in str(nights.not_tonight(DAILY, scheduled, "second", now))
    assert nights.not_tonight(DAILY, scheduled, "first", now) is None, "the run that began it may go on"


def test_after_an_outage_only_the_newest_night_runs() -> None:
    now = at("2026-11-27T09:00")
    due = [at(f"2026-11-{day}T02:00") for day in range(23, 28)]
    declined = [nights.not_tonight(DAILY, scheduled, "run", now) for scheduled in due]
    assert all("a newer one is due" in str(reason) for reason in declined[:-1]) and declined[-1] is None


def test_a_missed_night_is_seen_once_it_is_half_an_hour_late() -> None:
    assert nights.missed_night(DAILY, at("2026-11-27T09:00")) is None, "before the first night nothing is missed"
    nights.begin_night(at("2026-11-22T02:00"), "run")
    assert nights.missed_night(DAILY, at("2026-11-23T02:10")) is None
    assert nights.missed_night(DAILY, at("2026-11-27T09:00")) == at("2026-11-27T02:00"), "five nights are one"
    nights.begin_night(at("2026-11-27T02:00"), "run")
    assert nights.missed_night(DAILY, at("2026-11-27T09:00")) is None


def test_the_watcher_starts_a_missed_night_once() -> None:
    """The run that it starts has no scheduled time. Without a record of its night, the watcher would start another one every half an hour."""
    here, now = Workspace("tiny", Path("/a"), "host"), at("2026-11-27T09:00")
    nights.begin_night(at("2026-11-26T02:00"), "run")
    assert nights.missed(DAILY, here, now) == ["the night of 2026-11-27 02:00 UTC was missed"]
    due = nights.missed_night(DAILY, now)
    assert due is not None
    nights.begin_night(due, "what the watcher started")
    assert nights.missed(DAILY, here, now) == []


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        ScheduleParams(timezone="Europe/Bonn")
