"""Section ``route`` of params.yaml: how much a cascade may differ from its teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from redistill.config.base import Alpha, Margin, section
from redistill.evaluation.confidence.all_scores import SCORES
from redistill.promotion.params import PromoteParams
from redistill.promotion.thresholds.bands import BANDS
from redistill.promotion.thresholds.types import Limits


@section("route")
class RouteParams:
    """When a student answers by itself, and when its request goes to the teacher: [cascade.md](cascade.md)."""

    max_disagreement: Margin | None = None
    """Expected share of all requests that the student answers otherwise than the teacher would. Left out: the margin of the gate `teacher`."""
    doubt: Alpha = 0.1
    """The chance, over the draw of the calibration rows, that the true share is larger than that."""
    bands: dict[str, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)
    """By how much a score may differ between engines and batches, in nats, by the name of the score. Rows that are so close above the threshold go to the
    teacher. Left out: [what was measured](cascade.md#one-threshold-for-every-engine)."""

    on_teacher_down: Literal["refuse", "student"] = "refuse"
    """What the router does while the teacher cannot be reached: `refuse` with status 503, or let a verified `student` answer with a warning header. A pin, a
    caller's header or a guard that demands the teacher is not overridden."""

    @model_validator(mode="after")
    def _scores_known(self) -> RouteParams:
        unknown = sorted(set(self.bands) - set(SCORES))
        if unknown:
            raise ValueError(f"bands.{unknown[0]} is not a score; the scores are {', '.join(SCORES)}")
        return self


def limits_of(route: RouteParams, promote: PromoteParams) -> Limits:
    return Limits(route.max_disagreement or promote.teacher_gate.margin, route.doubt, {**BANDS, **route.bands})
