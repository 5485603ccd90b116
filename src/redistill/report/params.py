"""Section ``economics`` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redistill.config.base import Positive, section


@section("economics")
class EconomicsParams:
    """Prices and traffic. `redistill estimate` prints what a cycle will take and from what monthly volume it pays, with the interval that follows
    from the time ratio."""

    machine_usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Price of this machine. Left out: the cost of work on it is unknown. A teacher behind an endpoint is priced by its tokens, under `teacher`."""
    requests_per_month: Positive = 100_000
    """Traffic that the student would take over."""
    cycles_per_month: Positive = 30
    """Cycles that are started, nightly ones included."""
    changes_per_month: Positive | None = None
    """How many of them find a change and cost a whole cycle. The others cost what nights without a change took. Left out: from the history of the
    last 30 days, at least one."""
