"""Whether a scheduled run is tonight's: each night runs once, and after an outage only the newest night runs.

The scheduler may insert the same night twice, for example when a deployment changes, and it keeps the nights of an outage to run them oldest first.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass

from prefect.server.schemas.schedules import CronSchedule

from redistill.io.json import read_json, write_json
from redistill.operations.params import ScheduleParams
from redistill.operations.workspace import Workspace
from tasks.orchestration import alerting
from tasks.paths import STATE
from tasks.sharing import turn as clones

LAST_NIGHT = STATE / "last-night.json"
_SILENT_NIGHTS = 3
_GRACE = dt.timedelta(minutes=30)
"""For so long a night may be late before the watcher starts it."""


@dataclass(frozen=True, slots=True)
class Night:
    """The last night that began: when it was scheduled, and the flow run."""

    scheduled: dt.datetime
    run: str


def last_night() -> Night | None:
    if not LAST_NIGHT.is_file():
        return None
    tree = read_json(LAST_NIGHT)
    return Night(dt.datetime.fromisoformat(tree["scheduled"]), str(tree["run"]))


def begin_night(scheduled: dt.datetime, run: str) -> None:
    """Record that a night has begun. Called under the cycle lock."""
    write_json(LAST_NIGHT, {"scheduled": scheduled.astimezone(dt.UTC).isoformat(), "run": run})


def learn(project: str) -> None:
    """Record the last night that another clone of this project has run, if there is a shared store and that night is newer."""
    shared, here = clones.last_night(project), last_night()
    if shared is not None and (here is None or shared.scheduled > here.scheduled):
        begin_night(shared.scheduled, shared.run)


def next_night(params: ScheduleParams, after: dt.datetime) -> dt.datetime | None:
    """The first scheduled time after a moment, as Prefect's scheduler computes it."""
    schedule = CronSchedule(cron=params.nightly_cron, timezone=params.timezone)
    # Two, because the scheduler counts a moment that is itself a scheduled time.
    dates = asyncio.run(schedule.get_dates(n=2, start=after.astimezone(dt.UTC)))
    return next((date for date in dates if date > after), None)


def not_tonight(params: ScheduleParams, scheduled: dt.datetime, run: str, now: dt.datetime) -> str | None:
    """Why a scheduled run does not start a cycle, or None if it does."""
    last = last_night()
    if last is not None and last.run != run and last.scheduled >= scheduled:
        return f"the night of {_text(scheduled)} has run already"
    newer = next_night(params, scheduled)
    if newer is not None and newer <= now:
        return f"the night of {_text(scheduled)} is late, and a newer one is due since {_text(newer)}"
    return None


def missed_night(params: ScheduleParams, now: dt.datetime) -> dt.datetime | None:
    """The night that should have begun half an hour ago or earlier and did not, or None. Before the first night nothing is missed."""
    last = last_night()
    if last is None:
        return None
    due = next_night(params, last.scheduled)
    if due is None or due > now - _GRACE:
        return None
    while (newer := next_night(params, due)) is not None and newer <= now - _GRACE:
        due = newer
    return due


def missed(params: ScheduleParams, workspace: Workspace, now: dt.datetime) -> list[str]:
    """The reason for a cycle if a night was missed, else nothing; raises an alert if no cycle has ended for three nights."""
    learn(workspace.data_name)
    _tell_if_silent(params, workspace, now)
    night = missed_night(params, now)
    return [] if night is None else [f"the night of {_text(night)} was missed"]


def _tell_if_silent(params: ScheduleParams, workspace: Workspace, now: dt.datetime) -> None:
    ended = alerting.last_cycle_ended()
    if ended is None:
        return
    nights, due = 0, next_night(params, ended)
    while due is not None and due <= now and nights < _SILENT_NIGHTS:
        nights, due = nights + 1, next_night(params, due)
    if nights >= _SILENT_NIGHTS:
        alerting.alert(workspace, "silent", ended.isoformat(), f"the last cycle that ended without an error was at {_text(ended)}")


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
