"""Sections ``schedule``, ``notify`` and ``retention`` of params.yaml."""

from __future__ import annotations

import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, Field

from redistill.config.base import Positive, Share, section


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
    traffic_cron: str = "45 */4 * * *"
    """When live traffic is compared with the rows that models are judged on."""
    retry_minutes: tuple[Annotated[float, Field(ge=0.0)], ...] = (1.0, 5.0)
    """How long to wait before each new try of a step that failed because the teacher did not answer."""
    stage_hours: Annotated[float, Field(gt=0.0)] = 24.0
    """A stage that runs for longer is ended, and the cycle fails."""
    reask_disagreement: Share = 0.2
    """After a change of an endpoint: a slice is not asked again if fewer canaries than this share differ, by the upper end of a 95 % interval."""
    reask_kl_nats: Annotated[float, Field(gt=0.0)] = 0.02
    """After a change of local weights: a slice is not asked again if KL(old ‖ new) on completions of the old teacher is below this, in nats a token, by
    the upper end of a 95 % interval."""
    reask_rows: Positive = 64
    """Rows of each slice on which that is measured."""
    reask_everything_every: Positive = 5
    """At every so many changes of the teacher, everything is asked again."""
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """The time zone of the crons, such as `Europe/Berlin`. A night that daylight saving skips or repeats runs once."""


@section("retention")
class RetentionParams:
    """What `redistill gc` keeps besides the versions that have an alias and what they need. See [operations](operations.md#free-disk-space)."""

    days: Positive = 30
    """Nothing that is younger is removed."""
    versions: Annotated[int, Field(ge=0, strict=True)] = 10
    """The newest versions of the model are kept, whatever their age."""


@section("notify")
class NotifyParams:
    """Who is told when something happens. The same alert for many nights is one message a week, with a count."""

    blocks: tuple[str, ...] = ()
    """Notification blocks of the Prefect server, as `TYPE/NAME`, such as `slack-webhook/team`. Create them in its UI, under Blocks."""
