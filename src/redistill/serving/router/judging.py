"""What can be seen of a completion: whether its form is wrong, how sure the student is, and how far it is from the other model's."""

from __future__ import annotations

import math

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.evaluation.confidence.all_scores import confidence_of
from redistill.evaluation.outcomes import objection
from redistill.evaluation.row_scores import chrf_scores
from redistill.evaluation.types import Confidence
from redistill.serving.router.types import Completion
from redistill.teacher.endings import LENGTH, ending


def objection_to(completion: Completion, prompt: Prompt, data: DataParams) -> tuple[str, str] | None:
    """Why a completion cannot be used whatever its score, as reason and detail; None if it can."""
    kind, why = objection(data.grammar, completion.text, prompt.text, cut_off=ending(completion.finish) == LENGTH)
    return (kind, why) if kind else None


def scored(completion: Completion, score: str, data: DataParams) -> Confidence | None:
    """One score of a completion; None where it has none. Computing all five takes five times as long."""
    return confidence_of(score, completion.trace, data.grammar)


def finite(confidence: Confidence | None) -> float | None:
    return confidence.value if confidence is not None and math.isfinite(confidence.value) else None


def differ(student: str, teacher: str, data: DataParams) -> float:
    """The disagreement of two completions, as the calibration counts it: 0 or 1, and of free text 1 - chrF."""
    if data.grammar is None:
        value = 1.0 - chrf_scores([(teacher, student)])[0]
        return min(1.0, max(0.0, value)) if math.isfinite(value) else 1.0
    return float(data.grammar.spelled(teacher) != data.grammar.spelled(student))
