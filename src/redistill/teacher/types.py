"""What a teacher is, what it is asked, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redistill.data.types import Message

ENDPOINT = "endpoint"
"""The backend of a teacher that others run; it cannot be run on ours, so it is compared as it answers."""


@dataclass(frozen=True, slots=True)
class TeacherFingerprint:
    """What makes a teacher's answers change, as a digest and the parts that it was made of."""

    name: str
    digest: str
    parts: dict[str, str]


@dataclass(frozen=True, slots=True)
class TeacherCapabilities:
    """What a teacher can tell besides text; probed when it is locked.

    ``logprobs`` is ``none``, ``at_generation`` (top-k of what it says) or ``score_given_ids`` (top-k or all of any
    given tokens). ``max_k`` is the largest k; 0 means the whole vocabulary.
    """

    logprobs: Literal["none", "at_generation", "score_given_ids"]
    max_k: int
    tokenizer_digest: str | None


@dataclass(frozen=True, slots=True)
class TeacherCompletion:
    prompt_id: str
    sample_index: int
    text: str
    reasoning: str | None
    token_ids: tuple[int, ...]
    finish_reason: str
    teacher: str
    mean_logprob: float | None = None


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
