"""The decision: may a student, or a student with its teacher behind it, replace what is live?

Every gate that ``promote.gates`` lists is evaluated, in that order, at the level that the ledger of looks allows. All must pass. So the
chance of a wrong promotion is not greater than the level itself (an intersection-union test). If only evidence is missing, the decision
says how many more rows would bring it. It also says if a linear model is good enough.

Source: Berger 1982, Technometrics 24:295-300 (intersection-union); Maurer, Hothorn & Lehmacher 1995 (fixed sequence); Tango 1998
(``statistics.score_test``); Waudby-Smith & Ramdas 2024 (``redistill.statistics.betting``).
"""

from __future__ import annotations

from collections.abc import Sequence

from redistill.promotion.evidence import BenchmarkResult, Evidence, pair
from redistill.promotion.gates.cost import answers_enough, ratio
from redistill.promotion.gates.critical_labels import critical
from redistill.promotion.gates.fairness import fair
from redistill.promotion.gates.non_inferiority import against, non_inferior, slices
from redistill.promotion.gates.training_audit import audited
from redistill.promotion.params import CriticalLabelsGate, FairnessGate, GateParams, NonInferiorGate, PromoteParams, RatioGate, SlicesGate
from redistill.promotion.types import Gate, PromotionDecision, Step


def decide(
    evidence: Evidence,
    params: PromoteParams,
    level: float,
    looks: Gate | None = None,
    cascade: Evidence | None = None,
    *,
    alone: bool = True,
) -> PromotionDecision:
    """Judge a student, and the ``cascade`` that it is part of if there is one; the best system that the evidence supports is promoted.

    The order is fixed: first the cascade, and only if its statistical gates passed the student alone, at the same level. Such a sequence needs no
    correction. The student alone goes live if it passes, else the cascade if that passes, else nothing. Without ``alone``, a student that has a cascade is
    not judged alone.

    A gate exists only if there is something to compare with. ``reasons`` are the sentences of the gates that did not pass, or of all gates
    if the system is promoted. At level 0 the held-out set is used up: no statistical gate is evaluated, and the gate ``looks`` says so.

    Raises:
        DataError: reports or outcomes are not about the same rows, prompts, template or backend, or hold a NaN.
    """
    systems = [evidence] if cascade is None else [cascade, evidence] if alone else [cascade]
    judged: list[tuple[Evidence, Step, list[str]]] = []
    for system in systems:
        gates, notes = _gates(system, params, level, looks)
        step = Step(system.subject, "promote" if all(gate.passed for gate in gates) else "hold", _shown(gates), tuple(gates))
        judged.append((system, step, notes))
        if not step.shown:
            break
    system, step, notes = next((one for one in reversed(judged) if one[1].verdict == "promote"), judged[0])
    suffices = _linear_gate(evidence, params) if level > 0 else None
    open_gates = [gate for gate in step.gates if not gate.passed]
    reasons = [gate.sentence for gate in open_gates or step.gates] + notes
    if suffices is not None and suffices.passed:
        reasons.append(f"a linear model suffices: {suffices.sentence}")
    paired = pair(system.subject, system.student, "teacher", system.teacher, params.scored_by).paired
    return PromotionDecision(
        verdict=step.verdict,
        reasons=tuple(reasons),
        gates=step.gates,
        more_rows=max((gate.more_rows for gate in step.gates), default=0),
        linear_suffices=suffices is not None and suffices.passed,
        level=level,
        smallest_loss=paired.smallest_loss(level, params.power) if level > 0 else 1.0,
        metric=params.scored_by,
        mode=step.mode,
        steps=tuple(one[1] for one in judged),
    )


def _gates(evidence: Evidence, params: PromoteParams, level: float, looks: Gate | None) -> tuple[list[Gate], list[str]]:
    """The gates of one system, and notes on what has no gate."""
    pair(evidence.subject, evidence.student, "teacher", evidence.teacher, params.scored_by)
    gates, notes = ([] if looks is None else [looks]), []
    for limits in params.gates:
        judged, gate_notes = _judge(limits, evidence, params, level)
        gates += judged
        notes += gate_notes
    return gates + answers_enough(evidence, params.min_share), notes


def _shown(gates: Sequence[Gate]) -> bool:
    """Whether all statistical gates passed."""
    statistical = [gate.passed for gate in gates if gate.p_value is not None]
    return bool(statistical) and all(statistical)


def holds(champion: BenchmarkResult, teacher: BenchmarkResult, params: PromoteParams) -> Gate:
    """Re-test a live champion against today's teacher, by the same gate that it passed for its promotion.

    The level is the whole of alpha, which no look exceeds. So a champion that was promoted on these rows passes on them again, unless
    the teacher has changed. ``redistill.promotion.retest`` says what follows if the gate does not pass.

    Raises:
        DataError: as ``decide``.
    """
    return non_inferior("champion", champion, "teacher", teacher, params.teacher_gate.margin, params.alpha_per_heldout, params)


def _judge(limits: GateParams, evidence: Evidence, params: PromoteParams, level: float) -> tuple[list[Gate], list[str]]:
    if isinstance(limits, RatioGate):
        return ratio(evidence, limits), []
    if isinstance(limits, NonInferiorGate):
        return (against(evidence, limits, params, level) if level > 0 else []), []
    if isinstance(limits, SlicesGate):
        return slices(evidence, limits, params, level) if level > 0 else ([], [])
    if isinstance(limits, CriticalLabelsGate):
        return (critical(evidence, limits, params, level) if level > 0 else []), []
    if isinstance(limits, FairnessGate):
        # Counterfactual pairs are not held-out rows, and everyone may read them. So where held-out rows are sealed, this gate has the same level in each look.
        at = level if evidence.public is evidence and evidence.split == "held-out" else params.alpha_per_heldout
        return (fair(evidence.public, limits, params, at) if level > 0 else []), []
    return audited(evidence), []


def worth_judging_alone(evidence: Evidence, params: PromoteParams) -> bool:
    """Whether a student that has a cascade is judged alone too. Each system that is judged costs a part of the level. So a student is not judged alone if it
    is observed to lose the margin or more on the monitor rows. Without monitor rows, it is always judged.
    """
    if (monitor := evidence.on_monitor) is None:
        return True
    return pair("student", monitor.student, "teacher", monitor.teacher, params.scored_by).paired.difference > -params.teacher_gate.margin


def _linear_gate(evidence: Evidence, params: PromoteParams) -> Gate | None:
    """The teacher's gate for the linear arm. It has no inference backend, so backends are not compared.

    The level is the whole of alpha, because this is only advice and promotes no model.
    """
    if evidence.linear is None:
        return None
    margin, level = params.teacher_gate.margin, params.alpha_per_heldout
    return non_inferior("linear model", evidence.linear, "teacher", evidence.teacher, margin, level, params, same_backend=False)
