"""Which model responds to requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers: the operator's pin over the system's mode, and the version that the flag trusts."""

    pin: Literal["none", "teacher", "student"]
    mode: Literal["teacher", "student"]
    model_version: str | None
    reason: str
    changed_at: str

    @property
    def answers(self) -> Literal["teacher", "student"]:
        wanted = self.mode if self.pin == "none" else self.pin
        return "student" if wanted == "student" and self.model_version else "teacher"
