"""The interface of every teacher backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherRequest


class Teacher(Protocol):
    """A teacher that is ready to answer. Built once a process; ``close`` releases what it holds."""

    def capabilities(self) -> TeacherCapabilities: ...

    def complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        """Yield an answer for each request as it comes, in any order, so that the caller can store it at once.

        Raises:
            TeacherError: the teacher cannot be reached, refuses, or answers nonsense; answers yielded before stand.
        """
        ...

    def close(self) -> None: ...
