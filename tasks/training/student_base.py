"""The untrained student, written as a checkpoint: what the stage ``init_student``, trials and the sweep start from."""

from __future__ import annotations

from pathlib import Path

from redistill.distillation.student_base import base_of
from redistill.models import checkpoints, pruning, weights_source
from redistill.models.params import StudentParams
from redistill.models.template_date import fix_date
from redistill.models.tokenizers import load_tokenizer
from redistill.teacher.params import TeacherParams
from tasks.locking.locked_teacher import template_date


def write_base(params: StudentParams, teacher: TeacherParams, folder: Path) -> int:
    """Cut, copy or configure the student from its base, write it to ``folder``, and return its number of parameters."""
    base = weights_source.resolve(*base_of(params, teacher))
    tokenizer = load_tokenizer(base)
    fix_date(tokenizer, template_date("student"))
    model = pruning.build_student(checkpoints.load_model(base), params)
    checkpoints.save_checkpoint(model, tokenizer, folder)
    return sum(p.numel() for p in model.parameters())
