"""Stage ``tune_teacher``: the raw teacher, taught the task's form on the labelled rows (optional)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from redistill import checkpoints
from redistill.artifacts import file_digest, read_records, replacing_directory
from redistill.config import DataParams, TeacherParams, TuneTeacherParams
from redistill.progress import Progress
from redistill.records import Prompt, canonical_digest
from redistill.template_date import fix_date
from tasks.edge import ARTIFACTS, run, work_directory
from tasks.locked import SOURCES, template_date

TRAIN = ARTIFACTS / "prompts" / "train.parquet"


def tune_teacher(data: DataParams, teacher: TeacherParams, tune_teacher: TuneTeacherParams) -> None:
    """Write the teacher's checkpoint: tuned and merged, or as it is; an endpoint leaves an empty directory.

    A teacher is always a whole checkpoint with its own digest, so what answers is one thing that can be locked.
    """
    target = ARTIFACTS / "teacher"
    if teacher.backend == "openai":
        with replacing_directory(target) as folder:
            (folder / "ENDPOINT").write_text(teacher.model + "\n", encoding="utf-8")
        return
    raw = checkpoints.resolve(teacher.model, teacher.revision)
    tokenizer, date = checkpoints.load_tokenizer(raw), template_date("teacher")
    dated = fix_date(tokenizer, date)
    if dated:
        print(f"[tune_teacher] the teacher's chat template states the date; it stays {date}, as {SOURCES} has it", flush=True)
    if tune_teacher.method == "off":
        with replacing_directory(target) as folder:
            shutil.copytree(raw, folder, dirs_exist_ok=True)
            if dated:
                tokenizer.save_pretrained(folder)
        return
    _tune(raw, tokenizer, target, data, tune_teacher)


def _tune(raw: Path, tokenizer: Any, target: Path, data: DataParams, params: TuneTeacherParams) -> None:
    # The template as it renders: another date is another text of every row.
    identity = canonical_digest([str(params), str(data), tokenizer.chat_template])
    work = work_directory("tune_teacher", file_digest(TRAIN), identity, checkpoints.model_digest(raw))
    model = train_teacher(raw, tokenizer, data, params, work, "tune_teacher")
    with replacing_directory(target) as folder:
        checkpoints.save_checkpoint(model, tokenizer, folder)
        shutil.copy(work / "metrics.jsonl", folder / "metrics.jsonl")
    shutil.rmtree(work, ignore_errors=True)


def train_teacher(raw: Path, tokenizer: Any, data: DataParams, params: TuneTeacherParams, work: Path, progress: str = "") -> Any:
    """The teacher after its training on the labelled rows, LoRA merged. Continues from what an earlier run left in ``work``."""
    from redistill.examples import Examples
    from redistill.rows import gold_rows
    from redistill.training import Recipe, train

    examples = Examples(gold_rows(read_records(TRAIN, Prompt), data, tokenizer), tokenizer, {}, 0.0, "completion")
    steps = max(1, round(params.epochs * len(examples) / params.batch_size))
    recipe = Recipe(
        steps=steps,
        batch_size=params.batch_size,
        gradient_accumulation=1,
        learning_rate=params.learning_rate,
        warmup_share=params.warmup_share,
        weight_decay=params.weight_decay,
        seed=params.seed,
        save_every_steps=max(20, steps // 4),
        lora=params.lora if params.method == "lora" else None,
        freeze_embeddings=params.freeze_embeddings,
    )
    return train(checkpoints.load_model(raw), tokenizer, examples, recipe, work, Progress(progress, steps, "steps") if progress else None)


if __name__ == "__main__":
    run(tune_teacher)
