"""The trace of the request that is being answered, where traces are on. What asks a model's server finds it here, and nothing imports OpenTelemetry for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from redistill.serving.router.decision import Decision
from redistill.serving.router.types import Asked, Endpoint


class AttemptTrace(Protocol):
    """One attempt at a model's server. ``headers`` let that server continue the trace."""

    headers: dict[str, str]

    def replied(self, reply: object) -> None:
        """Note what a whole reply was."""

    def event(self, data: Mapping[str, Any]) -> None:
        """Note what an event of a stream counts."""

    def end(self, error: BaseException | None) -> None:
        """The attempt has ended."""


class RequestTrace(Protocol):
    def attempt(self, side: str, url: str, path: str, body: Mapping[str, Any]) -> AttemptTrace:
        """Begin an attempt at the server at ``url``."""

    def end(self, decision: Decision, asked: Asked | None) -> None:
        """The request has ended; ``asked`` is None where it could not be read."""


class Tracer(Protocol):
    """What makes and exports traces."""

    def request(self, endpoint: Endpoint, headers: Mapping[str, str]) -> RequestTrace:
        """Begin the trace of a request, which is the current one of this task from now on."""

    def close(self) -> None:
        """Export what waits, within a few seconds."""


CURRENT: ContextVar[RequestTrace | None] = ContextVar("redistill_trace", default=None)
"""The server runs each request in a task of its own, so nothing has to be set back. A comparison beside the traffic belongs to its request."""
