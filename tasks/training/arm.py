"""Training of one arm: the rows it learns from, the teacher's probabilities of them, and the student that results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.distillation.params import ArmParams, FinetuneCommonParams, MethodParams
from redistill.distillation.soft_targets.shards import SoftTargetFiles
from redistill.distillation.training.rows import gold_rows
from redistill.distillation.types import TrainingRow
from redistill.errors import ConfigError, DataError
from redistill.io.parquet import read_records
from redistill.models import checkpoints
from redistill.models.generation import end_ids, make_neutral
from redistill.models.tokenizers import load_tokenizer, tokenizer_digest, vocabulary_size
from redistill.runtime.cpu import use_threads
from redistill.runtime.precision import Precision, dtype_name, resolved, training_device
from redistill.runtime.progress import Progress
from redistill.teacher import fingerprint
from tasks.locking.locked_teacher import read_lock, refuse_unnamed
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
    """Train one arm from ``base``: model, tokenizer, and what is told of it. ``watch`` sees the model after every step."""
    from redistill.distillation.methods.build import choose
    from redistill.distillation.training.examples import Examples
    from redistill.distillation.training.loop import train
    from redistill.distillation.training.recipe import steps_for

    use_threads(common.threads)
    tokenizer = load_tokenizer(base)
    learns_by = arm_params.learns_by(method)
    rows = rows_of(data, arm_params, tokenizer)
    if arm_params.alpha > 0:
        refuse_unnamed(read_lock(), rows)
    soft = _soft_targets(rows, arm_params.alpha, tokenizer) if learns_by.name == "logit" else {}
    examples = Examples(
        rows, tokenizer, soft, arm_params.alpha, common.supervise, arm_params.temperature, learns_by.in_memory, arm_params.prompt_weight
    )
    steps = steps_for(common.tokens, examples, common.batch_size * common.gradient_accumulation)
    # Only the method holds the teacher, so that the method can free it.
    way = choose(
        learns_by,
        arm_params.temperature,
        tokenizer,
        vocabulary_size(tokenizer),
        _teacher(rows, learns_by, tokenizer, common.precision) if learns_by.in_memory else None,
        common.seed,
    )
    passes = steps * common.batch_size * common.gradient_accumulation / max(1, len(examples))
    asked = Progress(f"teacher-states@{arm}", sum(r.origin == "teacher" for r in rows), "rows") if is_main_process() else None
    prepared = way.prepare(examples, passes / common.processes, asked)
    progress = Progress(f"finetune@{arm}", steps, "steps")
    student = checkpoints.load_model(base)
    # A student stops where its rows do: a teacher of its family may end with a token that its own base does not list.
    make_neutral(student, [*dict.fromkeys([*end_ids(student), *(r.completion_ids[-1] for r in rows if r.completion_ids)])])
    model = train(student, tokenizer, prepared, _recipe(common, steps), work, progress, way, watch)
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
    rows = gold_rows(read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt), data, tokenizer)
    return rows if arm.rows == "gold" else rows + read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)


def _soft_targets(rows: list[TrainingRow], alpha: float, tokenizer: Any) -> SoftTargetFiles:
    soft = SoftTargetFiles(ARTIFACTS / "soft_targets" / "targets", tokenizer_digest(tokenizer))
    kept = [r for r in rows if r.origin == "teacher"]
    missing = sum((r.prompt_id, r.sample_index) not in soft for r in kept)
    if missing:
        raise DataError(f"{missing} of {len(kept)} kept rows have no soft targets, but alpha={alpha:g}; run score again, or set alpha to 0")
    return soft


def _teacher(rows: list[TrainingRow], method: MethodParams, tokenizer: Any, precision: Precision) -> Any:
    """The locked teacher's weights, once it is sure that their probabilities may be compared with this student's on these rows."""
    from redistill.models.lm_head import check_supported_head

    lock = read_lock()
    if lock.path is None:
        raise ConfigError(
            f"method {method.name} needs the teacher's weights in memory, but the locked teacher is an endpoint; use logit or sequence"
        )
    if tokenizer_digest(lock.tokenizer) != tokenizer_digest(tokenizer):
        raise DataError(
            f"the student's tokenizer is not the teacher's, so their probabilities name other tokens and method {method.name} cannot compare them; "
            "use a student with the teacher's tokenizer, or method sequence"
        )
    found = fingerprint.fingerprint(lock.path, "").digest
    strange = sorted({r.teacher or "" for r in rows if r.origin == "teacher"} - {found})
    if strange:
        raise DataError(
            f"{lock.path} holds teacher {found[:12]}, but {strange[0][:12]} wrote kept rows; restore it with `dvc checkout`, or lock and generate again"
        )
    teacher = checkpoints.load_model(lock.path, dtype_name(precision, training_device()))
    check_supported_head(teacher)
    return teacher
