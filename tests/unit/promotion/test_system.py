"""A cascade is judged by what it would have answered: the student's outcome where its score passes, else the teacher's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redistill.errors import DataError
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.types import Confidence, PairOutcome
from redistill.promotion.cascade import Cascade
from redistill.promotion.decide import decide
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.params import NonInferiorGate, PromoteParams, RatioGate
from redistill.promotion.system import System, system_digest, system_of
from redistill.promotion.types import PromotionDecision
from tests.unit.promotion.test_decide import N, evidence, rows, teacher

GATES = PromoteParams(gates=("teacher", "smaller"))  # type: ignore[arg-type]
CASCADE = Cascade("s", 0.5, 0.0, "digest-kd", ())


def student(right: list[bool], sure: list[float]) -> BenchmarkResult:
    report, outcomes = evidence(right)
    return report, [replace(o, confidences=(Confidence("s", value),)) for o, value in zip(outcomes, sure, strict=True)]


def sure_of(first: int) -> list[float]:
    return [float(i < first) for i in range(N)]


def system(first: int = 200, right: int = 200) -> tuple[BenchmarkResult, System]:
    """A student that is right on the first ``right`` rows and sure of the first ``first``, before a teacher that is right on the first 220."""
    alone = student(rows(right), sure_of(first))
    return alone, system_of(alone, teacher(), CASCADE, None, BenchmarkParams(bootstrap=50))


def judged(alone: BenchmarkResult, whole: System, params: PromoteParams = GATES, level: float = 0.05) -> PromotionDecision:
    own = Evidence(alone, teacher())
    return decide(own, params, level, None, replace(own, student=whole.measured, answered=whole.answered))


def test_a_row_has_the_outcome_of_the_model_that_answers_it() -> None:
    alone, whole = system()
    assert (whole.answered, whole.rows) == (200, N)
    for outcome, own, theirs, choice in zip(whole.measured[1], alone[1], teacher()[1], whole.choices, strict=True):
        expected = own if choice.answers == "student" else theirs
        assert (outcome.response, outcome.exact) == (expected.response, expected.exact)
    assert whole.measured[0].exact_match.value == 220 / N > alone[0].exact_match.value
    assert whole.measured[0].cost == alone[0].cost and whole.measured[0].calibration is None


def test_the_gate_and_the_object_that_a_router_uses_choose_the_same_rows() -> None:
    alone, whole = system()
    assert [choice.answers for choice in whole.choices] == [CASCADE.choose(o.confidences).answers for o in alone[1]]


def test_a_row_whose_completion_cannot_be_used_is_the_teachers() -> None:
    report, outcomes = student(rows(200), sure_of(200))
    odd = [replace(o, objection="malformed") if i < 30 else o for i, o in enumerate(outcomes)]
    whole = system_of((report, odd), teacher(), CASCADE, None, BenchmarkParams(bootstrap=50))
    assert (whole.answered, whole.choices[0].reason) == (170, "the completion is malformed")
    assert whole.measured[1][0].response == teacher()[1][0].response and not whole.measured[1][0].confidences


def test_a_cascade_is_promoted_where_the_student_alone_is_not() -> None:
    alone, whole = system()
    decision = judged(alone, whole)
    assert (decision.verdict, decision.mode) == ("promote", "cascade")
    assert [(step.mode, step.verdict) for step in decision.steps] == [("cascade", "promote"), ("student", "hold")]
    assert decision.reasons[0].startswith("cascade 55.0 % exact match against the teacher's 55.0 %")
    assert not decision.steps[1].shown, "the student alone was tested too"
    gates = {gate.name: gate for gate in decision.gates}
    assert gates["share"].value == 0.5 and gates["share"].interval is not None and gates["share"].interval.low > 0.44
    assert gates["smaller"].value == pytest.approx(60 / 135 + 0.5) and gates["smaller"].passed
    assert "50.0 % of the rows" in gates["smaller"].sentence


def test_a_student_that_passes_alone_needs_no_teacher_behind_it() -> None:
    decision = judged(*system(right=219))
    assert (decision.verdict, decision.mode) == ("promote", "student")
    assert all(step.shown for step in decision.steps) and [step.mode for step in decision.steps] == ["cascade", "student"]


def test_the_student_alone_is_not_tested_if_the_cascade_is_not_shown() -> None:
    """It loses more than the margin in the half that it answers, so the sequence ends there."""
    alone = student(rows(219, start=1), [float(i >= 200) for i in range(N)])
    wrong = (
        alone[0],
        [replace(o, exact=False, response="y", true_positives=0) if i in range(200, 240) else o for i, o in enumerate(alone[1])],
    )
    report = replace(wrong[0], exact_match=replace(wrong[0].exact_match, value=sum(o.exact for o in wrong[1]) / N))
    whole = system_of((report, wrong[1]), teacher(), CASCADE, None, BenchmarkParams(bootstrap=50))
    decision = judged((report, wrong[1]), whole, level=0.01)
    assert decision.verdict == "hold" and [step.mode for step in decision.steps] == ["cascade"]


def test_a_cascade_that_answers_little_is_not_worth_its_complexity() -> None:
    decision = judged(*system(first=40))
    share = next(gate for gate in decision.gates if gate.name == "share")
    assert (decision.verdict, decision.mode, share.result) == ("hold", "cascade", "fail")
    assert "not worth its complexity (promote.min_share)" in share.sentence and share.sentence in decision.reasons
    assert [step.mode for step in decision.steps] == ["cascade", "student"], "what it costs is no reason not to test the student alone"


def test_a_cascade_costs_its_student_every_time_and_its_teacher_where_it_defers() -> None:
    from tests.unit.promotion.test_decide import timed

    alone, whole = system()
    params = PromoteParams(gates=("teacher", "faster", RatioGate(name="lighter")))  # type: ignore[arg-type]
    own = Evidence(alone, teacher(), timing=timed())
    gates = {
        g.name: g for g in decide(own, params, 0.05, None, replace(own, student=whole.measured, answered=whole.answered)).steps[0].gates
    }
    assert gates["faster"].value == pytest.approx(0.332 + 0.5, abs=0.002) and gates["faster"].passed
    assert "the teacher answers 50.0 % after it" in gates["faster"].sentence
    assert gates["lighter"].result == "fail" and "both models in memory" in gates["lighter"].sentence


def test_weights_that_were_not_calibrated_are_refused() -> None:
    with pytest.raises(DataError, match="calibrated for weights other"):
        system_of(student(rows(200), sure_of(200)), teacher(), replace(CASCADE, model="other"), None, BenchmarkParams())


def test_pairs_are_answered_by_the_system_too() -> None:
    def pairs(responses: tuple[str, str], *sure: float) -> list[PairOutcome]:
        return [PairOutcome("1", "name", "m", ("a", "b"), responses, tuple((Confidence("s", v),) for v in sure))]

    alone = student(rows(200), sure_of(200))
    from redistill.evaluation.probes.counterfactual import fairness_from

    own = pairs(("yes", "no"), 1.0, 0.0)
    alone = (replace(alone[0], fairness=fairness_from(own, "pairs", None)), alone[1])
    whole = system_of(alone, teacher(), CASCADE, None, BenchmarkParams(bootstrap=50), (own, pairs(("no", "yes"))))
    fairness = whole.measured[0].fairness
    assert fairness is not None and fairness.flips == () and fairness.pairs_digest == "pairs", "the sure yes, and the teacher's yes"


def test_a_pair_whose_response_cannot_be_used_is_answered_by_the_teacher() -> None:
    from redistill.data.grammars.record import RecordGrammar
    from redistill.evaluation.probes.counterfactual import fairness_from

    grammar = RecordGrammar(labels=("yes", "no"), flags=(), entities=(), several=False)
    sure = tuple((Confidence("s", 1.0),) for _ in range(2))
    own = [PairOutcome("1", "name", "m", ("a", "b"), ("yes", "nonsense"), sure)]
    theirs = [PairOutcome("1", "name", "m", ("a", "b"), ("no", "yes"), sure)]
    alone = student(rows(200), sure_of(200))
    alone = (replace(alone[0], fairness=fairness_from(own, "pairs", grammar)), alone[1])
    whole = system_of(alone, teacher(), CASCADE, grammar, BenchmarkParams(bootstrap=50), (own, theirs))
    assert alone[0].fairness is not None and len(alone[0].fairness.flips) == 1
    assert whole.measured[0].fairness is not None and whole.measured[0].fairness.flips == (), "both texts get yes"


def test_a_system_is_its_weights_threshold_and_teacher() -> None:
    digests = {
        system_digest("w", None, "t"),
        system_digest("w", CASCADE, "t"),
        system_digest("w", replace(CASCADE, threshold=0.6), "t"),
        system_digest("w", CASCADE, "another teacher"),
    }
    assert len(digests) == 4 and "w" in digests, "a student alone is its weights"


def test_margins_are_for_the_system() -> None:
    params = PromoteParams(gates=(NonInferiorGate(name="teacher", margin=0.01),))
    decision = judged(*system(), params=params)
    assert decision.verdict == "promote", "nothing at all is lost, so a point is ruled out"
