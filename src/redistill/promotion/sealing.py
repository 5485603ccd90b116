"""What people may know of a decision on sealed held-out rows: what is promoted, and on how many rows each gate was judged.

A gate that was judged on sealed rows keeps its result to itself where the decision is a hold: which gate it was would be one more thing to learn, and
each thing to learn costs a part of the level (``redistill.promotion.alpha_spending``). The same gates on the rows that people look at are in the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redistill.promotion.types import Gate, Mode, PromotionDecision, Step


def of_mode(decision: PromotionDecision, mode: Mode) -> PromotionDecision:
    """The decision with the gates of one of its systems in the front, if that was judged."""
    step = next((step for step in decision.steps if step.mode == mode), None)
    if step is None or decision.mode == mode:
        return decision
    reasons = tuple(gate.sentence for gate in step.gates if not gate.passed) or tuple(gate.sentence for gate in step.gates)
    return replace(decision, mode=mode, gates=step.gates, verdict=step.verdict, reasons=reasons)


def without_sealed(decision: PromotionDecision, shown: PromotionDecision, rows: int) -> PromotionDecision:
    """The decision without anything that was measured on the sealed rows.

    Args:
        shown: the same question on the rows that people look at.
        rows: number of sealed rows.
    """
    promoted = decision.verdict == "promote"
    gates = tuple(_public(gate, promoted=promoted) for gate in decision.gates)
    return replace(
        decision,
        reasons=_reasons(gates, shown, rows, promoted=promoted),
        gates=gates,
        more_rows=max((gate.more_rows for gate in gates), default=0),
        linear_suffices=shown.linear_suffices,
        smallest_loss=shown.smallest_loss,
        steps=tuple(_step(step, decision) for step in decision.steps) if promoted else (),
    )


def _public(gate: Gate, *, promoted: bool) -> Gate:
    """A gate that was not judged on rows is told as it is."""
    if gate.rows is None:
        return gate
    sentence = f"{gate.name.replace('_', ' ')}: judged on {gate.rows:,} sealed held-out rows{', passed' if promoted else ''}"
    result = "pass" if promoted else "sealed"
    return Gate(gate.name, result, None, gate.limit, gate.unit, sentence, rows=gate.rows)  # type: ignore[arg-type]


def _step(step: Step, decision: PromotionDecision) -> Step:
    """Of a promotion, every system of the sequence up to the promoted one passed. A later one did not: that it was judged is all that is told of it."""
    promoted = step.verdict == "promote"
    return replace(step, shown=promoted, gates=tuple(_public(gate, promoted=promoted) for gate in step.gates))


def _reasons(gates: Sequence[Gate], shown: PromotionDecision, rows: int, *, promoted: bool) -> tuple[str, ...]:
    if promoted:
        return tuple(gate.sentence for gate in gates)
    public = [gate.sentence for gate in gates if not gate.passed and gate.result != "sealed"]
    if public:
        return tuple(public)
    if shown.verdict == "promote":
        why = "although every gate passes on the rows that are shown; more held-out rows may show more"
        return (f"not every gate passed on the {rows:,} sealed held-out rows, {why}",)
    first, *others = (gate.sentence for gate in shown.gates if not gate.passed)
    return (f"not every gate passed on the {rows:,} sealed held-out rows; on the rows that are shown: {first}", *others)
