"""Which model responds to requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from redistill.data.types import Prompt
from redistill.evaluation.types import Confidence
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
    share: float = 1.0
    """The share of the keys whose requests the mode is for; the teacher answers the others. An operator's pin is for all of them."""
    teacher_slices: tuple[str, ...] = ()
    """Slices that the teacher always answers."""

    @property
    def answers(self) -> Mode:
        wanted = self.mode if self.pin == "none" else self.pin
        if not self.model_version or (wanted == "cascade" and self.cascade is None):
            return "teacher"
        return wanted


def route_from_json(tree: dict[str, Any]) -> Route:
    """A route from its JSON form; what an earlier version did not write has its default."""
    cascade = tree.get("cascade")
    slices = tuple(tree.get("teacher_slices", ()))
    return Route(**{**tree, "cascade": None if cascade is None else cascade_from_json(cascade), "teacher_slices": slices})


@dataclass(frozen=True, slots=True)
class KnownCompletion:
    """A prompt, and what the registered version wrote for it when it was measured."""

    prompt: Prompt
    text: str
    confidences: tuple[Confidence, ...]


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A registered version whose signature was checked: what its server must prove before it gets traffic."""

    version: str
    name: str
    """The name under which a server must list it: MODEL@VERSION."""
    known: tuple[KnownCompletion, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models' completions of one sampled request, without their text: one line of the log of comparisons.

    ``live`` is the mode that answered it, ``by_student`` whether the student's completion was the answer. ``disagreement`` is that of the two completions, in
    [0, 1], whoever answered. ``score`` is that of the student's completion by ``score_name``; ``objection`` says why it could not be used whatever its score
    (``malformed``, ``cut-off``), empty if it could. Seconds and tokens are those of each model's own request.
    """

    id: str
    at: float
    version: str
    slice: str
    live: Mode
    by_student: bool
    disagreement: float
    score_name: str
    score: float | None
    objection: str
    student_s: float
    teacher_s: float
    student_tokens: int | None
    teacher_tokens: int | None
