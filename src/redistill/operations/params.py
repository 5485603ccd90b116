"""Sections ``schedule`` and ``retention`` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redistill.config.base import Positive, section


@section("schedule")
class ScheduleParams:
    """Used by `redistill watch`."""

    nightly_cron: str = "0 2 * * *"
    """When a cycle starts."""
    watch_cron: str = "*/30 * * * *"
    """When the teacher is compared with the last cycle's."""


@section("retention")
class RetentionParams:
    """What `redistill gc` keeps besides the versions that have an alias and what they need. See [operations](operations.md#free-disk-space)."""

    days: Positive = 30
    """Nothing that is younger is removed."""
    versions: Annotated[int, Field(ge=0, strict=True)] = 10
    """The newest versions of the model are kept, whatever their age."""
