"""What passes through the router: a request, a completion, and why an upstream gave none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from redistill.data.types import Prompt
from redistill.models.token_trace import TokenTrace

Side = Literal["student", "teacher"]
Endpoint = Literal["chat", "completions"]
PATHS: dict[Endpoint, str] = {"chat": "/chat/completions", "completions": "/completions"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A caller's request.

    ``prompt`` is the request as a prompt of the task; None where it cannot be one. ``why_not`` says why the student was not trained for it; empty where it
    was. ``key`` is what a share of the traffic is drawn by: the same key is always in the same place. ``deadline_s`` is the caller's own limit.
    """

    endpoint: Endpoint
    body: dict[str, Any]
    prompt: Prompt | None
    why_not: str = ""
    key: str = ""
    demands_teacher: bool = False
    deadline_s: float | None = None

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def counts_usage(self) -> bool:
        """Whether a stream ends with a count of tokens."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole completion. ``finish`` is the upstream's reason for its end; ``trace`` None where it listed no logprobs, which ``logprobs`` has as it listed them."""

    text: str
    finish: str
    usage: dict[str, Any] = field(default_factory=dict)
    trace: TokenTrace | None = None
    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """How long an upstream may take. ``callers``: it comes from the caller's own deadline, so missing it says nothing about the server."""

    seconds: float
    callers: bool = False


class UpstreamError(Exception):
    """An upstream gave no usable completion.

    ``kind`` is one of a few words, for counting. ``trips`` says whether it counts as a failure of the server: a refused request does not. ``status``, ``body``
    and ``retry_after`` are what the server answered, where it did.
    """

    def __init__(
        self, kind: str, detail: str, *, trips: bool = True, status: int = 0, body: bytes = b"", retry_after: str | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.trips = kind, detail, trips
        self.status, self.body, self.retry_after = status, body, retry_after


class BadRequestError(Exception):
    """The caller's request cannot be read. ``status`` is the HTTP status to answer with."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
