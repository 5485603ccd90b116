"""Stage ``tune_teacher``: the raw teacher, taught the task's form on the labelled rows (optional)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.distillation.params import TuneTeacherParams
from redistill.io.atomic import replacing_directory
from redistill.io.digests import canonical_digest, file_digest
from redistill.models import checkpoints, weights_source
from redistill.models.template_date import fix_date
from redistill.models.tokenizers import load_tokenizer
from redistill.teacher.params import TeacherParams
from tasks.locking.locked_teacher import template_date
from tasks.paths import ARTIFACTS, SOURCES
from tasks.running.work_directory import work_directory
from tasks.training.teacher import TRAIN, train_teacher


def tune_teacher(data: DataParams, teacher: TeacherParams, tune_teacher: TuneTeacherParams) -> None:
    """Write the teacher's checkpoint: tuned and merged, or as it is; an endpoint leaves an empty directory.

    A teacher is always a whole checkpoint with its own digest, so what answers is one thing that can be locked.
    """
    target = ARTIFACTS / "teacher"
    if teacher.backend == "openai":
        with replacing_directory(target) as folder:
            (folder / "ENDPOINT").write_text(teacher.model + "\n", encoding="utf-8")
        return
    raw = weights_source.resolve(teacher.model, teacher.revision)
    tokenizer, date = load_tokenizer(raw), template_date("teacher")
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
