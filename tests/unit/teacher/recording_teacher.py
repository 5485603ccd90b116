"""A teacher that remembers what it was asked: what our code sends out of the house, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherRequest


@dataclass
class RecordingTeacher:
    """Answers the last request of a batch first; ``fails_after`` answers it raises ``error``; ``mute`` prompts get nothing.

    ``fails_on`` maps prompt ids to the (finish reason, detail) of an answer without a completion.
    """

    says: Callable[[TeacherRequest], str] = lambda request: f"said of {request.prompt}"
    fails_after: int | None = None
    error: BaseException = field(default_factory=lambda: RuntimeError("the line is dead"))
    mute: frozenset[str] = frozenset()
    fails_on: dict[str, tuple[str, str]] = field(default_factory=dict)
    batches: list[list[TeacherRequest]] = field(default_factory=list)
    answered: int = 0
    closed: int = 0

    @property
    def asked(self) -> list[TeacherRequest]:
        return [request for batch in self.batches for request in batch]

    def capabilities(self) -> TeacherCapabilities:
        return TeacherCapabilities("none", 0, None)

    def complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        self.batches.append(list(requests))
        for request in reversed(requests):
            if self.answered == self.fails_after:
                raise self.error
            if request.prompt_id in self.mute:
                continue
            self.answered += 1
            if request.prompt_id in self.fails_on:
                reason, detail = self.fails_on[request.prompt_id]
                yield TeacherAnswer(request, "", None, (), reason, None, detail=detail)
                continue
            yield TeacherAnswer(request, self.says(request), None, (), "stop", None)

    def close(self) -> None:
        self.closed += 1
