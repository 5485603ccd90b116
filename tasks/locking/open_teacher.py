"""The locked teacher, opened to be asked."""

from __future__ import annotations

from redistill.data.params import DataParams
from redistill.errors import TeacherError
from redistill.teacher import fingerprint
from redistill.teacher.backend import Teacher
from redistill.teacher.params import TeacherParams
from tasks.locking.locked_teacher import LockedTeacher


def open_teacher(lock: LockedTeacher, params: TeacherParams, data: DataParams) -> Teacher:
    """Start the backend on exactly what was locked.

    Raises:
        TeacherError: the weights on disk are not the locked ones; asking them would label rows with another teacher's name.
    """
    if lock.backend == "openai":
        from redistill.teacher.openai import from_environment

        return from_environment(params, chat=data.format == "chat")
    assert lock.path is not None
    found = fingerprint.fingerprint(lock.path, lock.fingerprint.name).digest
    if found not in lock.answers.values():
        raise TeacherError(
            f"{lock.path} has fingerprint {found[:12]}, but teacher.lock.json lets {lock.answers['default'][:12]} answer; "
            "lock again with `redistill lock`, or restore the locked checkpoint with `dvc checkout`"
        )
    if lock.backend == "vllm":
        from redistill.teacher.vllm import VllmTeacher

        return VllmTeacher(lock.path)
    from redistill.teacher.transformers import TransformersTeacher

    return TransformersTeacher(lock.path)
