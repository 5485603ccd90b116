"""Section ``drift`` of params.yaml: when the monitor of live traffic warns, and when it acts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from redistill.config.base import Margin, Positive, section


@section("drift")
class DriftParams:
    """How the flow `monitor-traffic` compares live traffic with the rows that models are judged on: [serving.md](serving.md#drift)."""

    min_rows: Annotated[int, Field(ge=20, strict=True)] = 100
    """A measure with fewer rows, live or in the reference, judges nothing. A window stays open until it has so many requests."""
    longest_hours: Annotated[float, Field(gt=0.0)] = 24.0
    """A window closes after so many hours even if a source of it, such as a sampled traffic log, still has fewer rows."""
    level: Annotated[float, Field(ge=0.01, lt=0.25)] = 0.01
    """The chance that a window without drift raises any measure. It is shared by all measures of the window (Holm)."""
    of_windows: Positive = 5
    """How many of the last windows are looked at."""
    warn_after: Positive = 3
    """The verdict is `warn` when the same measure is raised in so many of them."""
    act_after: Positive = 4
    """The verdict is `act` when, after a warning, the same measure is raised and beyond its limit in so many of them."""
    calm_after: Positive = 4
    """The verdict is `calm` again after so many windows in a row in which nothing is raised."""
    prompts: Margin = 0.1
    """Limit for acting: by how much the AUC of a classifier of live and reference prompts exceeds 0.5."""
    shares: Annotated[float, Field(gt=0.0, le=10.0)] = 0.2
    """Limit for acting: by how much the stability index of length, language, slices or predicted labels exceeds what chance gives."""
    scores: Margin = 0.15
    """Limit for acting: by how much the largest distance of the two distributions of the student's scores exceeds what chance gives."""
    deferred: Margin = 0.15
    """Limit for acting: by how much the share of deferred requests differs from that on the reference rows."""
    failed: Margin = 0.05
    """Limit for acting: by how much the share of failures of the student exceeds that on the reference rows."""

    @model_validator(mode="after")
    def _reachable(self) -> DriftParams:
        for name in ("warn_after", "act_after"):
            if getattr(self, name) > self.of_windows:
                raise ValueError(f"{name} is {getattr(self, name)}, but only the last {self.of_windows} windows are looked at (of_windows)")
        return self
