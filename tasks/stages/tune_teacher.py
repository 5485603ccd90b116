"""Stage ``tune_teacher``: the teacher as it will be asked: with its own prompt, and taught the task's form on the labelled rows (both optional)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import TeacherPrompt, chosen_examples
from redistill.data.templates import render
from redistill.data.types import Prompt
from redistill.distillation.params import TuneTeacherParams
from redistill.errors import ConfigError
from redistill.io.atomic import replacing_directory
from redistill.io.digests import canonical_digest, file_digest
from redistill.io.parquet import read_records
from redistill.models import checkpoints, weights_source
from redistill.models.template_date import fix_date
from redistill.models.tokenizers import encode_all, load_tokenizer
from redistill.teacher.params import TeacherParams
from redistill.teacher.prompt_file import PROMPT_FILE, write_prompt
from tasks.locking.locked_teacher import template_date
from tasks.paths import ARTIFACTS, SOURCES
from tasks.running.work_directory import work_directory
from tasks.training.teacher import TRAIN, train_teacher


def tune_teacher(data: DataParams, teacher: TeacherParams, tune_teacher: TuneTeacherParams) -> None:
    """Write the teacher's checkpoint: tuned and merged, or as it is; an endpoint leaves an empty directory.

    A teacher is always a whole checkpoint with its own digest, so what answers is one thing that can be locked. What only the teacher is shown is a file in
    its directory.

    Raises:
        ConfigError: the prompt asks for more examples than there are labelled rows, or no row fits behind it into what the teacher reads.
    """
    target, shown = ARTIFACTS / "teacher", _shown(data, teacher)
    if teacher.backend == "openai":
        with replacing_directory(target) as folder:
            (folder / "ENDPOINT").write_text(teacher.model + "\n", encoding="utf-8")
            write_prompt(folder, shown)
        return
    raw = weights_source.resolve(teacher.model, teacher.revision)
    tokenizer, date = load_tokenizer(raw), template_date("teacher")
    dated = fix_date(tokenizer, date)
    if dated:
        print(f"[tune_teacher] the teacher's chat template states the date; it stays {date}, as {SOURCES} has it", flush=True)
    _check_fits(raw, tokenizer, data, shown)
    if tune_teacher.method == "off":
        with replacing_directory(target) as folder:
            # The model may be the teacher of another project.
            shutil.copytree(raw, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PROMPT_FILE))
            write_prompt(folder, shown)
            if dated:
                tokenizer.save_pretrained(folder)
        return
    _tune(raw, tokenizer, target, data, tune_teacher, shown)


def _shown(data: DataParams, teacher: TeacherParams) -> TeacherPrompt:
    """What only the teacher is shown, with the labelled rows that are its examples."""
    count = teacher.prompt.examples
    examples = chosen_examples(read_records(TRAIN, Prompt), count, data, "teacher.prompt.examples") if count else ()
    return TeacherPrompt(teacher.prompt.system or "", examples)


def _check_fits(raw: Path, tokenizer: Any, data: DataParams, shown: TeacherPrompt) -> None:
    """Say which share of the labelled rows the teacher cannot read whole behind its prompt; their beginning, or the row itself, is left out later."""
    context = checkpoints.context_tokens(raw)
    if not shown or context is None:
        return
    rows = encode_all([render(p, data, tokenizer, shown) for p in read_records(TRAIN, Prompt)], tokenizer)
    long = [len(ids) for ids in rows if len(ids) > context]
    advice = "lower teacher.prompt.examples, shorten teacher.prompt.system, or lower intake.max_chars"
    if rows and len(long) == len(rows):
        raise ConfigError(
            f"teacher.prompt: with it, the shortest row of the split train has {min(long)} tokens, and the teacher reads {context}; {advice}"
        )
    if long:
        print(
            f"[tune_teacher] with teacher.prompt, {len(long)} of {len(rows)} train rows have more than the {context} tokens that the teacher reads; {advice}",
            flush=True,
        )


def _tune(raw: Path, tokenizer: Any, target: Path, data: DataParams, params: TuneTeacherParams, shown: TeacherPrompt) -> None:
    # The template as it renders: another date is another text of every row.
    identity = canonical_digest([str(params), str(data), tokenizer.chat_template, *([shown.digest] if shown else [])])
    work = work_directory("tune_teacher", file_digest(TRAIN), identity, checkpoints.model_digest(raw))
    model = train_teacher(raw, tokenizer, data, params, work, "tune_teacher", shown)
    with replacing_directory(target) as folder:
        checkpoints.save_checkpoint(model, tokenizer, folder)
        write_prompt(folder, shown)
        shutil.copy(work / "metrics.jsonl", folder / "metrics.jsonl")
    shutil.rmtree(work, ignore_errors=True)
