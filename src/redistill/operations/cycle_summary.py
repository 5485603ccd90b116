"""A cycle in one line: what people compare over nights."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from redistill.teacher.use import TeacherUse

CycleStatus = Literal["running", "completed", "failed", "cancelled", "killed"]


@dataclass(frozen=True, slots=True)
class Quality:
    """A mean over the rows that people look at, from 0 to 1 with its 95 % interval; chrF has none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class CycleSummary:
    """What became of a cycle, what it cost, and how good its student is.

    ``ran`` counts the stages that had to run. ``student_share`` is the share of the requests that the student answers after it, ``metric`` is
    ``promote.metric``. A cycle that failed has no quality, and a
    cycle of an earlier version of redistill has no more than its times.
    """

    cycle: str
    started_at: dt.datetime
    status: CycleStatus
    ran: int
    seconds: float
    sentence: str = ""
    verdict: str = ""
    version: str = ""
    route: str = ""
    student_share: float | None = None
    metric: str = ""
    student: Quality | None = None
    teacher: Quality | None = None
    machine_s: float | None = None
    usd: float | None = None
    use: TeacherUse | None = None
    disk_bytes: int | None = None
    run_id: str = ""


def within(cycles: Iterable[CycleSummary], days: float) -> list[CycleSummary]:
    """The cycles that started in the last days."""
    since = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    return [cycle for cycle in cycles if cycle.started_at >= since]
