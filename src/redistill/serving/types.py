"""Which model responds to requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from redistill.promotion.cascade import Cascade, cascade_from_json

Mode = Literal["teacher", "student", "cascade"]
"""Who answers: the teacher, the student, or the student where it is sure and the teacher where it is not."""


@dataclass(frozen=True, slots=True)
class Route:
    """The route: the operator's pin, which overrides the system's mode, and the student's version."""

    pin: Literal["none", "teacher", "student"]
    mode: Mode
    model_version: str | None
    reason: str
    changed_at: str
    teacher: str = ""
    """Digest of the teacher against which this was decided; empty if it is not known."""
    cascade: Cascade | None = None
    """Score and threshold in mode ``cascade``; None in the others."""

    @property
    def answers(self) -> Mode:
        wanted = self.mode if self.pin == "none" else self.pin
        if not self.model_version or (wanted == "cascade" and self.cascade is None):
            return "teacher"
        return wanted


def route_from_json(tree: dict[str, Any]) -> Route:
    """A route from its JSON form; one that was written before there were cascades has none."""
    cascade = tree.get("cascade")
    return Route(**{**tree, "cascade": None if cascade is None else cascade_from_json(cascade)})
