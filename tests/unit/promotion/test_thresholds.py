"""Curves, rules for the threshold, and what is chosen from calibration rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from redistill.errors import DataError
from redistill.evaluation.types import Confidence
from redistill.promotion.cascade import Engine
from redistill.promotion.thresholds import learn_then_test
from redistill.promotion.thresholds.choose import calibrated
from redistill.promotion.thresholds.choose_arm import answered, best_arm
from redistill.promotion.thresholds.curve import auroc, curve
from redistill.promotion.thresholds.saved import calibration_from_json, calibration_to_json
from redistill.promotion.thresholds.types import CalibrationRow, CascadeCalibration, Limits
from tests.bench.threshold_baselines import conformal, isotonic

ENGINES = (Engine("transformers", "1", "float32"),)


def row(number: int, agrees: bool, *, label: bool | None = None, **scores: float) -> CalibrationRow:
    """``label``: whether the student is right; None for a row without a label."""
    target = None if label is None else "a" if label else "c"
    confidences = tuple(Confidence(name, value) for name, value in scores.items())
    return CalibrationRow(f"p{number}", "app", target, "a", "a" if agrees else "b", float(not agrees), confidences)


def calibrate(rows: list[CalibrationRow], **params: Any) -> CascadeCalibration:
    return calibrated(
        "kd",
        rows,
        Limits(**{"max_disagreement": 0.05, "doubt": 0.1, "bands": dict.fromkeys(("s", "informative", "noise"), 0.0), **params}),
        model_digest="m",
        template_digest="t",
        engines=ENGINES,
    )


def drawn(n: int, seed: int = 3) -> list[CalibrationRow]:
    """Rows with one score that is informative and one that is not; the student disagrees where the first one is low."""
    rng = np.random.default_rng(seed)
    sure = rng.random(n)
    agrees = rng.random(n) < 1 / (1 + np.exp(-10 * (sure - 0.4)))
    return [
        row(i, bool(a), label=bool(a) if i % 2 else None, informative=float(s), noise=float(rng.random()))
        for i, (s, a) in enumerate(zip(sure, agrees, strict=True))
    ]


def test_a_curve_keeps_equal_scores_together_and_never_answers_a_score_that_is_not_a_number() -> None:
    found = curve([0.9, 0.5, 0.5, math.nan, 0.1], [0, 1, 0, 0, 1])
    assert found.cuts == (1, 3, 4)
    assert found.thresholds == (0.5, 0.1, -math.inf)
    assert found.risks() == [0.0, 0.2, 0.4]


@pytest.mark.parametrize(("scores", "losses"), [([], []), ([0.1], []), ([0.1], [2.0]), ([0.1], [math.nan])])
def test_a_curve_needs_rows_and_losses_between_0_and_1(scores: list[float], losses: list[float]) -> None:
    with pytest.raises(DataError):
        curve(scores, losses)


def test_rows_with_an_objection_are_never_answered_and_cost_nothing() -> None:
    good = [row(i, agrees=True, s=1.0 + i / 1000) for i in range(200)]
    bad = [replace(row(200 + i, agrees=False, s=5.0), objection="malformed") for i in range(60)]
    result = calibrate([*good, *bad, row(999, agrees=True, s=0.5)])
    assert result.cascade is not None and result.cascade.threshold < 1.0 and answered(result) == pytest.approx(200 / 261)
    without = calibrate([*good, *(replace(r, objection="") for r in bad), row(999, agrees=True, s=0.5)])
    assert without.cascade is None, "sixty sure disagreements keep no limit of 5 %"


def test_a_student_whose_completions_can_never_be_used_has_no_cascade() -> None:
    result = calibrate([replace(row(i, agrees=False, s=float(i)), objection="cut-off") for i in range(100)])
    assert result.cascade is None and result.reason.startswith("no cascade: all 100 completions of the student are malformed or cut off")


def test_auroc_agrees_with_sklearn_and_is_none_where_nothing_can_be_separated() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores, right = np.round(rng.random(200), 1), rng.random(200) < 0.4
    assert auroc(scores.tolist(), right.tolist()) == pytest.approx(roc_auc_score(right, scores))
    assert auroc([0.1, 0.2], [True, True]) is None


def test_learn_then_test_is_the_exact_binomial_test_for_losses_of_0_and_1() -> None:
    losses = [0.0] * 180 + [1.0] * 20
    answered = learn_then_test.rows_to_answer(losses, range(1, 200), 0.05, 0.1)
    lost = sum(losses[:answered])
    assert binom.cdf(lost, 200, 0.05) <= 0.1 < binom.cdf(lost + 1, 200, 0.05)


def test_graded_losses_have_a_bound_that_is_never_below_the_exact_one() -> None:
    lost = np.linspace(0.0, 12.0, 25)
    graded = learn_then_test.p_values(lost, 200, 0.05, whole=False)
    exact = learn_then_test.p_values(np.ceil(lost), 200, 0.05)
    assert (graded >= exact - 1e-12)[np.isclose(lost, np.ceil(lost))].all()
    assert (np.diff(graded) >= 0).all() and graded[0] == pytest.approx(0.95**200)


def test_the_first_failed_test_ends_the_sequence() -> None:
    assert learn_then_test.rows_to_answer([0.0] * 10, range(1, 10), 0.05, 0.1) == 0, "ten rows show nothing about 5 %"
    assert learn_then_test.rows_to_answer([0.0] * 45, range(1, 45), 0.05, 0.1) == 44
    assert learn_then_test.rows_needed(0.05, 0.1) == 45
    assert learn_then_test.rows_to_answer([], [], 0.05, 0.1) == 0


def test_conformal_and_isotonic_answer_more_because_they_promise_less() -> None:
    losses = [0.0] * 100 + [float(i % 4 == 0) for i in range(100)]
    answered = [
        rule(losses, range(1, 200))
        for rule in (
            lambda x, c: learn_then_test.rows_to_answer(x, c, 0.05, 0.1),
            lambda x, c: conformal(x, c, 0.05),
            lambda x, c: isotonic(x, c, 0.05),
        )
    ]
    assert answered == sorted(answered) and answered[0] < answered[-1]


def test_the_best_score_is_chosen_and_its_threshold_keeps_the_limit_on_the_rows() -> None:
    rows = drawn(400)
    found = calibrate(rows)
    assert found.cascade is not None and found.cascade.score == "informative"
    answered = [r for r in rows if r.confidence("informative") > found.cascade.threshold]
    chosen = next(c for c in found.curves if c.score == "informative")
    assert len(answered) / 400 == chosen.answered > 0.4
    assert sum(r.disagreement for r in answered) / 400 < 0.05
    assert chosen.auroc_agrees is not None and chosen.auroc_agrees > 0.8
    assert found.labelled == 200 and chosen.points[-1].system is not None
    assert "the best of 2 scores" in found.reason
    assert calibration_from_json(json.loads(json.dumps(calibration_to_json(found), allow_nan=False))) == found


def test_each_score_of_several_is_tested_at_a_smaller_level() -> None:
    rows = drawn(400)
    alone = [CalibrationRow(r.prompt_id, r.slice, r.label, r.student, r.teacher, r.disagreement, r.confidences[:1]) for r in rows]
    shares = [max(c.answered for c in calibrate(which).curves) for which in (alone, rows)]
    assert shares[0] > shares[1]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(i, True, s=float(i)) for i in range(44)], "44 calibration rows, but at least 45 are needed"),
        ([row(i, True, s=0.5) for i in range(300)], "equally sure of every completion"),
        ([row(i, False, s=float(i // 10)) for i in range(300)], "student and teacher agree on 0.0 % of 300 calibration rows"),
        ([row(i, True, s=math.nan) for i in range(300)], "scores are not numbers"),
        ([row(i, True) for i in range(300)], "reports no logprobs"),
    ],
)
def test_without_evidence_there_is_no_cascade_and_the_reason_is_said(rows: list[CalibrationRow], reason: str) -> None:
    found = calibrate(rows)
    assert found.cascade is None and found.reason.startswith("no cascade: ") and reason in found.reason, found.reason


def test_a_student_that_is_always_wrong_may_answer_no_more_than_the_limit() -> None:
    found = calibrate([row(i, False, s=float(i)) for i in range(300)])
    assert max(c.answered for c in found.curves) < 0.05, "the gate `share` refuses so little"


def test_if_all_agree_the_least_sure_row_is_still_deferred() -> None:
    found = calibrate([row(i, True, s=float(i)) for i in range(300)])
    assert found.cascade is not None and found.cascade.threshold == 0.0, "nothing below the least sure row was ever seen"
    assert found.curves[0].auroc_agrees is None


def test_what_lies_within_the_band_is_not_answered_and_not_counted() -> None:
    """Scores of at most 0 with a wide band leave nothing: then another score is chosen, or there is no cascade and the reason says so."""
    rows = [row(i, i < 290, s=-i / 3000, other=float(300 - i)) for i in range(300)]
    assert calibrate(rows, bands={"s": 0.2, "other": 10.0}).cascade.score == "other"  # type: ignore[union-attr]
    narrow = calibrate(rows, bands={"s": 0.03, "other": 1e9})
    assert narrow.cascade is not None and narrow.cascade.score == "s"
    answers = [narrow.cascade.choose(r.confidences).answers for r in rows]
    assert answers.count("student") / 300 == pytest.approx(next(c.answered for c in narrow.curves if c.score == "s"))
    none = calibrate(rows, bands={"s": 0.2})
    assert none.cascade is None and "lie within the band" in none.reason


def test_a_score_whose_band_was_never_measured_is_not_used() -> None:
    assert calibrate([row(i, True, new=float(i)) for i in range(300)]).cascade is None


def test_without_rows_there_is_no_cascade() -> None:
    assert "there are no calibration rows" in calibrate([]).reason


def test_ties_are_answered_or_deferred_together() -> None:
    rows = [row(i, i < 290, s=float(i < 150)) for i in range(300)]
    found = calibrate(rows)
    assert found.cascade is not None and found.cascade.threshold == 0.0 and found.curves[0].answered == 0.5


def test_the_arm_is_the_one_whose_cascade_answers_most() -> None:
    many, few = calibrate(drawn(400)), calibrate([row(i, i % 4 > 0, s=float(i % 7)) for i in range(400)])
    assert few.cascade is None or answered(few) < answered(many)
    assert best_arm({"sft": few, "kd": many}) == "kd" == best_arm({"kd": many, "sft": few})
    none = [row(i, i % 2 > 0, s=0.5) for i in range(300)]
    agreeing = [row(i, i % 3 > 0, s=0.5) for i in range(300)]
    assert best_arm({"sft": calibrate(none), "kd": calibrate(agreeing)}) == "kd", "without a cascade, agreement decides"
