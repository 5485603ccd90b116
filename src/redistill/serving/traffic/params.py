"""Section ``traffic`` of params.yaml: what the router keeps of its requests, for how long, and on what ground it may be used."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redistill.config.base import Share, section
from redistill.validation.licences import is_filled_in


@section("traffic")
class TrafficParams:
    """What the router keeps of the requests of the task: [serving.md](serving.md#traffic-that-is-kept). Personal data and secrets are replaced first."""

    log: bool = False
    """Keep requests and completions in `.redistill/traffic`. With it, `consent` and `licence` are required."""
    share: Share = 1.0
    """The share of the requests that is kept, drawn by a hash of the request's id."""
    keep_days: Annotated[int, Field(ge=1, le=3650, strict=True)] = 30
    """Files whose newest request is older are removed, when the router starts and each hour."""
    shard_rows: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 5_000
    """A file is written after so many requests. What is not written yet is in memory."""
    shard_s: Annotated[float, Field(ge=1.0, le=86_400.0)] = 300.0
    """A file is written at the latest so many seconds after its first request. If the machine loses power, this much is lost."""
    consent: str = ""
    """On what ground the traffic may be kept and used for training, in a sentence: which agreement, notice or contract covers it."""
    licence: str = ""
    """The licence or terms of what callers send. Each kept request has both texts."""


def traffic_fits(traffic: TrafficParams) -> list[str]:
    """Traffic is kept only where somebody wrote down why that is allowed."""
    missing = [name for name in ("consent", "licence") if not is_filled_in(getattr(traffic, name))]
    if not traffic.log or not missing:
        return []
    shown = " and ".join(f"traffic.{name} is {getattr(traffic, name)!r}" for name in missing)
    return [
        f"traffic.log is true, but {shown}; write on what ground the traffic may be used, and under which licence, or set traffic.log to false"
    ]
