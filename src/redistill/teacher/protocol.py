"""What every teacher backend offers, and what one answer looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from redistill.config import GenerateParams
from redistill.records import Message, TeacherCapabilities


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One thing to ask: the rendered prompt (local engines) and the messages (chat endpoints), and which sample.

    ``stop`` are the task's stop sequences: the answer is the text before the first of them.
    """

    prompt_id: str
    sample_index: int
    messages: tuple[Message, ...]
    prompt: str
    slice: str
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """One answer. ``token_ids`` is empty when the backend does not tell them.

    ``top_ids`` and ``top_logprobs`` hold, for each completion token, what the teacher listed (nats, T = 1, as listed:
    unsorted, perhaps with duplicates); both are empty when none were asked for or given. ``mean_logprob`` is the mean
    log-probability of the completion's own tokens, None when unknown.
    """

    request: TeacherRequest
    text: str
    reasoning: str | None
    token_ids: tuple[int, ...]
    finish_reason: str
    mean_logprob: float | None
    top_ids: tuple[tuple[int, ...], ...] = ()
    top_logprobs: tuple[tuple[float, ...], ...] = ()
    top_tokens: tuple[tuple[str, ...], ...] = ()


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
