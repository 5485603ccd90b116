"""Non-inferior: a loss of the margin or more is ruled out, overall and slice by slice.

"Not significantly worse" is no gate: few rows make everybody pass it. Here few rows make nobody pass.
"""

from __future__ import annotations

from redistill.gates.evidence import Evidence, Measured, exact_share, pair
from redistill.promote_params import NonInferiorGate, PromoteParams, SlicesGate
from redistill.records import Gate, Interval
from redistill.statistics import PairedCounts, difference_interval, holm, rows_needed, score_test


def against(evidence: Evidence, own: NonInferiorGate, params: PromoteParams, level: float) -> list[Gate]:
    """The gate against teacher, champion or reference; none where there is no such model, held where it could not be measured."""
    if own.name in evidence.unmeasured:
        sentence = f"the {own.name} could not be compared with: {evidence.unmeasured[own.name]}"
        return [Gate(f"non_inferior_to_{own.name}", "hold", None, -own.margin, "points", sentence)]
    reference: Measured | None = getattr(evidence, own.name)
    if reference is None:
        return []
    return [non_inferior("student", evidence.student, own.name, reference, own.margin, level, params.power)]


def non_inferior(
    subject: str,
    own: Measured,
    other: str,
    reference: Measured,
    margin: float,
    level: float,
    power: float,
    *,
    same_backend: bool = True,
) -> Gate:
    """One-sided paired score test of a loss of ``margin`` or more at ``level``.

    Raises:
        DataError: the two were not measured on the same rows and prompts.
    """
    counts = pair(subject, own, other, reference, same_backend=same_backend)
    said = f"{subject} {100 * exact_share(own):.1f} % exact match against the {other}'s {100 * exact_share(reference):.1f} %"
    return judged_difference(f"non_inferior_to_{other}", said, counts, margin, level, score_test(counts, margin), power)


def slices(evidence: Evidence, own: SlicesGate, params: PromoteParams, level: float) -> tuple[list[Gate], list[str]]:
    """A gate for every slice that has rows enough, and a note on every one that has not.

    The claim is made for each slice by itself, so the p-values are Holm's.
    """
    sizes: dict[str, int] = {}
    for outcome in evidence.student[1]:
        sizes[outcome.slice] = sizes.get(outcome.slice, 0) + 1
    named = {name: n for name, n in sorted(sizes.items()) if len(sizes) > 1}
    notes = [
        f"slice {name} has {n} held-out rows, fewer than {own.min_rows}: it was not judged by itself"
        for name, n in named.items()
        if n < own.min_rows
    ]
    counts = {
        name: pair("student", evidence.student, "teacher", evidence.teacher, within=name) for name, n in named.items() if n >= own.min_rows
    }
    p_values = [score_test(c, own.margin) for c in counts.values()]
    gates = []
    for (name, c), p_value, adjusted in zip(counts.items(), p_values, holm(p_values), strict=True):
        # The level at which this slice's own p-value says what Holm's says at the whole one, so that the interval decides as the test does.
        share = p_value / adjusted if adjusted > 0 else 1.0 / len(counts)
        said = f"student against teacher in slice {name}"
        correction = f", Holm's correction over {len(counts)} slices" if len(counts) > 1 else ""
        gates.append(judged_difference(f"slice_{name}", said, c, own.margin, level * share, p_value, params.power, correction))
    return gates, notes


def judged_difference(
    name: str,
    said: str,
    counts: PairedCounts,
    margin: float,
    level: float,
    p_value: float,
    power: float,
    correction: str = "",
    rows: str = "held-out rows",
) -> Gate:
    """The gate of a paired difference of shares: pass where the test shows it, hold where more ``rows`` would, fail otherwise."""
    interval = difference_interval(counts, 2 * level)
    missing = 0 if p_value <= level else max(0, rows_needed(counts, margin, level, power) - counts.n)
    sentence = (
        f"{said}: difference {100 * counts.difference:z.1f} points ({coverage(level)} interval {spread(interval)}), "
        f"one-sided p {shown(p_value, level)} for a loss of {100 * margin:g} points or more, level {level:.2g}{correction}"
    )
    if missing:
        sentence += f"; {missing:,} more {rows} (now {counts.n:,}) would show it with {100 * power:g} % power, "
        sentence += "were the difference as observed"
    elif p_value > level:
        sentence += "; the observed loss is as large as the margin, so more rows are not expected to help"
    return Gate(
        name=name,
        result="pass" if p_value <= level else "hold" if missing else "fail",
        value=counts.difference,
        limit=-margin,
        unit="points",
        sentence=sentence,
        interval=interval,
        confidence=1 - 2 * level,
        p_value=p_value,
        more_rows=missing,
    )


def coverage(level: float) -> str:
    """The two-sided coverage of the interval that decides at a one-sided level, in percent."""
    return f"{100 * (1 - 2 * level):.4g} %"


def spread(interval: Interval) -> str:
    return f"{100 * interval.low:z.1f} to {100 * interval.high:z.1f}"


def shown(p_value: float, limit: float) -> str:
    """A p-value with three decimals, or more where three would put it on the limit."""
    if p_value < 0.001 <= limit:
        return "< 0.001"
    return f"= {p_value:.3f}" if abs(p_value - limit) > 0.0005 else f"= {p_value:.6f}"
