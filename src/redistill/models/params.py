"""Section ``student`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from redistill.config.base import Positive, Whole, frozen, section


@frozen
class PruneParams:
    """Which layers of the base stay: ``keep`` counts with a ``choice`` of pattern, or ``listed`` ones."""

    keep: Positive | None = None
    choice: Literal["early_and_last_two", "even", "first_and_last"] = "early_and_last_two"
    listed: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> PruneParams:
        if (self.keep is None) == (self.listed is None):
            raise ValueError("give either keep (how many layers) or listed (which ones), not both")
        return self


@section("student")
class StudentParams:
    model: str
    init: Literal["prune", "copy", "config"] = "prune"
    layers: PruneParams | None = None
    config_overrides: dict[str, int] = Field(default_factory=dict)
    seed: Whole = 7

    @model_validator(mode="after")
    def _whole(self) -> StudentParams:
        if self.init == "prune" and self.layers is None:
            raise ValueError("init: prune needs layers (how many, or which)")
        return self
