"""Which model responds to requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from redistill.data.types import Prompt
from redistill.evaluation.types import Confidence
from redistill.promotion.cascade import Cascade, Engine, cascade_from_json

Mode = Literal["teacher", "student", "cascade"]
"""Who answers: the teacher, the student, or the student where it is sure and the teacher where it is not."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A new version that does not have all of the traffic yet. ``version`` and ``cascade`` are those of the one before it, which answers the other keys.

    ``share`` of the keys are the new version's: 0 after it was stopped. ``since`` is when the share was set.
    """

    version: str
    cascade: Cascade | None
    share: float
    since: str


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
    rollout: Rollout | None = None
    """The version before, while ``model_version`` does not have all of the traffic yet."""

    @property
    def answers(self) -> Mode:
        wanted = self.mode if self.pin == "none" else self.pin
        if not self.model_version or (wanted == "cascade" and self.cascade is None):
            return "teacher"
        return wanted

    def measured_for(self, engine: Engine | None) -> bool:
        """Whether a server computes as those for which the threshold was measured. Without a threshold, always true."""
        return self.cascade is None or engine in self.cascade.engines

    @property
    def before(self) -> Route | None:
        """The route of the version that answers the other keys during a rollout."""
        if self.rollout is None:
            return None
        mode: Mode = "student" if self.rollout.cascade is None else "cascade"
        return replace(self, mode=mode, model_version=self.rollout.version, cascade=self.rollout.cascade, rollout=None)


def rollout_from_json(tree: dict[str, Any]) -> Rollout:
    """A rollout from its JSON form.

    Raises:
        TypeError, ValueError: other keys, or values of other types.
    """
    cascade = tree["cascade"]
    rollout = Rollout(**{**tree, "cascade": None if cascade is None else cascade_from_json(cascade)})
    if not isinstance(rollout.version, str) or not rollout.version or not 0.0 <= rollout.share <= 1.0:
        raise ValueError("a rollout without a version before, or with a share outside 0 to 1")
    return rollout


def route_from_json(tree: dict[str, Any]) -> Route:
    """A route from its JSON form; what an earlier version did not write has its default."""
    cascade = tree.get("cascade")
    slices = tuple(tree.get("teacher_slices", ()))
    rollout = tree.get("rollout")
    parts = {"cascade": None if cascade is None else cascade_from_json(cascade), "teacher_slices": slices}
    return Route(**{**tree, **parts, "rollout": None if rollout is None else rollout_from_json(rollout)})


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

    ``live`` is the mode of the flag. ``by_student``: the caller got the student's completion. ``guarded``: the live system planned to ask the student; a pin, a share
    or a rule had not sent the request to the teacher. ``disagreement`` is that of the two completions, in [0, 1], also where the caller got the teacher's. It is
    None where the student failed; the other values of the student are None then too. ``score`` is that of the student's completion by ``score_name``; ``objection`` says why it could not be used whatever its score
    (``malformed``, ``cut-off``), empty if it could. Seconds and tokens are those of each model's own request.
    """

    id: str
    at: float
    version: str
    slice: str
    live: Mode
    by_student: bool
    guarded: bool
    disagreement: float | None
    score_name: str
    score: float | None
    objection: str
    student_s: float | None
    teacher_s: float
    student_tokens: int | None
    teacher_tokens: int | None
