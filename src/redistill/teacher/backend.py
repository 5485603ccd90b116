"""The interface of every teacher backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherRequest


class Teacher(Protocol):
    """A teacher that is ready to complete prompts. One per process; ``close`` releases its resources."""

    def capabilities(self) -> TeacherCapabilities: ...

    def complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        """Yield the completion of each request when it arrives, in any order, so that the caller can store it at once.

        Raises:
            TeacherError: the teacher cannot be reached, refuses a request, or returns invalid data. Completions that were yielded before stay valid.
        """
        ...

    def close(self) -> None: ...
