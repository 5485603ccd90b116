"""Section ``schedule`` of params.yaml."""

from __future__ import annotations

from redistill.config.base import section


@section("schedule")
class ScheduleParams:
    """Used by `redistill watch`."""

    nightly_cron: str = "0 2 * * *"
    """When a cycle starts."""
    watch_cron: str = "*/30 * * * *"
    """When the teacher is compared with the last cycle's."""
