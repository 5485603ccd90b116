"""Section ``serve`` of params.yaml: the limits of the router."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from redistill.config.base import Positive, Share, section

_Seconds = Annotated[float, Field(gt=0.0, le=3600.0)]


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
    student_dtype: Literal["auto", "bfloat16", "float32", "float16"] = "auto"
    """The number format in which the student's server computes; `auto` is what suits this machine. A cascade's threshold holds for the formats that were
    measured."""
