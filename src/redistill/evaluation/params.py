"""Section ``benchmark`` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redistill.config.base import Positive, Whole, section


@section("benchmark")
class BenchmarkParams:
    """How models are measured."""

    batch_size: Positive = 32
    """Rows of a batch."""
    threads: Positive | None = None
    """CPU threads of one benchmark. With fewer than there are cores, several run side by side. Left out: all cores."""
    max_tokens: Positive = 48
    """The longest completion."""
    latency_requests: Annotated[int, Field(ge=6, strict=True)] = 24
    """Requests that student and teacher get in turns, one at a time, for the ratio of their times. More requests make its interval narrower; at
    least six."""
    bootstrap: Positive = 1000
    """Number of resamples for an interval, and for the range of a calibration error that chance explains."""
    seed: Whole = 7
    """Seed of the resamples."""
    fairness: str | None = None
    """A JSONL file of counterfactual pairs, each with `id`, `kind` and two `texts`. With it, the gate `fairness` can be listed. Pairs made from
    one message count once: name it in `message`, in all pairs of the file or in none. Without that key, pairs belong to one message where
    they have a text in common, or where the words that both texts share are the same (at least half of the longer text)."""
    tasks: tuple[str, ...] = ()
    """lm-eval benchmarks outside the task, by name (their data comes from the hub), or as a YAML file that describes one. Every report has sixty
    general questions of its own as well. If the YAML file changes, benchmarks run again; a change of the data that it names is not noticed."""
    task_rows: Positive | None = None
    """Cut each of `tasks` to its first rows. Left out: all rows."""
    few_shot: Annotated[int, Field(ge=0, strict=True)] = 0
    """Above 0, the report has one more arm, `prompted`: the teacher as its owner publishes it, with so many labelled rows as examples. It needs its line in
    `dvc.yaml` ([how](data.md#a-prompt-for-the-teacher-alone))."""

    @property
    def files(self) -> list[str]:
        """What a benchmark reads besides the held-out rows."""
        return [*([self.fairness] if self.fairness else []), *(t for t in self.tasks if t.endswith(".yaml"))]
