"""Sections ``tune_teacher``, ``score`` and ``finetune.common`` of params.yaml: how the teacher is trained and scored, and what all arms share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from redistill.config.base import Positive, Share, Whole, frozen, section
from redistill.runtime.precision import Precision
from redistill.teacher.params import TeacherParams


@frozen
class LoraParams:
    """Low-rank adaptation (Hu et al. 2021), merged into the weights at the end."""

    rank: Positive = 16
    """Rank of the two matrices."""
    alpha: Positive = 32
    """Scale: the product of the matrices times `alpha / rank`."""
    dropout: Share = 0.0
    """Dropout: share of their inputs that is left out in training."""


@section("tune_teacher")
class TuneTeacherParams:
    """The teacher learns the task from the labelled rows before it labels the pool."""

    method: Literal["off", "lora", "full"] = "off"
    """`off`, `lora` or `full`. Must be `off` for an endpoint."""
    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Number of passes over the labelled rows."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate, after the warm-up."""
    batch_size: Positive = 16
    """Rows per step."""
    warmup_share: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW."""
    freeze_embeddings: bool = False
    """Do not train token embeddings and head."""
    seed: Whole = 7
    """Seed of the order of the rows."""
    lora: LoraParams = Field(default_factory=LoraParams)
    """For `method: lora`."""


@section("score")
class ScoreParams:
    """Soft targets: the teacher's probabilities of the tokens of each kept row."""

    top_k: Annotated[int, Field(ge=0, strict=True)] = 32
    """Number of most likely tokens that are stored at each position. 0 turns the stage off."""
    bits: Annotated[int, Field(ge=4, le=16, strict=True)] | None = None
    """How finely probabilities are stored, 4 to 16: size against error, see [benchmarks](benchmarks.md). Left out: 8, or 12 if there are
    temperatures other than 1."""
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    """Temperatures that training may use; their log Z is stored."""
    batch_tokens: Positive = 4096
    """Tokens of one forward pass."""

    @property
    def coded_bits(self) -> int:
        """``bits``, or the default for these temperatures."""
        return self.bits or (8 if set(self.temperatures) <= {1.0} else 12)


@section("finetune.common")
class FinetuneCommonParams:
    """Settings that all arms share, so that differences in quality come from the arms."""

    weights: Literal["full", "lora"] = "full"
    """`full`, or `lora` adapters."""
    tokens: Positive
    """Training tokens of each arm."""
    batch_size: Positive = 16
    """Rows of a micro-batch, over all processes."""
    gradient_accumulation: Positive = 1
    """Micro-batches per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 7e-4
    """Highest learning rate, after the warm-up."""
    warmup_share: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of AdamW."""
    seed: Whole = 7
    """Seed of the order of the rows."""
    supervise: Literal["completion", "all"] = "completion"
    """`completion`, or `all`: the teacher's probabilities on prompt tokens too. In rows without probabilities, only the completion is supervised."""
    freeze_embeddings: bool = False
    """Do not train token embeddings and head."""
    save_every_steps: Positive = 50
    """Steps between two checkpoints. A killed run continues from the last one."""
    precision: Precision = "auto"
    """`bf16`, `fp32`, or `auto`: bf16 if the hardware supports it natively ([ADR 17](adr/0017-precision.md))."""
    processes: Positive = 1
    """Processes that share each batch: one a GPU, or several on one CPU."""
    threads: Positive | None = None
    """CPU threads of each process. With fewer than there are cores, as many arms are trained side by side as fit ([ADR 25](adr/0025-stages-side-by-side.md)), and each needs its own memory. Left out: all cores, one arm after the other. Leave it out on a GPU."""
    lora: LoraParams = Field(default_factory=LoraParams)
    """For `weights: lora`."""

    @model_validator(mode="after")
    def _shared_evenly(self) -> FinetuneCommonParams:
        if self.batch_size % self.processes:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared by {self.processes} processes; set it to a multiple of {self.processes}"
            )
        return self


def tuning_fits(tune_teacher: TuneTeacherParams, teacher: TeacherParams) -> list[str]:
    """Only a teacher with local weights can be tuned."""
    if tune_teacher.method != "off" and teacher.backend == "openai":
        return ["tune_teacher.method must be off for teacher.backend: openai; an endpoint cannot be tuned from here"]
    return []
