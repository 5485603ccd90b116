"""Sections ``sweep`` and ``tune`` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator, model_validator

from redistill.config.base import Positive, Share, Whole, frozen, section
from redistill.distillation.arm_params import FinetuneParams
from redistill.distillation.params import ScoreParams
from redistill.promotion.params import PromoteParams
from redistill.teacher.params import TeacherParams


def _point_of_sweep(given: object) -> int | str:
    if given == "teacher" or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
        return given
    raise ValueError(f"{given!r} is neither a number of layers nor the word teacher")


@section("sweep")
class SweepParams:
    """Students of other depths, for the curve of size against quality in the report. Each is trained like the promoted arm, and is a stage of
    its own (`sweep@6`)."""

    layers: tuple[Annotated[int | str, PlainValidator(_point_of_sweep)], ...]
    """Numbers of kept layers, and `teacher` for its own point. An empty list turns the sweep off. `dvc.yaml` reads this key too, so it has no
    default."""


@frozen
class SpaceParams:
    """The search space of `redistill tune`. Settings that are left out do not change."""

    alpha: tuple[Share, Share] | None = (0.1, 1.0)
    """Two ends, the smaller first."""
    learning_rate: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = (2e-4, 3e-3)
    """Two ends, the smaller first."""
    layers: tuple[Positive, ...] = ()
    """Numbers of kept layers to try."""
    temperature: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Temperatures to try."""

    @model_validator(mode="after")
    def _ascending(self) -> SpaceParams:
        for name in ("alpha", "learning_rate"):
            ends = getattr(self, name)
            if ends is not None and ends[0] >= ends[1]:
                raise ValueError(f"{name}: {list(ends)} must be two ends, the smaller first")
        if self.alpha is not None and self.alpha[0] == 0.0:
            raise ValueError("alpha: the range must begin above 0; alpha 0 would be the arm sft")
        return self


@section("tune")
class TuneParams:
    """`redistill tune` searches for settings with the best F1 on the dev split (best chrF for free text). It prints a patch of this file and writes
    plots to `artifacts/tune/`. It does not change this file."""

    trials: Positive = 20
    """Largest number of trials."""
    minutes: Annotated[float, Field(gt=0)] = 60.0
    """Time limit in minutes."""
    tokens: Positive | None = None
    """Tokens of each trial. Left out: as `finetune.common`."""
    seed: Whole = 7
    """Seed of the search."""
    space: SpaceParams = Field(default_factory=SpaceParams)
    """The search space."""


def sweep_fits(sweep: SweepParams, teacher: TeacherParams) -> list[str]:
    problems = []
    if len(set(sweep.layers)) < len(sweep.layers):
        problems.append("sweep.layers lists a number twice; list each number once")
    if "teacher" in sweep.layers and teacher.backend == "openai":
        problems.append("sweep.layers lists teacher, but the size of an endpoint (teacher.backend: openai) is not known; leave it out")
    return problems


def space_fits(tune: TuneParams, promote: PromoteParams, finetune: FinetuneParams, score: ScoreParams) -> list[str]:
    """A stored top-k can be used only at the temperatures in ``score.temperatures``."""
    arm = finetune.arms.get(promote.arm)  # With `auto`, `redistill tune` asks for a name.
    if arm is None or "soft_targets" not in arm.learns_by(finetune.method).needs:
        return []
    unscored = sorted(set(tune.space.temperature) - {1.0, *score.temperatures})
    if unscored:
        return [f"tune.space.temperature={unscored[0]:g} is not in score.temperatures={list(score.temperatures)}; add it there"]
    return []
