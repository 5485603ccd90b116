"""Stops asking a server after failures in a row, and tries it again with one request.

The state is in this process, because what another process saw may be another network path. Time is given, so that tests need no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]
_PROBE_S = 300.0
"""A probe that has not ended after so long is given up, and another request takes its place."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Permission for one attempt. ``opened`` is how often the breaker had opened by then: what began before the last time says nothing about the server now."""

    opened: int
    is_probe: bool = False


class Breaker:
    """Closed: requests pass. Open: none do, until a deadline. Half-open: one request passes, and its end decides."""

    def __init__(self, failures: int, open_s: float) -> None:
        self._most, self._open_s = failures, open_s
        self._failures = self._opened = 0
        self._until: float | None = None
        self._probe_at: float | None = None

    def state(self, now: float) -> State:
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half-open"

    def ticket(self, now: float) -> Ticket | None:
        """Permission to ask now, or None. In the state half-open the first one that asks is the probe, and the others wait for its end."""
        match self.state(now):
            case "closed":
                return Ticket(self._opened)
            case "open":
                return None
        if self._probe_at is not None and now < self._probe_at + _PROBE_S:
            return None
        self._probe_at = now
        return Ticket(self._opened, is_probe=True)

    def succeeded(self, ticket: Ticket) -> None:
        if ticket.opened == self._opened:
            self._failures, self._until, self._probe_at = 0, None, None

    def failed(self, ticket: Ticket, now: float) -> None:
        """Count a failure. A later one never shortens the wait."""
        if ticket.opened != self._opened:
            return
        self._failures += 1
        if ticket.is_probe or self._failures >= self._most:
            self._opened, self._failures, self._probe_at = self._opened + 1, 0, None
            self._until = max(self._until or 0.0, now + self._open_s)

    def released(self, ticket: Ticket) -> None:
        """An attempt ended without saying anything about the server: its request was refused, or its caller left."""
        if ticket.is_probe and ticket.opened == self._opened:
            self._probe_at = None

    def retry_after(self, now: float) -> float:
        """Seconds until a request may pass."""
        return 0.0 if self._until is None else max(0.0, self._until - now)
