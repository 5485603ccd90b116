"""Who answers a request: the student only where everything that was calibrated still holds."""

from __future__ import annotations

import math

import pytest

from redistill.evaluation.types import Confidence, Objection
from redistill.promotion.cascade import Cascade, Engine

HERE, OTHER = Engine("transformers", "5.19.0", "bfloat16"), Engine("transformers", "5.19.0", "bfloat16", "int8")
CASCADE = Cascade("min_logprob", -0.5, 0.1, "a" * 64, (HERE,))


def sure(value: float, score: str = "min_logprob") -> tuple[Confidence, ...]:
    return (Confidence("mean_logprob", 0.0), Confidence(score, value))


@pytest.mark.parametrize(
    ("confidences", "answers", "reason"),
    [
        (sure(-0.1), "student", "min_logprob -0.100 is above -0.400"),
        (sure(-0.4), "teacher", "within the band"),
        (sure(-0.45), "teacher", "within the band"),
        (sure(-0.5), "teacher", "is not above"),
        (sure(math.nan), "teacher", "has no min_logprob"),
        (sure(-math.inf), "teacher", "is not above"),
        (sure(-0.1, "label_entropy"), "teacher", "has no min_logprob"),
        ((), "teacher", "has no min_logprob"),
    ],
)
def test_the_student_answers_above_the_threshold_and_its_band(confidences: tuple[Confidence, ...], answers: str, reason: str) -> None:
    choice = CASCADE.choose(confidences)
    assert (choice.answers, reason in choice.reason) == (answers, True), choice


@pytest.mark.parametrize("objection", ["malformed", "cut-off"])
def test_a_completion_that_cannot_be_used_is_deferred_however_sure_the_student_is(objection: Objection) -> None:
    choice = CASCADE.choose(sure(-0.1), objection)
    assert (choice.answers, choice.reason) == ("teacher", f"the completion is {objection}")


def test_ties_at_the_threshold_defer() -> None:
    assert Cascade("s", 0.25, 0.0, "", ()).choose(sure(0.25, "s")).answers == "teacher"


def test_other_weights_and_other_engines_than_the_calibrated_ones_mean_the_teacher() -> None:
    assert CASCADE.choose(sure(0.0), model="a" * 64, engine=HERE).answers == "student"
    assert "not to bbbbbbbbbbbb" in CASCADE.choose(sure(0.0), model="b" * 64).reason
    assert CASCADE.choose(sure(0.0), engine=OTHER).reason == "the threshold was not measured for transformers 5.19.0 (bfloat16, int8)"
