"""Section ``benchmark`` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redistill.config.base import Positive, Whole, section


@section("benchmark")
class BenchmarkParams:
    """How models are measured.

    ``threads``: CPU threads of one benchmark; as many benchmarks run at once as fit on the cores. By default each has all of them.
    ``fairness`` names a file of counterfactual pairs; ``tasks`` are lm-eval benchmarks outside the task (names, or YAML files), each cut to its
    first ``task_rows``. ``latency_requests`` are timed with student and teacher in turns; fewer than six give no interval.
    """

    batch_size: Positive = 32
    threads: Positive | None = None
    max_tokens: Positive = 48
    latency_requests: Annotated[int, Field(ge=6, strict=True)] = 24
    bootstrap: Positive = 1000
    seed: Whole = 7
    fairness: str | None = None
    tasks: tuple[str, ...] = ()
    task_rows: Positive | None = None

    @property
    def files(self) -> list[str]:
        """What a benchmark reads besides the held-out rows."""
        return [*([self.fairness] if self.fairness else []), *(t for t in self.tasks if t.endswith(".yaml"))]
