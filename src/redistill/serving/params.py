"""Section ``serve`` of params.yaml: the limits of the router."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from redistill.config.base import Positive, Share, section
from redistill.serving.number_format import NumberFormat

_Seconds = Annotated[float, Field(gt=0.0, le=3600.0)]


def _ascending(steps: tuple[float, ...]) -> tuple[float, ...]:
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"the steps {list(steps)} must rise, such as [5, 50, 100]")
    return steps


@section("serve")
class ServeParams:
    """How long the router waits, and how much it holds: [serving.md](serving.md). The addresses and keys of the two models are in the environment."""

    student_s: _Seconds = 5.0
    """The longest wait for a student's completion that is held back until its score is known. After it, the teacher is asked."""
    first_token_s: _Seconds = 10.0
    """The longest wait for the first token of a stream. Frames without text do not count."""
    between_tokens_s: _Seconds = 10.0
    """The longest wait between two tokens of a stream."""
    total_s: _Seconds = 120.0
    """The longest time of a whole request. A caller's own limit, if it is shorter, counts instead."""
    connect_s: _Seconds = 2.0
    """The longest wait for a connection to a model's server."""
    max_body_mb: Annotated[float, Field(gt=0.0, le=1024.0)] = 4.0
    """The largest request body, in MB."""
    max_open: Positive = 256
    """Requests in work at once. Others get status 503 and `Retry-After`."""
    breaker_failures: Positive = 5
    """After so many failures in a row, a model's server is not asked for a while."""
    breaker_s: _Seconds = 10.0
    """For how long. Then one request tries it again."""
    shadow_share: Share = 0.05
    """The share of the student's requests that the teacher also completes, after the caller has its answer: what the guard of live traffic looks at. 0: no guard."""
    rollout_steps: Annotated[tuple[Annotated[float, Field(gt=0.0, le=100.0)], ...], AfterValidator(_ascending)] = ()
    """The steps, in percent of the keys, by which a promoted version gets the traffic of the one before it, such as `[5, 50, 100]`. Both need a server of their
    own. Left out: a promoted version gets all of it at once, when its server has proved itself."""
    rollout_minutes: Annotated[float, Field(gt=0.0, le=100_000.0)] = 30.0
    """A step takes at least so long."""
    rollout_requests: Positive = 200
    """And the new version has at least so many requests in it. One failure at low traffic must not decide."""
    flag_max_age_s: _Seconds = 60.0
    """With `REDISTILL_FLAG_URL`: for so long the last flag holds while its address cannot be reached, or has no usable flag. After it, the teacher answers."""
    student_dtype: Literal["auto"] | NumberFormat = "auto"
    """The number format in which the student's server is started; `auto` is what suits its machine. A cascade's threshold holds for the formats that were
    measured. The router takes what the server says (`MODEL@VERSION:FORMAT` in its list), and this setting where it says nothing."""
