"""Stage ``init_student``: the untrained student, cut from its base, copied, or configured smaller."""

from __future__ import annotations

from redistill import checkpoints, student
from redistill.artifacts import replacing_directory
from redistill.config import StudentParams, TeacherParams
from tasks.edge import ARTIFACTS, run


def init_student(student_params: StudentParams, teacher: TeacherParams) -> None:
    """Write ``artifacts/base``. ``student.model: teacher`` names the raw teacher as the base."""
    name = teacher.model if student_params.model == "teacher" else student_params.model
    base = checkpoints.resolve(name, teacher.revision if student_params.model == "teacher" else None)
    tokenizer = checkpoints.load_tokenizer(base)
    model = student.born(checkpoints.load_model(base), student_params)
    with replacing_directory(ARTIFACTS / "base") as folder:
        checkpoints.save_checkpoint(model, tokenizer, folder)


if __name__ == "__main__":
    run(init_student)
