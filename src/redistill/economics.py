"""Is it worth it? What a request costs with student and teacher, what a cycle costs, and how many requests pay for it.

Prices come from ``params.yaml``: a machine by its hour, an endpoint by its tokens. What has no price has no cost in money; seconds and tokens are
measured either way.
"""

from __future__ import annotations

from dataclasses import dataclass

from redistill.config import EconomicsParams, TeacherParams
from redistill.records import Cost

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

    def per_request(self, cost: Cost) -> float | None:
        """USD for one request, answered in full batches; None where price or measurement is missing."""
        completion = cost.tokens_per_request
        if completion is None:
            return None
        if self.by_tokens:
            prompt = cost.prompt_tokens_per_request or 0.0
            return (prompt * self.usd_per_million_prompt_tokens + completion * self.usd_per_million_completion_tokens) / 1e6
        if self.usd_per_hour is None or cost.tokens_per_s <= 0:
            return None
        return completion / cost.tokens_per_s / _HOUR_S * self.usd_per_hour

    def per_million_tokens(self, cost: Cost) -> float | None:
        """USD for a million completion tokens with the prompts that they answer."""
        request = self.per_request(cost)
        return None if request is None or not cost.tokens_per_request else request / cost.tokens_per_request * 1e6


def student_price(params: EconomicsParams) -> Price:
    return Price(params.machine_usd_per_hour)


def teacher_price(params: EconomicsParams, teacher: TeacherParams) -> Price:
    """An endpoint is paid by the token, a teacher of our own by the machine that it runs on."""
    if teacher.backend == "openai":
        return Price(None, teacher.usd_per_million_prompt_tokens, teacher.usd_per_million_completion_tokens)
    return Price(params.machine_usd_per_hour)


@dataclass(frozen=True, slots=True)
class CycleCost:
    """What a cycle takes: machine seconds by stage, and the teacher's tokens where they are paid for."""

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
class BreakEven:
    """When a student pays. ``requests`` and ``requests_per_month`` are None where it never does: a request saves nothing."""

    saving_usd_per_request: float
    cycle_usd: float
    requests: int | None
    """Requests that pay for one cycle."""
    requests_per_month: int | None
    """Monthly volume that pays for the cycles of a month."""
    saving_usd_per_month: float
    """At the volume of the params, cycles paid; negative where it is not worth it."""

    @property
    def worth_it(self) -> bool:
        return self.saving_usd_per_month > 0


def break_even(student_usd: float, teacher_usd: float, cycle_usd: float, params: EconomicsParams) -> BreakEven:
    """Compare what requests save with what cycles cost, nightly ones included."""
    saving = teacher_usd - student_usd
    pays = saving > 0
    return BreakEven(
        saving_usd_per_request=saving,
        cycle_usd=cycle_usd,
        requests=_up(cycle_usd / saving) if pays else None,
        requests_per_month=_up(params.cycles_per_month * cycle_usd / saving) if pays else None,
        saving_usd_per_month=saving * params.requests_per_month - params.cycles_per_month * cycle_usd,
    )


def _up(value: float) -> int:
    return -int(-value // 1)
