"""What people may know of a decision on sealed held-out rows: what is promoted, and on how many rows each gate was judged.

After a hold, the results of gates on sealed rows are left out. If people learned which gate did not pass, they would learn one more thing, and each
thing that they can learn costs a part of the level (``redistill.promotion.alpha_spending``). The report has the same gates on the monitor rows.
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


def without_sealed(decision: PromotionDecision, on_monitor: PromotionDecision, rows: int) -> PromotionDecision:
    """The decision without anything that was measured on the sealed rows.

    Args:
        on_monitor: the same question on the rows that people look at.
        rows: number of sealed rows.
    """
    promoted = decision.verdict == "promote"
    gates = tuple(_public(gate, promoted=promoted) for gate in decision.gates)
    return replace(
        decision,
        reasons=_reasons(gates, on_monitor, rows, promoted=promoted),
        gates=gates,
        more_rows=max((gate.more_rows for gate in gates), default=0),
        linear_suffices=on_monitor.linear_suffices,
        smallest_loss=on_monitor.smallest_loss,
        steps=tuple(_step(step) for step in decision.steps) if promoted else (),
    )


def _public(gate: Gate, *, promoted: bool) -> Gate:
    """The gate without its numbers. A gate that was not judged on labelled rows stays as it is."""
    if gate.rows is None:
        return gate
    sentence = f"{gate.name.replace('_', ' ')}: judged on {gate.rows:,} sealed held-out rows{', passed' if promoted else ''}"
    result = "pass" if promoted else "sealed"
    return Gate(gate.name, result, None, gate.limit, gate.unit, sentence, rows=gate.rows)  # type: ignore[arg-type]


def _step(step: Step) -> Step:
    """One system of a decision that promotes. The promoted system passed all gates; of one that did not pass, the results on sealed rows are left out."""
    promoted = step.verdict == "promote"
    return replace(step, shown=promoted, gates=tuple(_public(gate, promoted=promoted) for gate in step.gates))


def _reasons(gates: Sequence[Gate], on_monitor: PromotionDecision, rows: int, *, promoted: bool) -> tuple[str, ...]:
    if promoted:
        return tuple(gate.sentence for gate in gates)
    public = [gate.sentence for gate in gates if not gate.passed and gate.result != "sealed"]
    if public:
        return tuple(public)
    # The cost of a cascade is judged on more rows than the monitor rows: where it passed there, the result on these alone explains nothing.
    settled = {gate.name for gate in gates if gate.rows is None and gate.passed}
    first, *others = [gate.sentence for gate in on_monitor.gates if not gate.passed and gate.name not in settled] or [""]
    if not first:
        passes = "every gate passes" if on_monitor.verdict == "promote" else "every gate that is judged there passes"
        why = f"although {passes} on the monitor rows; more held-out rows may show more"
        return (f"not every gate passed on the {rows:,} sealed held-out rows, {why}",)
    return (f"not every gate passed on the {rows:,} sealed held-out rows; on the monitor rows: {first}", *others)
