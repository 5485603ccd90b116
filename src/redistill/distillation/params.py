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
    rank: Positive = 16
    alpha: Positive = 32
    dropout: Share = 0.0


@section("tune_teacher")
class TuneTeacherParams:
    method: Literal["off", "lora", "full"] = "off"
    epochs: Annotated[float, Field(gt=0)] = 3.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    batch_size: Positive = 16
    warmup_share: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    freeze_embeddings: bool = False
    seed: Whole = 7
    lora: LoraParams = Field(default_factory=LoraParams)


@section("score")
class ScoreParams:
    """Soft targets: ``top_k`` 0 turns the stage off. ``temperatures`` are those that training may use.

    ``bits`` is how finely probabilities are kept: size against error, see docs/benchmarks.md; left out, it is 8, and 12 where there are temperatures
    other than 1, since heat raises what was rounded.
    """

    top_k: Annotated[int, Field(ge=0, strict=True)] = 32
    bits: Annotated[int, Field(ge=4, le=16, strict=True)] | None = None
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    batch_tokens: Positive = 4096

    @property
    def coded_bits(self) -> int:
        """What ``bits`` says, or what fits the temperatures."""
        return self.bits or (8 if set(self.temperatures) <= {1.0} else 12)


@section("finetune.common")
class FinetuneCommonParams:
    """What all arms share, so that a difference between them is the arm's. ``tokens`` is what each arm is fed.

    ``threads``: CPU threads of each process; as many arms are trained at once as fit on the cores. By default an arm has all of them.
    """

    weights: Literal["full", "lora"] = "full"
    tokens: Positive
    batch_size: Positive = 16
    gradient_accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 7e-4
    warmup_share: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    seed: Whole = 7
    supervise: Literal["completion", "all"] = "completion"
    freeze_embeddings: bool = False
    save_every_steps: Positive = 50
    precision: Precision = "auto"
    processes: Positive = 1
    threads: Positive | None = None
    lora: LoraParams = Field(default_factory=LoraParams)

    @model_validator(mode="after")
    def _shared_evenly(self) -> FinetuneCommonParams:
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared by {self.processes} processes; give a multiple")
        return self


@section("finetune.method")
class MethodParams:
    """How a student learns from its teacher; one page each in docs/methods.

    ``divergence`` and ``beta`` (of ``jsd``, ``skew_kl`` and ``skew_reverse_kl``) are for a teacher in memory; ``on_policy_fraction`` of the teacher's rows get the
    student's own completions, of at most ``max_tokens``. ``teacher_states_mb`` is what ``online`` may hold of the teacher's answers in each process, so that
    several passes over the rows ask it once; 0 asks it for every batch.
    """

    name: Literal["logit", "sequence", "online", "on_policy"] = "logit"
    divergence: Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl"] = "forward_kl"
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    on_policy_fraction: Share = 0.5
    max_tokens: Positive = 48
    teacher_states_mb: Annotated[int, Field(ge=0)] = 2048

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
    """One arm: which rows, and what weight the teacher's probabilities have on its rows. ``method`` is for an arm that differs from the others.

    ``prompt_weight`` is that of the cross-entropy on the prompts' own text in the teacher's rows. It is the control for ``supervise: all``, which
    gives an arm with probabilities several times the targets of one without: with ``prompt_weight: 0.5`` the arm ``sft`` is supervised on the
    very tokens of a ``kd`` with ``alpha: 0.5``, with the same weights, by text alone.
    """

    rows: Literal["gold", "gold_and_teacher"]
    alpha: Share = 0.0
    prompt_weight: Share = 0.0
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    method: MethodParams | None = None

    def learns_by(self, method: MethodParams) -> MethodParams:
        """What this arm does where ``finetune.method`` is the given one; without a weight on probabilities there is text alone."""
        return MethodParams(name="sequence") if self.alpha == 0.0 else self.method or method


@section("finetune")
class FinetuneParams:
    common: FinetuneCommonParams
    arms: dict[str, ArmParams]
    method: MethodParams


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
