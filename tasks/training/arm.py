"""Training of one arm: the rows it learns from, the teacher's probabilities of them, and the student that results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.distillation.arm_params import ArmParams
from redistill.distillation.methods.base import Method, MethodInputs, MethodParams
from redistill.distillation.params import FinetuneCommonParams
from redistill.distillation.soft_targets.shards import SoftTargetFiles
from redistill.distillation.training.rows import RowMaker, that_fit
from redistill.distillation.types import TrainingRow
from redistill.errors import ConfigError, DataError
from redistill.io.parquet import read_records
from redistill.models import checkpoints
from redistill.models.generation import end_ids, make_neutral
from redistill.models.tokenizers import load_tokenizer, tokenizer_digest, vocabulary_size
from redistill.runtime.cpu import use_threads
from redistill.runtime.precision import Precision, dtype_name, resolved, training_device
from redistill.runtime.progress import Progress
from tasks.locking.locked_teacher import LockedTeacher, read_lock, refuse_unnamed, require_locked_weights, require_same_tokenizer
from tasks.paths import ARTIFACTS


def train_arm(
    arm: str,
    base: Path,
    work: Path,
    data: DataParams,
    method: MethodParams,
    common: FinetuneCommonParams,
    arm_params: ArmParams,
    watch: Callable[[Any, Any, int, int], None] | None = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """Train one arm from ``base``: the model, its tokenizer, and facts for the report. ``watch`` sees the model after every step."""
    from redistill.distillation.training.examples import Examples, Supervision
    from redistill.distillation.training.loop import train
    from redistill.distillation.training.recipe import steps_for

    use_threads(common.threads)
    tokenizer = load_tokenizer(base)
    learns_by = arm_params.learns_by(method)
    if arm_params.alpha > 0:
        require_same_tokenizer(read_lock(), tokenizer, learns_by.name)
    rows = that_fit(rows_of(data, arm_params, tokenizer), checkpoints.context_tokens(base), f"finetune@{arm}")
    if arm_params.alpha > 0:
        refuse_unnamed(read_lock(), rows)
    soft = _soft_targets(rows, arm_params.alpha) if "soft_targets" in learns_by.needs else {}
    in_memory = "teacher_weights" in learns_by.needs
    supervision = Supervision(arm_params.alpha, common.supervise, arm_params.prompt_weight, in_memory, arm_params.temperature)
    examples = Examples(rows, soft, supervision)
    steps = steps_for(common.tokens, examples, common.batch_size * common.gradient_accumulation)
    built = _method(rows, learns_by, arm_params.temperature, common, tokenizer)
    passes = steps * common.batch_size * common.gradient_accumulation / max(1, len(examples))
    teacher_progress = Progress(f"teacher-states@{arm}", sum(r.origin == "teacher" for r in rows), "rows") if is_main_process() else None
    prepared = built.prepare(examples, passes / int(os.environ.get("WORLD_SIZE", "1")), teacher_progress)
    progress = Progress(f"finetune@{arm}", steps, "steps")
    student = checkpoints.load_model(base)
    # A student stops where its rows do: a teacher of its family may end with a token that its own base does not list.
    make_neutral(student, [*dict.fromkeys([*end_ids(student), *(r.completion_ids[-1] for r in rows if r.completion_ids)])])
    model = train(student, tokenizer, prepared, _recipe(common, steps), work, built, progress, watch)
    facts = {
        "method": learns_by.name,
        "precision": resolved(common.precision, training_device()),
        "rows": len(rows),
        "gold_rows": sum(r.origin == "gold" for r in rows),
        "with_soft_targets": len(soft),
        "tokens_a_row": round(float(examples.lengths.mean()), 2) if rows else 0.0,
        "targets_a_row": round(float(examples.targets.mean()), 2) if rows else 0.0,
        "steps": steps,
    }
    return model, tokenizer, facts


def _method(rows: list[TrainingRow], params: MethodParams, temperature: float, common: FinetuneCommonParams, tokenizer: Any) -> Method:
    # Only the method holds the teacher, so that the method can free it.
    teacher = _teacher(rows, read_lock(), params, common.precision) if "teacher_weights" in params.needs else None
    return params.build(MethodInputs(temperature, tokenizer, vocabulary_size(tokenizer), common.seed, teacher))


def _recipe(common: FinetuneCommonParams, steps: int) -> Any:
    from redistill.distillation.training.recipe import Recipe

    return Recipe(
        steps=steps,
        batch_size=common.batch_size,
        gradient_accumulation=common.gradient_accumulation,
        learning_rate=common.learning_rate,
        warmup_share=common.warmup_share,
        weight_decay=common.weight_decay,
        seed=common.seed,
        save_every_steps=common.save_every_steps,
        lora=common.lora if common.weights == "lora" else None,
        freeze_embeddings=common.freeze_embeddings,
        precision=common.precision,
    )


def is_main_process() -> bool:
    """Whether this process is the one of several that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def rows_of(data: DataParams, arm: ArmParams, tokenizer: Any) -> list[TrainingRow]:
    """Gold rows, and the kept ones where the arm wants them."""
    rows = RowMaker(data, tokenizer).gold(read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt))
    if arm.rows == "gold":
        return rows
    kept: list[TrainingRow] = read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)
    digest = tokenizer_digest(tokenizer)
    if others := {r.tokenizer for r in kept} - {digest}:
        raise DataError(
            f"the kept rows have tokens of tokenizer {min(others)[:12]}, but the student has tokenizer {digest[:12]}; run the stage validate again"
        )
    return rows + kept


def _soft_targets(rows: list[TrainingRow], alpha: float) -> SoftTargetFiles:
    soft = SoftTargetFiles(ARTIFACTS / "soft_targets" / "targets", rows[0].tokenizer if rows else None)
    kept = [r for r in rows if r.origin == "teacher"]
    missing = [r for r in kept if r.key not in soft]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(kept)} kept rows have no soft targets of teacher {missing[0].teacher[:12]}, which completed them, but "
            f"alpha={alpha:g} needs them; set score.top_k above 0 and run the cycle again, or set alpha to 0"
        )
    return soft


def _teacher(rows: list[TrainingRow], lock: LockedTeacher, method: MethodParams, precision: Precision) -> Any:
    """The locked teacher's weights, after a check that they completed these rows."""
    from redistill.models.lm_head import check_supported_head

    if lock.path is None:
        raise ConfigError(
            f"method {method.name} needs the teacher's weights in memory, but the locked teacher is an endpoint; set alpha to 0 to learn from its text only"
        )
    if any(row.teacher_prompt_ids for row in rows):
        raise DataError(
            f"method {method.name} runs the teacher on the student's tokens, but the locked teacher read a prompt of its own; use method logit or sequence"
        )
    teacher = checkpoints.load_model(require_locked_weights(lock, rows), dtype_name(precision, training_device()))
    check_supported_head(teacher)
    return teacher
