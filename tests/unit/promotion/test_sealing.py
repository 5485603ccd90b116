"""What is told of a decision on sealed rows: what is promoted, and on how many rows each gate was judged."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest

from redistill.promotion.decide import decide, worth_judging_alone
from redistill.promotion.evidence import Evidence
from redistill.promotion.hold_plan import patch
from redistill.promotion.params import PromoteParams
from redistill.promotion.sealing import without_sealed
from redistill.promotion.types import PromotionDecision
from tests.unit.promotion.test_decide import TIMED, N, evidence, rows, teacher
from tests.unit.promotion.test_system import judged, system

PARAMS = PromoteParams(gates=("audit", "teacher", "smaller", "faster"))  # type: ignore[arg-type]
MONITOR = 200


def shown(right: int, teacher_right: int = 110) -> Evidence:
    return Evidence(evidence(rows(right, MONITOR)), teacher(teacher_right, MONITOR), timing=TIMED, split="monitor")


def sealed(right: int, on_monitor: Evidence) -> Evidence:
    return Evidence(evidence(rows(right)), teacher(), timing=TIMED, on_monitor=on_monitor)


def decided(right: int, on_monitor: Evidence, gates: PromoteParams = PARAMS) -> tuple[PromotionDecision, PromotionDecision]:
    """What is told, and the decision on monitor rows."""
    found = sealed(right, on_monitor)
    open_decision = decide(on_monitor, gates, 0.025)
    return without_sealed(decide(found, gates, 0.025), open_decision, N), open_decision


NO_AUDIT = replace(PARAMS, gates=PARAMS.gates[1:])


def test_a_promotion_says_that_every_gate_passed_and_no_number() -> None:
    decision, _ = decided(221, shown(111), NO_AUDIT)
    gate = decision.gates[0]
    assert decision.verdict == "promote" and gate.result == "pass"
    assert gate.sentence == f"non inferior to teacher: judged on {N} sealed held-out rows, passed"
    assert (gate.value, gate.interval, gate.p_value, gate.confidence, gate.more_rows) == (None, None, None, None, 0)
    assert (gate.limit, gate.rows) == (-0.05, N)


def test_a_hold_does_not_say_which_gate_it_was() -> None:
    passing, failing = (decided(right, shown(111), NO_AUDIT)[0] for right in (221, 180))
    assert failing.verdict == "hold" and failing.gates[0].result == "sealed" and failing.steps == ()
    assert failing.reasons == (
        f"not every gate passed on the {N} sealed held-out rows, although every gate passes on the monitor rows; more held-out rows may show more",
    )
    assert [g.name for g in failing.gates] == [g.name for g in passing.gates]


def test_two_students_that_are_held_are_told_the_same() -> None:
    """However far each is from its limit: nothing but the verdict differs from one held system to the next."""
    trees = [json.dumps(dataclasses.asdict(decided(right, shown(111), NO_AUDIT)[0])) for right in (120, 180, 205)]
    assert trees[0] == trees[1] == trees[2]


def test_reasons_are_those_of_the_rows_that_are_shown() -> None:
    decision, on_monitor = decided(180, shown(90), NO_AUDIT)
    assert decision.reasons[0].startswith(f"not every gate passed on the {N} sealed held-out rows; on the monitor rows: ")
    assert on_monitor.reasons[0] in decision.reasons[0]
    assert decision.smallest_loss == on_monitor.smallest_loss


def test_a_cost_that_passed_on_all_rows_is_no_reason() -> None:
    """The share is counted on held-out and monitor rows; on the monitor rows alone the same cost may be open."""
    found = sealed(180, shown(90))
    open_decision = decide(found.public, NO_AUDIT, 0.025)
    cost = next(gate for gate in open_decision.gates if gate.name == "smaller")
    doubtful = replace(open_decision, gates=(*open_decision.gates, replace(cost, result="hold", sentence="neither shown nor ruled out")))
    decision = without_sealed(decide(found, NO_AUDIT, 0.025), doubtful, N)
    assert not [reason for reason in decision.reasons if "neither shown nor ruled out" in reason]
    assert decision.reasons == without_sealed(decide(found, NO_AUDIT, 0.025), open_decision, N).reasons


def test_what_is_not_about_rows_is_told_and_explains_the_hold() -> None:
    """A student whose training rows are unknown: whether the sealed rows would have passed is not told."""
    passing, failing = (decided(right, shown(111))[0] for right in (221, 180))
    assert passing.verdict == failing.verdict == "hold"
    assert (passing.reasons == failing.reasons and "training rows" in passing.reasons[0]) or "trained this student" in passing.reasons[0]
    assert dataclasses.asdict(passing) == dataclasses.asdict(failing)


def test_the_share_is_counted_on_all_rows_that_trained_nothing() -> None:
    """Who answers a row depends on no label, so sealed rows count too: half as many rows would leave the cost of this cascade open."""
    alone, whole = system()
    half = replace(whole, on_monitor=None)
    on_monitor = Evidence(alone, teacher(), split="monitor", answered=150)
    own = Evidence(alone, teacher(), on_monitor=on_monitor)
    cascade = replace(own, student=half.measured, answered=half.answered, on_monitor=replace(on_monitor, student=half.measured))
    gates = {g.name: g for g in decide(own, PromoteParams(gates=("teacher", "smaller")), 0.05, None, cascade).gates}  # type: ignore[arg-type]
    assert half.answered is not None
    answered = 150 + half.answered
    assert (
        gates["share"].value == answered / (2 * N) and f"answers {answered} of {2 * N} held-out and monitor rows" in gates["share"].sentence
    )
    assert cascade.deferral.value == 1 - answered / (2 * N)
    assert (
        cascade.deferral.interval.high - cascade.deferral.interval.low
        < on_monitor.deferral.interval.high - on_monitor.deferral.interval.low
    )


def test_a_student_that_looks_hopeless_is_not_judged_alone() -> None:
    params = PromoteParams()
    assert worth_judging_alone(Evidence(evidence(rows(100)), teacher()), params), "nothing else is shown"
    assert worth_judging_alone(sealed(100, shown(108)), params)
    assert not worth_judging_alone(sealed(220, shown(90)), params)
    alone, whole = system(right=219)
    decision = judged(alone, whole)
    assert decision.mode == "student"
    only = decide(
        Evidence(alone, teacher()),
        PromoteParams(gates=("teacher", "smaller")),  # type: ignore[arg-type]
        0.05,
        None,
        replace(Evidence(alone, teacher()), student=whole.measured, answered=whole.answered),
        alone=False,
    )
    assert (only.verdict, only.mode, len(only.steps)) == ("promote", "cascade", 1)


@pytest.mark.parametrize(("held_rows", "asks"), [(N, True), (5000, False)])
def test_the_plan_asks_for_the_held_out_rows_that_are_missing(held_rows: int, asks: bool) -> None:
    """The monitor rows say how many rows are needed; what the held-out set has already is not asked for."""
    on_monitor = replace(shown(110), student=evidence(rows(110, MONITOR, start=20)))
    decision, open_decision = decided(180, on_monitor, NO_AUDIT)
    needed = open_decision.gates[0].more_rows + MONITOR
    gates = tuple(replace(g, rows=held_rows) if g.rows else g for g in decision.gates)
    plan = patch(on_monitor, open_decision, 100, replace(decision, gates=gates))
    expected = [{"gate": "non_inferior_to_teacher", "more_rows": needed - held_rows}] if asks else []
    assert plan["heldout_rows"] == expected and open_decision.gates[0].more_rows > 0
