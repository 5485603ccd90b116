"""Sections ``schedule`` and ``retention`` of params.yaml."""

from __future__ import annotations

import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, Field

from redistill.config.base import Positive, section


def _known_zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        raise ValueError(f"{name!r} is not a time zone; use a name such as UTC or Europe/Berlin")
    return name


@section("schedule")
class ScheduleParams:
    """Used by `redistill up` and `redistill watch`."""

    nightly_cron: str = "0 2 * * *"
    """When a cycle starts."""
    watch_cron: str = "*/30 * * * *"
    """When the teacher is compared with the last cycle's."""
    drill_cron: str = "30 1 * * *"
    """When the fallback to the teacher is tried."""
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """The time zone of the crons, such as `Europe/Berlin`. A night that daylight saving skips or repeats runs once."""


@section("retention")
class RetentionParams:
    """What `redistill gc` keeps besides the versions that have an alias and what they need. See [operations](operations.md#free-disk-space)."""

    days: Positive = 30
    """Nothing that is younger is removed."""
    versions: Annotated[int, Field(ge=0, strict=True)] = 10
    """The newest versions of the model are kept, whatever their age."""
