"""Sections ``tune_teacher``, ``score`` and ``finetune`` of params.yaml: how teacher and students are trained, what all arms share, and what an arm adds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from redistill.config.base import Positive, Share, Whole, frozen, section
from redistill.runtime.precision import Precision
from redistill.teacher.params import GenerateParams, TeacherParams


@frozen
class LoraParams:
    """Low-rank adaptation (Hu et al. 2021), merged into the weights at the end."""

    rank: Positive = 16
    """Rank of the two matrices."""
    alpha: Positive = 32
    """Scale: the product of the matrices times `alpha / rank`."""
    dropout: Share = 0.0
    """Share of their inputs that are left out in training."""


@section("tune_teacher")
class TuneTeacherParams:
    """The teacher learns the task from the labelled rows before it labels the pool."""

    method: Literal["off", "lora", "full"] = "off"
    """`off`, `lora` or `full`. Must be `off` for an endpoint."""
    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the labelled rows."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """The highest one, after the warm-up."""
    batch_size: Positive = 16
    """Rows of a step."""
    warmup_share: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of AdamW."""
    freeze_embeddings: bool = False
    """Leave token embeddings and head as they are."""
    seed: Whole = 7
    """Order of the rows."""
    lora: LoraParams = Field(default_factory=LoraParams)
    """For `method: lora`."""


@section("score")
class ScoreParams:
    """Soft targets: the teacher's probabilities of the tokens of each kept row."""

    top_k: Annotated[int, Field(ge=0, strict=True)] = 32
    """Likeliest tokens that are stored at each place. 0 turns the stage off."""
    bits: Annotated[int, Field(ge=4, le=16, strict=True)] | None = None
    """How finely probabilities are stored, 4 to 16: size against error, see [benchmarks](benchmarks.md). Left out: 8, and 12 where there are
    temperatures other than 1."""
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    """Temperatures that training may use; their log Z is stored."""
    batch_tokens: Positive = 4096
    """Tokens of one forward pass."""

    @property
    def coded_bits(self) -> int:
        """What ``bits`` says, or what fits the temperatures."""
        return self.bits or (8 if set(self.temperatures) <= {1.0} else 12)


@section("finetune.common")
class FinetuneCommonParams:
    """What all arms share, so that a difference between them is the arm's."""

    weights: Literal["full", "lora"] = "full"
    """`full`, or `lora` adapters."""
    tokens: Positive
    """Tokens that each arm is fed."""
    batch_size: Positive = 16
    """Rows of a micro-batch, over all processes."""
    gradient_accumulation: Positive = 1
    """Micro-batches of a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 7e-4
    """The highest one, after the warm-up."""
    warmup_share: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    seed: Whole = 7
    """Order of the rows."""
    supervise: Literal["completion", "all"] = "completion"
    """`completion`, or `all`: the teacher's probabilities on prompt tokens too. Rows without them have their completion alone."""
    freeze_embeddings: bool = False
    """Leave token embeddings and head as they are."""
    save_every_steps: Positive = 50
    """Steps between checkpoints that a killed run continues from."""
    precision: Precision = "auto"
    """`bf16`, `fp32`, or `auto`: bf16 where the machine multiplies it natively ([ADR 17](adr/0017-precision.md))."""
    processes: Positive = 1
    """Processes that share each batch: one a GPU, or several on one CPU."""
    threads: Positive | None = None
    """CPU threads of each process. With fewer than there are cores, as many arms are trained side by side as fit ([ADR 25](adr/0025-stages-side-by-side.md)), and each needs its own memory. Left out: all cores, one arm after the other. Leave it out on a GPU."""
    lora: LoraParams = Field(default_factory=LoraParams)
    """For `weights: lora`."""

    @model_validator(mode="after")
    def _shared_evenly(self) -> FinetuneCommonParams:
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared by {self.processes} processes; give a multiple")
        return self


