"""How students are trained: what all arms share, the method, and what an arm adds. Part of ``redistill.config``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from redistill.frozen import Positive, Share, Whole, frozen
from redistill.precision import Precision


@frozen
class LoraParams:
    rank: Positive = 16
    alpha: Positive = 32
    dropout: Share = 0.0


@frozen
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


@frozen
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

    @model_validator(mode="after")
    def _whole(self) -> MethodParams:
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


def _as_method(given: object) -> object:
    """A name alone is a method with its defaults."""
    return {"name": given} if isinstance(given, str) else given


@frozen
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
    method: Annotated[MethodParams | None, BeforeValidator(_as_method)] = None

    def learns_by(self, method: MethodParams) -> MethodParams:
        """What this arm does where ``finetune.method`` is the given one; without a weight on probabilities there is text alone."""
        return MethodParams(name="sequence") if self.alpha == 0.0 else self.method or method


@frozen
class FinetuneParams:
    common: FinetuneCommonParams
    arms: dict[str, ArmParams]
    method: Annotated[MethodParams, BeforeValidator(_as_method)]
