"""The untrained student, written as a checkpoint: what the stage ``init_student``, trials and the sweep start from."""

from __future__ import annotations

from pathlib import Path

from redistill import checkpoints, student
from redistill.config import StudentParams, TeacherParams
from redistill.template_date import fix_date
from tasks.locked import template_date


def write_base(params: StudentParams, teacher: TeacherParams, folder: Path) -> int:
    """Cut, copy or configure the student from its base, write it to ``folder``, and return its number of parameters."""
    base = checkpoints.resolve(*student.base_of(params, teacher))
    tokenizer = checkpoints.load_tokenizer(base)
    fix_date(tokenizer, template_date("student"))
    model = student.born(checkpoints.load_model(base), params)
    checkpoints.save_checkpoint(model, tokenizer, folder)
    return sum(p.numel() for p in model.parameters())
