"""Stage ``init_student``: the untrained student, cut from its base, copied, or configured smaller."""

from __future__ import annotations

from redistill.io.atomic import replacing_directory
from redistill.models.params import StudentParams
from redistill.teacher.params import TeacherParams
from tasks.paths import ARTIFACTS
from tasks.training.student_base import write_base


def init_student(student_params: StudentParams, teacher: TeacherParams) -> None:
    """Write ``artifacts/base``. ``student.model: teacher`` names the raw teacher as the base."""
    with replacing_directory(ARTIFACTS / "base") as folder:
        write_base(student_params, teacher, folder)
