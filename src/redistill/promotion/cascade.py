"""The cascade: a student that answers where it is sure, and gives the request to the teacher where it is not.

The same object decides in the gate and in the router. It defers whenever it cannot be certain that the calibration holds: a score that is missing or not a
number, a score at the threshold, a completion that is cut off or breaks the grammar, and an engine, a number format or weights other than those that were calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redistill.evaluation.types import Confidence, Objection


@dataclass(frozen=True, slots=True)
class Engine:
    """What computes a student's completions and scores. Scores of two engines differ, so a threshold belongs to one."""

    name: str
    version: str
    dtype: str
    quantisation: str = "none"

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.dtype}{'' if self.quantisation == 'none' else f', {self.quantisation}'})"


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers a request, and why."""

    answers: Literal["student", "teacher"]
    reason: str


@dataclass(frozen=True, slots=True)
class Cascade:
    """A score, its threshold, and what they were calibrated for.

    ``band`` is by how much a score may differ between engines and batches, in nats. The student answers only above ``threshold + band``, so that a request
    that was deferred at calibration is not answered because of such a difference. ``engines`` are those for which the band was measured. ``model`` is the
    digest of the student's weights.
    """

    score: str
    threshold: float
    band: float
    model: str
    engines: tuple[Engine, ...]

    @property
    def limit(self) -> float:
        """The student answers above this value."""
        return self.threshold + self.band

    @property
    def rule(self) -> str:
        """When the student answers, in words."""
        return f"the student answers where {self.score} is above {self.limit:.4g}, the teacher elsewhere"

    def choose(
        self, confidences: Sequence[Confidence], objection: Objection = "", *, model: str | None = None, engine: Engine | None = None
    ) -> Choice:
        """Student or teacher for one completion.

        Args:
            confidences: the scores of the completion (``redistill.evaluation.confidence``).
            objection: why it cannot be used however sure the student is (``redistill.evaluation.outcomes.objection``).
            model: digest of the weights that wrote the completion; None if the caller has checked it.
            engine: what wrote it; None if the caller has checked that too.
        """
        if model is not None and model != self.model:
            return Choice("teacher", f"the threshold belongs to weights {self.model[:12]}, not to {model[:12]}")
        if engine is not None and engine not in self.engines:
            return Choice("teacher", f"the threshold was not measured for {engine}")
        if objection:
            return Choice("teacher", f"the completion is {objection}")
        value = next((c.value for c in confidences if c.score == self.score), None)
        # An infinite margin is no certainty: the server listed no second token.
        if value is None or math.isnan(value) or value == math.inf:
            return Choice("teacher", f"the completion has no {self.score}")
        if value > self.limit:
            return Choice("student", f"{self.score} {value:.3f} is above {self.limit:.3f}")
        inside = ", within the band of the threshold" if value > self.threshold else ""
        return Choice("teacher", f"{self.score} {value:.3f} is not above {self.limit:.3f}{inside}")


def cascade_from_json(tree: dict[str, Any]) -> Cascade:
    """A cascade from its JSON form.

    Raises:
        TypeError, ValueError: other keys, or values of other types.
    """
    cascade = Cascade(**{**tree, "engines": tuple(Engine(**engine) for engine in tree["engines"])})
    if not isinstance(cascade.score, str) or not isinstance(cascade.model, str) or not math.isfinite(cascade.threshold + cascade.band):
        raise ValueError(f"{tree} is not a cascade")
    return cascade
