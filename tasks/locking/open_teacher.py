"""Opens the locked teacher, so that it can complete prompts."""

from __future__ import annotations

from redistill.data.params import DataParams
from redistill.teacher.backend import Teacher
from redistill.teacher.params import TeacherParams
from tasks.locking.locked_teacher import LockedTeacher, require_locked_weights


def open_teacher(lock: LockedTeacher, params: TeacherParams, data: DataParams) -> Teacher:
    """Start the backend on exactly what was locked.

    Raises:
        TeacherError: the weights on disk are not the locked ones.
    """
    if lock.backend == "openai":
        from redistill.teacher.openai import from_environment

        return from_environment(params, chat=data.format == "chat")
    path = require_locked_weights(lock)
    if lock.backend == "vllm":
        from redistill.teacher.vllm import VllmTeacher

        return VllmTeacher(path)
    from redistill.teacher.transformers import TransformersTeacher

    return TransformersTeacher(path)
