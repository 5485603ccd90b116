"""Section ``economics`` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redistill.config.base import Positive, section


@section("economics")
class EconomicsParams:
    """What things cost here, and how much traffic there is. Without a price nothing is priced: money is never invented.

    ``machine_usd_per_hour`` prices whatever runs on this machine; a teacher behind an endpoint is priced by its tokens, in ``teacher``. Of the
    ``cycles_per_month`` that are started, ``changes_per_month`` find something changed and are charged whole; without it, as many as the history
    of the last 30 days has.
    """

    machine_usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    requests_per_month: Positive = 100_000
    cycles_per_month: Positive = 30
    changes_per_month: Positive | None = None
