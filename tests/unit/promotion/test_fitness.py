"""A teacher that cannot reach the gates is known before a cycle is paid for."""

from __future__ import annotations

import pytest
from scipy.stats import betabinom

from redistill.data.grammars.record import RecordGrammar
from redistill.evaluation.types import Outcome
from redistill.promotion.fitness import chance_to_pass, fitness
from redistill.promotion.params import PromoteParams
from redistill.statistics.shares import share_test

GRAMMAR = RecordGrammar(("fee", "fraud"), ("urgent",))
PARAMS = PromoteParams(critical_labels={"fraud": 0.6})  # type: ignore[dict-item]


def rows(*pairs: tuple[str, str, int]) -> list[Outcome]:
    """(label, response, how often)."""
    every = [(label, response) for label, response, n in pairs for _ in range(n)]
    return [
        Outcome(f"p{i}", f"d{i}", "h", "app", label, response, label == response, int(label == response), 0, 0)
        for i, (label, response) in enumerate(every)
    ]


def judged(
    teacher: list[Outcome], linear: list[Outcome] | None = None, heldout: int = 37, params: PromoteParams = PARAMS
) -> dict[str, object]:
    found = fitness(teacher, linear or [], {"fraud": heldout}, params, 0.005, GRAMMAR, 0.5)
    return {"fit": found.fit, "sentence": found.sentence, **{check.name: check for check in found.checks}}


def test_the_chance_to_pass_is_that_of_further_rows_like_these() -> None:
    needed = next(k for k in range(38) if share_test(k, 37, 0.6) <= 0.005)
    assert chance_to_pass(14, 37, 37, 0.6, 0.005) == pytest.approx(betabinom.sf(needed - 1, 37, 14.5, 23.5))
    assert chance_to_pass(14, 37, 37, 0.6, 0.005) < 0.001 < 0.9 < chance_to_pass(95, 100, 37, 0.6, 0.005)
    assert chance_to_pass(5, 5, 5, 0.6, 0.005) == 0.0, "five rows cannot show it"


def test_a_teacher_that_finds_every_second_fraud_cannot_have_a_student_that_passes() -> None:
    found = judged(rows(("fraud", "fraud", 14), ("fraud", "fee", 23), ("fee", "fee", 80)))
    assert found["fit"] is False
    assert "the teacher finds fraud in 14 of 37 rows; a recall of 60 % must be shown on 37 held-out rows" in str(found["sentence"])
    assert "label more training rows with fraud" in str(found["sentence"])


def test_a_good_teacher_is_fit_and_few_rows_do_not_condemn_it() -> None:
    assert judged(rows(("fraud", "fraud", 28), ("fraud", "fee", 2), ("fee", "fee", 80)))["fit"] is True
    assert judged(rows(("fraud", "fraud", 4), ("fraud", "fee", 1), ("fee", "fee", 20)))["fit"] is True, "4 of 5 may well be 9 of 10"


def test_too_few_heldout_rows_are_the_reason_where_no_teacher_could_pass() -> None:
    found = judged(rows(("fraud", "fraud", 30), ("fee", "fee", 80)), heldout=5)
    assert found["fit"] is False and "label more held-out rows with fraud: 5 are too few" in str(found["sentence"])
    assert "which is not possible" in str(found["sentence"])
    unknown = judged(rows(("fee", "fee", 80)), heldout=104)
    assert unknown["fit"] is True and unknown["recall_fraud"].reachable is None, "no row here says nothing about the teacher"  # type: ignore[attr-defined]


def test_a_useless_teacher_and_a_malformed_one_are_unfit() -> None:
    useless = judged(rows(("fee", "fraud", 99), ("fraud", "fraud", 1)), params=PromoteParams())
    assert useless["fit"] is False and "promote.min_teacher is 10 %" in str(useless["sentence"])
    broken = judged(rows(("fee", "fee", 30), ("fee", "well, a fee", 70)), params=PromoteParams())
    assert broken["fit"] is False and "30 of 100 completions of the teacher are well formed" in str(broken["sentence"])


def test_a_linear_model_that_does_as_well_is_told_and_stops_nothing() -> None:
    teacher = rows(("fee", "fee", 60), ("fraud", "fraud", 40))
    found = fitness(teacher, teacher, {}, PromoteParams(), 0.005, GRAMMAR, 0.5)
    assert found.fit and found.checks[-1].reachable is None and "a linear model does as well" in found.checks[-1].sentence
