"""Stage ``finetune@ARM``: one student, from the same base, tokens and seed as every other arm."""

from __future__ import annotations

import shutil
from typing import Any

from redistill import checkpoints
from redistill.artifacts import read_records, read_soft_targets, replacing_directory, tree_digest, write_json
from redistill.config import ArmParams, DataParams, FinetuneCommonParams
from redistill.errors import DataError
from redistill.progress import Progress
from redistill.prompting import tokenizer_digest
from redistill.records import Prompt, SoftTargets, TrainingRow
from redistill.rows import gold_rows
from tasks.edge import ARTIFACTS, run, work_directory


def finetune(arm: str, data: DataParams, common: FinetuneCommonParams, arm_params: ArmParams) -> None:
    """Train one arm and write its checkpoint and metrics.

    Raises:
        DataError: no rows, or soft targets that do not belong to them.
    """
    from redistill.training import Recipe, steps_for, to_example, train

    base = ARTIFACTS / "base"
    tokenizer = checkpoints.load_tokenizer(base)
    rows, soft = _rows(data, arm_params, tokenizer)
    examples = [to_example(r, tokenizer, soft.get((r.prompt_id, r.sample_index)), arm_params.alpha, common.supervise) for r in rows]
    steps = steps_for(common.tokens, examples, common.batch_size * common.gradient_accumulation)
    recipe = Recipe(
        steps=steps,
        batch_size=common.batch_size,
        gradient_accumulation=common.gradient_accumulation,
        learning_rate=common.learning_rate,
        warmup_share=common.warmup_share,
        weight_decay=common.weight_decay,
        seed=common.seed,
        temperature=arm_params.temperature,
        save_every_steps=common.save_every_steps,
        lora=common.lora if common.method == "lora" else None,
        freeze_embeddings=common.freeze_embeddings,
    )
    work = work_directory(f"finetune-{arm}", str(common), str(arm_params), str(data), *_digests(arm_params))
    model = train(checkpoints.load_model(base), tokenizer, examples, recipe, work, Progress(f"finetune@{arm}", steps, "steps"))
    with replacing_directory(ARTIFACTS / "students" / arm) as folder:
        checkpoints.save_checkpoint(model, tokenizer, folder)
    shutil.copy(work / "metrics.jsonl", ARTIFACTS / "students" / f"{arm}.metrics.jsonl")
    write_json(
        ARTIFACTS / "students" / f"{arm}.json",
        {"arm": arm, "rows": len(rows), "gold_rows": sum(r.origin == "gold" for r in rows), "with_soft_targets": len(soft), "steps": steps},
    )
    shutil.rmtree(work, ignore_errors=True)


def _rows(data: DataParams, arm: ArmParams, tokenizer: Any) -> tuple[list[TrainingRow], dict[tuple[str, int], SoftTargets]]:
    rows = gold_rows(read_records(ARTIFACTS / "prompts" / "train.parquet", Prompt), data, tokenizer)
    if arm.rows == "gold":
        return rows, {}
    kept = read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)
    if arm.alpha == 0.0:
        return rows + kept, {}
    soft = read_soft_targets(ARTIFACTS / "soft_targets" / "targets.parquet", tokenizer_digest(tokenizer))
    missing = sum((r.prompt_id, r.sample_index) not in soft for r in kept)
    if missing:
        raise DataError(
            f"{missing} of {len(kept)} kept rows have no soft targets, but alpha={arm.alpha:g}; run score again, or set alpha to 0"
        )
    return rows + kept, soft


def _digests(arm: ArmParams) -> list[str]:
    paths = ["base", "prompts/train.parquet"]
    if arm.rows != "gold":
        paths.append("validated/kept.parquet")
    if arm.alpha > 0:
        paths.append("soft_targets/targets.parquet")
    return [tree_digest(ARTIFACTS / p) for p in paths]


if __name__ == "__main__":
    run(finetune, "arm")
