"""Teachers, their requests, and what they return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from redistill.data.grammars.types import Form
from redistill.data.types import Message

ENDPOINT = "endpoint"
"""The backend of a teacher that others run. It cannot run on our backend, so its responses are compared as they are."""


@dataclass(frozen=True, slots=True)
class TeacherFingerprint:
    """Everything that changes a teacher's completions, as a digest and its parts."""

    name: str
    digest: str
    parts: dict[str, str]


@dataclass(frozen=True, slots=True)
class TeacherCapabilities:
    """What a teacher can return besides text; tested when it is locked.

    ``logprobs`` is ``none``, ``at_generation`` (top-k of its own completions) or ``score_given_ids`` (top-k or all, for any given
    tokens). ``max_k`` is the largest k; 0 means the whole vocabulary.
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
    """One request: the rendered prompt (for local engines), the messages (for chat endpoints), and the sample's index.

    ``stop`` are the task's stop sequences: the completion is the text before the first of them. ``form`` is what the completion is held to; None for nothing. ``teacher`` is the digest of the teacher that
    answers; it is no part of what is asked.
    """

    prompt_id: str
    sample_index: int
    messages: tuple[Message, ...]
    prompt: str
    slice: str
    stop: tuple[str, ...] = ()
    form: Form | None = None
    teacher: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """What a teacher returned for one request. ``token_ids`` is empty if the backend does not return them.

    ``top_ids`` and ``top_logprobs`` hold, for each completion token, what the teacher listed (nats, T = 1, as listed:
    unsorted, perhaps with duplicates); both are empty when none were asked for or given. ``mean_logprob`` is the mean
    log-probability of the completion's own tokens, None when unknown. ``finish_reason`` is one of ``redistill.teacher.endings``, or a server's own word
    for another end; ``detail`` says more where there is no completion.
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
    detail: str = ""