@section("finetune.method")
class MethodParams:
    """How a student learns from its teacher; [which to choose](methods/README.md). A name alone is a method with its defaults."""

    name: Literal["logit", "sequence", "online", "on_policy"] = "logit"
    """`logit` (stored soft targets), `sequence` (text only), `online` (teacher in memory) or `on_policy` (the student's own completions, judged
    by the teacher in memory)."""
    divergence: Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl"] = "forward_kl"
    """For a teacher in memory."""
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Weight in `jsd`, `skew_kl` and `skew_reverse_kl`. Left out: 0.5 for `jsd`, 0.1 for the others."""
    on_policy_fraction: Share = 0.5
    """Share of the teacher's rows that get the student's own completions."""
    max_tokens: Positive = 48
    """The longest of those completions."""
    teacher_states_mb: Annotated[int, Field(ge=0)] = 2048
    """What `online` may hold of the teacher's hidden states in each process, so that several passes over the rows ask it once. 0 asks it for
    every batch."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        """A name alone is a method with its defaults."""
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _divergence_is_possible(self) -> MethodParams:
        if self.name in ("logit", "sequence") and self.divergence != "forward_kl":
            raise ValueError(
                f"divergence {self.divergence} needs the teacher's whole distribution, which method {self.name} does not have; use method online"
            )
        return self

    @property
    def mixture_beta(self) -> float:
        """``beta``, or the default of its divergence's authors: 0.1 where it is skewed (DistiLLM), 0.5 for ``jsd``, which makes it symmetric (GKD)."""
        return self.beta or (0.1 if self.divergence.startswith("skew") else 0.5)

    @property
    def in_memory(self) -> bool:
        """Whether the teacher is loaded beside the student."""
        return self.name in ("online", "on_policy")


@section("finetune.arms.{arm}")
class ArmParams:
    """One arm. It also needs its line in `dvc.yaml`."""

    rows: Literal["gold", "gold_and_teacher"]
    """`gold` (labelled rows) or `gold_and_teacher`."""
    alpha: Share = 0.0
    """Weight of the distillation term on the teacher's rows; the rest is cross-entropy on the text."""
    prompt_weight: Share = 0.0
    """Weight of the prompts' own text in the teacher's rows. It is the control for `supervise: all`, which gives an arm with probabilities
    several times the targets of one without: with `prompt_weight` equal to the other arm's `alpha`, an arm with `alpha: 0` has the same
    targets with the same weights, by text alone. `artifacts/students/ARM.json` says how many tokens and targets a row has on average."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the logits of both models. Other than 1 it must be in `score.temperatures`."""
    method: MethodParams | None = None
    """A method for this arm alone."""

    def learns_by(self, method: MethodParams) -> MethodParams:
        """What this arm does where ``finetune.method`` is the given one; without a weight on probabilities there is text alone."""
        return MethodParams(name="sequence") if self.alpha == 0.0 else self.method or method


@section("finetune")
class FinetuneParams:
    """How students are trained."""

    common: FinetuneCommonParams
    """What all arms share."""
    arms: dict[str, ArmParams]
    """The arms, by name."""
    method: MethodParams
    """How they learn from the teacher."""


def arms_fit(finetune: FinetuneParams, teacher: TeacherParams, generate: GenerateParams, score: ScoreParams) -> list[str]:
    """What an arm asks for and the other sections do not give."""
    problems = [problem for name, arm in finetune.arms.items() for problem in _arm_fits(name, arm, finetune, teacher, generate, score)]
    if finetune.common.tokens < finetune.common.batch_size:
        problems.append("finetune.common.tokens is less than one batch")
    return problems


def _arm_fits(
    name: str, arm: ArmParams, finetune: FinetuneParams, teacher: TeacherParams, generate: GenerateParams, score: ScoreParams
) -> Iterator[str]:
    where, method = f"finetune.arms.{name}", arm.learns_by(finetune.method)
    for key in ("alpha", "prompt_weight"):
        if getattr(arm, key) > 0 and arm.rows == "gold":
            yield f"{where}: {key}={getattr(arm, key):g} needs the teacher's rows, but rows is gold"
    if arm.alpha > 0 and method.name == "sequence":
        yield f"{where}: alpha={arm.alpha:g} weighs the teacher's probabilities, which method sequence does not use; set alpha to 0"
    if method.in_memory and teacher.backend == "openai":
        yield f"{where}: method {method.name} needs the teacher's weights in memory, but teacher.backend is openai; use logit or sequence"
    if method.name != "logit":
        return
    if arm.temperature != 1.0 and arm.temperature not in score.temperatures:
        yield (
            f"{where}.temperature={arm.temperature:g} is not in score.temperatures={list(score.temperatures)}: "
            "a cached top-k cannot be re-tempered without its log Z_T; add it there"
        )
    if arm.temperature != 1.0 and score.top_k == 0:
        yield f"{where}.temperature={arm.temperature:g} needs the score stage's log Z_T, but score.top_k is 0"
    if score.top_k == 0 and generate.top_k == 0:
        yield f"{where}.alpha={arm.alpha:g} needs soft targets; set score.top_k or generate.top_k"


def tuning_fits(tune_teacher: TuneTeacherParams, teacher: TeacherParams) -> list[str]:
    """Only a teacher whose weights are here can be tuned."""
    if tune_teacher.method != "off" and teacher.backend == "openai":
        return ["tune_teacher.method must be off for teacher.backend: openai; an endpoint cannot be tuned from here"]
    return []
