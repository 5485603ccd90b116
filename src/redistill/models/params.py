"""Section ``student`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from redistill.config.base import Positive, Whole, frozen, section


@frozen
class PruneParams:
    """Which layers of the base stay."""

    keep: Positive | None = None
    """How many, by the pattern of `choice`."""
    choice: Literal["early_and_last_two", "even", "first_and_last"] = "early_and_last_two"
    """`early_and_last_two`, `even` or `first_and_last`."""
    listed: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)] | None = None
    """Which ones, such as [0, 1, 29]. The choice of layers matters more than their number: after a first cycle `redistill layers 14` searches for them
    (ADR 7)."""

    @model_validator(mode="after")
    def _one_of(self) -> PruneParams:
        if (self.keep is None) == (self.listed is None):
            raise ValueError("give either keep (how many layers) or listed (which ones), not both")
        return self


@section("student")
class StudentParams:
    """What a student is made from."""

    model: str
    """A model in the same form as `teacher.model`, or the word `teacher`: the raw weights of the teacher."""
    init: Literal["prune", "copy", "config"] = "prune"
    """`prune` (some of the base's layers), `copy`, or `config` (random weights of a smaller configuration)."""
    layers: PruneParams | None = None
    """For `init: prune`."""
    config_overrides: dict[str, int] = Field(default_factory=dict)
    """For `init: config`: keys of the configuration, such as {hidden_size: 192}."""
    seed: Whole = 7
    """Seed of the random weights."""

    @model_validator(mode="after")
    def _whole(self) -> StudentParams:
        if self.init == "prune" and self.layers is None:
            raise ValueError("init: prune needs layers (how many, or which)")
        return self
