"""Economics: the cost of a request with student and teacher, the cost of a month of cycles, and the number of requests that pays for it.

Prices come from ``params.yaml``: a machine per hour, an endpoint per token. Without a price, the cost in money is unknown; seconds and tokens are
measured in any case. The time ratio of student and teacher has an interval, and so has everything that follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from redistill.evaluation.timing import Estimate
from redistill.evaluation.types import Cost
from redistill.report.params import EconomicsParams
from redistill.statistics.types import Interval
from redistill.teacher.params import TeacherParams

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs in USD: by the machine's hour, or by its prompt and completion tokens."""

    usd_per_hour: float | None = None
    usd_per_million_prompt_tokens: float = 0.0
    usd_per_million_completion_tokens: float = 0.0

    @property
    def by_tokens(self) -> bool:
        return self.usd_per_million_prompt_tokens > 0 or self.usd_per_million_completion_tokens > 0

    def per_request(self, cost: Cost, pace_s: float | None) -> float | None:
        """USD for one request of ``cost.tokens_per_request`` tokens; None where price or measurement is missing.

        ``pace_s``: seconds for a completion token, answered in full batches.
        """
        completion = cost.tokens_per_request
        if completion is None:
            return None
        if self.by_tokens:
            prompt = cost.prompt_tokens_per_request or 0.0
            return (prompt * self.usd_per_million_prompt_tokens + completion * self.usd_per_million_completion_tokens) / 1e6
        if self.usd_per_hour is None or pace_s is None:
            return None
        return completion * pace_s / _HOUR_S * self.usd_per_hour

    def per_million_tokens(self, cost: Cost, pace_s: float | None) -> float | None:
        """USD for a million completion tokens, including their prompts."""
        request = self.per_request(cost, pace_s)
        return None if request is None or not cost.tokens_per_request else request / cost.tokens_per_request * 1e6


def student_price(params: EconomicsParams) -> Price:
    return Price(params.machine_usd_per_hour)


def teacher_price(params: EconomicsParams, teacher: TeacherParams) -> Price:
    """An endpoint is paid per token, a local teacher by the machine that it runs on."""
    if teacher.backend == "openai":
        return Price(None, teacher.usd_per_million_prompt_tokens, teacher.usd_per_million_completion_tokens)
    return Price(params.machine_usd_per_hour)


@dataclass(frozen=True, slots=True)
class CycleCost:
    """What a cycle takes: machine seconds by stage, and the teacher's tokens where they have a price."""

    seconds: dict[str, float]
    prompt_tokens: int
    completion_tokens: int

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def usd(self, params: EconomicsParams, teacher: Price) -> float | None:
        """USD of the whole; None where the machine has no price."""
        if params.machine_usd_per_hour is None:
            return None
        tokens = (
            self.prompt_tokens * teacher.usd_per_million_prompt_tokens + self.completion_tokens * teacher.usd_per_million_completion_tokens
        )
        return self.total_s / _HOUR_S * params.machine_usd_per_hour + tokens / 1e6


@dataclass(frozen=True, slots=True)
class Month:
    """The cycles of a month: a whole cycle for each change, and short cycles in nights without a change."""

    changes: int
    quiet_nights: int
    cycle_usd: float
    quiet_usd: float

    @property
    def usd(self) -> float:
        return self.changes * self.cycle_usd + self.quiet_nights * self.quiet_usd


Volume = tuple[int | None, int | None]
"""A number of requests at the upper and at the lower end of what one saves; None is "never"."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When a student pays. ``requests`` and ``requests_per_month`` are None where it never does: a request saves nothing.

    Each number has the interval that follows from the interval of the time ratio.
    """

    saving_usd_per_request: float
    saving_usd_per_request_interval: Interval
    cycle_usd: float
    month_usd: float
    requests: int | None
    """Requests that pay for one cycle."""
    requests_interval: Volume
    requests_per_month: int | None
    """Monthly volume that pays for the cycles of a month."""
    requests_per_month_interval: Volume
    saving_usd_per_month: float
    """At the volume of the params, cycles paid; negative where it is not worth it."""
    saving_usd_per_month_interval: Interval

    @property
    def verdict(self) -> Literal["worth it", "not worth it", "unclear"]:
        """Unclear where the interval of a month's saving holds both signs."""
        interval = self.saving_usd_per_month_interval
        return "worth it" if interval.low > 0 else "not worth it" if interval.high <= 0 else "unclear"


def break_even(student_usd: Estimate, teacher_usd: float, month: Month, requests_per_month: int) -> BreakEven:
    """Compare what requests save with what a month of cycles costs."""
    value, least, most = (teacher_usd - usd for usd in (student_usd.value, student_usd.interval.high, student_usd.interval.low))

    def pays(cost: float, saving: float) -> int | None:
        return math.ceil(cost / saving) if saving > 0 else None

    return BreakEven(
        saving_usd_per_request=value,
        saving_usd_per_request_interval=Interval(least, most),
        cycle_usd=month.cycle_usd,
        month_usd=month.usd,
        requests=pays(month.cycle_usd, value),
        requests_interval=(pays(month.cycle_usd, most), pays(month.cycle_usd, least)),
        requests_per_month=pays(month.usd, value),
        requests_per_month_interval=(pays(month.usd, most), pays(month.usd, least)),
        saving_usd_per_month=value * requests_per_month - month.usd,
        saving_usd_per_month_interval=Interval(least * requests_per_month - month.usd, most * requests_per_month - month.usd),
    )
