"""Which model responds to requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Route:
    """The route: the operator's pin, which overrides the system's mode, and the student's version."""

    pin: Literal["none", "teacher", "student"]
    mode: Literal["teacher", "student"]
    model_version: str | None
    reason: str
    changed_at: str
    teacher: str = ""
    """Digest of the teacher against which this was decided; empty if it is not known."""

    @property
    def answers(self) -> Literal["teacher", "student"]:
        wanted = self.mode if self.pin == "none" else self.pin
        return "student" if wanted == "student" and self.model_version else "teacher"
