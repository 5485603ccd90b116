"""Leaves a server alone after failures in a row, and tries it again with one request.

The state is in this process, because what another process saw may be another network path. Time is given, so that tests need no clock.
"""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Closed: requests pass. Open: none do, until a deadline. Half-open: one request passes, and its end decides."""

    def __init__(self, failures: int, open_s: float) -> None:
        self._most, self._open_s = failures, open_s
        self._failures = 0
        self._until: float | None = None
        self._probing = False

    def state(self, now: float) -> State:
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half-open"

    def allows(self, now: float) -> bool:
        """Whether a request may pass now. In the state half-open the first one that asks is the probe, and the others wait for its end."""
        match self.state(now):
            case "closed":
                return True
            case "open":
                return False
        if self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        self._failures, self._until, self._probing = 0, None, False

    def failed(self, now: float) -> None:
        """Count a failure. A later one never shortens the wait."""
        self._failures, self._probing = self._failures + 1, False
        if self._failures >= self._most or self._until is not None:
            self._until = max(self._until or 0.0, now + self._open_s)

    def released(self) -> None:
        """A request ended without saying anything about the server: refused, or given up by its caller."""
        self._probing = False

    def retry_after(self, now: float) -> float:
        """Seconds until a request may pass."""
        return 0.0 if self._until is None else max(0.0, self._until - now)
