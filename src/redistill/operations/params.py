"""Section ``schedule`` of params.yaml."""

from __future__ import annotations

from redistill.config.base import section


@section("schedule")
class ScheduleParams:
    nightly_cron: str = "0 2 * * *"
    watch_cron: str = "*/30 * * * *"
