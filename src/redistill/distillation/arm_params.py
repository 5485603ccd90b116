"""Section ``finetune`` of params.yaml as a whole: which arms are trained, by which method, and whether that fits the other sections.

Separate from ``redistill.distillation.params``, so that stages that only train or score the teacher do not run again if a method is edited.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from redistill.config.base import Share, section
from redistill.distillation.methods import all_methods  # noqa: F401 - makes every method known to MethodParams
from redistill.distillation.methods.base import MethodParams
from redistill.distillation.methods.sequence import SequenceParams
from redistill.distillation.params import FinetuneCommonParams, ScoreParams
from redistill.teacher.params import GenerateParams, TeacherParams


@section("finetune.arms.{arm}")
class ArmParams:
    """One arm. It also needs its line in `dvc.yaml`."""

    rows: Literal["gold", "gold_and_teacher"]
    """`gold` (labelled rows) or `gold_and_teacher`."""
    alpha: Share = 0.0
    """Weight of the distillation term on the teacher's rows; the rest is cross-entropy on the text."""
    prompt_weight: Share = 0.0
    """Weight of the prompts' own text in the teacher's rows. It is the control for `supervise: all`, which gives an arm with probabilities
    several times the targets of an arm without them: with `prompt_weight` equal to the other arm's `alpha`, an arm with `alpha: 0` has the
    same targets with the same weights, but only by text. `artifacts/students/ARM.json` has the average number of tokens and targets per row."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the logits of both models. Other than 1 it must be in `score.temperatures`."""
    method: MethodParams | None = None
    """A method only for this arm."""

    def learns_by(self, method: MethodParams) -> MethodParams:
        """The arm's own method, else ``finetune.method``. With alpha 0, only text is used."""
        return SequenceParams() if self.alpha == 0.0 else self.method or method


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
    """Settings of arms that the other sections make impossible."""
    problems = [problem for name, arm in finetune.arms.items() for problem in _arm_fits(name, arm, finetune, teacher, generate, score)]
    if "prompted" in finetune.arms:
        problems.append(
            "finetune.arms.prompted: benchmark.few_shot has an arm of this name, the raw teacher with examples; give yours another name"
        )
    if finetune.common.tokens < finetune.common.batch_size:
        problems.append(
            f"finetune.common.tokens={finetune.common.tokens} is less than one token for each of batch_size={finetune.common.batch_size} rows; raise it"
        )
    return problems


def _arm_fits(
    name: str, arm: ArmParams, finetune: FinetuneParams, teacher: TeacherParams, generate: GenerateParams, score: ScoreParams
) -> Iterator[str]:
    where, method = f"finetune.arms.{name}", arm.learns_by(finetune.method)
    for key in ("alpha", "prompt_weight"):
        if getattr(arm, key) > 0 and arm.rows == "gold":
            yield f"{where}: {key}={getattr(arm, key):g} needs the teacher's rows, but rows is gold; set rows to gold_and_teacher, or {key} to 0"
    if arm.alpha > 0 and method.needs == {"text"}:
        yield f"{where}: alpha={arm.alpha:g} weighs the teacher's probabilities, which method {method.name} does not use; set alpha to 0"
    if "teacher_weights" in method.needs and teacher.backend == "openai":
        yield f"{where}: method {method.name} needs the teacher's weights in memory, but teacher.backend is openai; set alpha to 0 to learn from its text only"
    if teacher.prompt.shows_anything:
        if "teacher_weights" in method.needs:
            yield (
                f"{where}: method {method.name} runs the teacher on the student's tokens, but with teacher.prompt the teacher reads other ones; "
                "use method logit or sequence, or remove teacher.prompt"
            )
        if arm.alpha > 0 and finetune.common.supervise == "all":
            yield (
                f"{where}: finetune.common.supervise is all, but with teacher.prompt the teacher gives no probabilities of the student's prompt tokens; "
                "set supervise to completion, or remove teacher.prompt"
            )
    if "teacher_logprobs" in method.needs:
        yield f"{where}: method {method.name} needs log-probabilities from a running teacher during training, which no teacher.backend provides yet"
    if "soft_targets" not in method.needs:
        return
    if arm.temperature != 1.0 and arm.temperature not in score.temperatures:
        yield (
            f"{where}.temperature={arm.temperature:g} is not in score.temperatures={list(score.temperatures)}: "
            "a stored top-k cannot be used at another temperature without its log Z_T; add the temperature there"
        )
    if arm.temperature != 1.0 and score.top_k == 0:
        yield f"{where}.temperature={arm.temperature:g} needs log Z_T from the stage score, but score.top_k is 0; set score.top_k, or use temperature 1"
    if score.top_k == 0 and generate.top_k == 0:
        yield f"{where}.alpha={arm.alpha:g} needs soft targets; set score.top_k or generate.top_k"
