"""Which model a student is made from."""

from __future__ import annotations

from redistill.models.params import StudentParams
from redistill.teacher.params import TeacherParams


def base_of(params: StudentParams, teacher: TeacherParams) -> tuple[str, str | None]:
    """Model and revision that the student is made from. A base that is the teacher's model, by name or as ``teacher``, has the teacher's revision."""
    same = params.model == "teacher" or (params.model == teacher.model and teacher.backend != "openai")
    return (teacher.model, teacher.revision) if same else (params.model, None)
