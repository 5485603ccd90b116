"""Opens the locked teacher, so that it can complete prompts: in this process, or on the replicas of a cluster."""

from __future__ import annotations

import functools

from redistill.cluster.installed_code import installed_code
from redistill.cluster.settings import cluster_settings
from redistill.data.params import DataParams
from redistill.errors import TeacherError
from redistill.teacher.backend import Teacher
from redistill.teacher.params import TeacherParams
from tasks.locking.locked_teacher import LockedTeacher, read_lock, require_locked_weights
from tasks.paths import LOCK


def open_teacher(lock: LockedTeacher, params: TeacherParams, data: DataParams) -> Teacher:
    """Start the backend on exactly what was locked.

    Raises:
        TeacherError: the weights on disk are not the locked ones.
    """
    if lock.backend == "openai":
        from redistill.teacher.openai import from_environment

        return from_environment(params, chat=data.format == "chat")
    if (settings := cluster_settings()) is not None:
        from redistill.teacher.pool import TeacherPool

        # Before replicas on other machines load theirs.
        require_locked_weights(lock)
        return TeacherPool(settings, functools.partial(open_replica, lock.fingerprint.digest), code_of_this_node, lock.capabilities)
    return _open_local(lock)


def open_replica(digest: str) -> Teacher:
    """The teacher with this digest, opened by a replica in its node's copy of the project."""
    return _open_local(same_teacher(digest))


def same_teacher(digest: str) -> LockedTeacher:
    """The lock of this node's copy of the project.

    Raises:
        TeacherError: it names another teacher than the digest.
    """
    lock = read_lock()
    if lock.fingerprint.digest != digest:
        raise TeacherError(
            f"{LOCK.absolute()} on this node names teacher {lock.fingerprint.digest[:12]}, but the cycle's is {digest[:12]}; "
            "give every node the same copy of the project"
        )
    return lock


def code_of_this_node() -> str:
    """What a replica's node must have too."""
    return installed_code(("redistill", "tasks"))


def _open_local(lock: LockedTeacher) -> Teacher:
    path = require_locked_weights(lock)
    if lock.backend == "vllm":
        from redistill.teacher.vllm import VllmTeacher

        return VllmTeacher(path)
    from redistill.teacher.transformers import TransformersTeacher

    return TransformersTeacher(path)
