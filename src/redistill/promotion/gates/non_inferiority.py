"""Non-inferiority: a loss of the margin or more is ruled out, overall and in every slice.

"Not significantly worse" is not a useful gate: with few rows, every student passes it. Here no student passes with few rows. No student
passes against a reference that cannot do the task either: being not worse than it shows nothing (*assay sensitivity*), so the gate is on hold.

Source: ICH E10 2000, Choice of Control Group, section 1.5 (assay sensitivity in non-inferiority trials).
"""

from __future__ import annotations

from redistill.evaluation.row_scores import NAMES
from redistill.promotion.evidence import BenchmarkResult, Comparison, Evidence, Paired, pair
from redistill.promotion.gates.advice import more_rows, most_rows
from redistill.promotion.params import NonInferiorGate, PromoteParams, SlicesGate
from redistill.promotion.types import Gate, GateResult
from redistill.statistics.shares import holm
from redistill.statistics.types import Interval


def against(evidence: Evidence, limits: NonInferiorGate, params: PromoteParams, level: float) -> list[Gate]:
    """The gate against teacher, champion or reference; no gate if there is no such model, a hold if it could not be measured."""
    if limits.name in evidence.unmeasured:
        sentence = f"the {evidence.subject} could not be compared with the {limits.name}: {evidence.unmeasured[limits.name]}"
        return [Gate(f"non_inferior_to_{limits.name}", "hold", None, -limits.margin, "points", sentence)]
    reference: BenchmarkResult | None = getattr(evidence, limits.name)
    if reference is None:
        return []
    return [non_inferior(evidence.subject, evidence.student, limits.name, reference, limits.margin, level, params, split=evidence.split)]


def non_inferior(
    subject: str,
    result: BenchmarkResult,
    other: str,
    reference: BenchmarkResult,
    margin: float,
    level: float,
    params: PromoteParams,
    *,
    same_backend: bool = True,
    split: str = "held-out",
) -> Gate:
    """One-sided paired test of a loss of ``margin`` or more at ``level``, by the metric of ``params``.

    Raises:
        DataError: the two were not measured on the same rows and prompts.
    """
    compared = pair(subject, result, other, reference, params.scored_by, same_backend=same_backend)
    name, floor = f"non_inferior_to_{other}", params.floor if other == "teacher" else 0.0
    if (reason := insensitive(compared, other, floor)) is not None:
        return not_judged(name, compared.paired, margin, reason)
    metric = NAMES[compared.metric]
    sentence = f"{subject} {100 * compared.candidate:.1f} % {metric} against the {other}'s {100 * compared.reference:.1f} %"
    p_value = compared.paired.p_value(margin)
    return judged_difference(name, sentence, compared.paired, margin, level, p_value, params.power, rows=f"{split} rows")


def slices(evidence: Evidence, limits: SlicesGate, params: PromoteParams, level: float) -> tuple[list[Gate], list[str]]:
    """A gate for every slice that has enough rows, and a note on every other slice.

    Each slice is a claim of its own, so the p-values have Holm's correction.
    """
    sizes: dict[str, int] = {}
    for outcome in evidence.student[1]:
        sizes[outcome.slice] = sizes.get(outcome.slice, 0) + 1
    named = {name: n for name, n in sorted(sizes.items()) if len(sizes) > 1}
    notes = [
        f"slice {name} has {n} {evidence.split} rows, fewer than {limits.min_rows}: it has no gate of its own"
        for name, n in named.items()
        if n < limits.min_rows
    ]
    compared = {
        name: pair(evidence.subject, evidence.student, "teacher", evidence.teacher, params.scored_by, within=name)
        for name, n in named.items()
        if n >= limits.min_rows
    }
    reasons = {name: insensitive(c, "teacher", params.floor, f" in slice {name}") for name, c in compared.items()}
    p_values = [1.0 if reasons[name] is not None else c.paired.p_value(limits.margin) for name, c in compared.items()]
    gates = []
    for (name, c), p_value, adjusted in zip(compared.items(), p_values, holm(p_values), strict=True):
        if (reason := reasons[name]) is not None:
            gates.append(not_judged(f"slice_{name}", c.paired, limits.margin, reason))
            continue
        # The level of this slice that is equivalent to Holm's adjusted p-value at the whole level, so that interval and test agree.
        share = p_value / adjusted if adjusted > 0 else 1.0 / len(compared)
        sentence = f"{evidence.subject} against teacher in slice {name}"
        correction = f", Holm's correction over {len(compared)} slices" if len(compared) > 1 else ""
        gates.append(
            judged_difference(
                f"slice_{name}",
                sentence,
                c.paired,
                limits.margin,
                level * share,
                p_value,
                params.power,
                correction,
                rows=f"{evidence.split} rows",
            )
        )
    return gates, notes


def insensitive(compared: Comparison, other: str, floor: float, where: str = "") -> str | None:
    """Why "not worse than ``other``" would show nothing here; None if it shows something."""
    metric = NAMES[compared.metric]
    if not compared.any_right:
        return (
            f"neither model is right on any row{where} ({metric} 0.0 % for both), so a comparison shows nothing; "
            f"check labels, prompt template, data.stop and benchmark.max_tokens against the {other}'s completions"
        )
    if compared.reference < floor:
        return (
            f"the {other}'s {100 * compared.reference:.1f} % {metric}{where} is below the {100 * floor:g} % of promote.min_teacher, so being not "
            f"worse than the {other} shows nothing; use a better {other}, check its completions, or set another promote.metric or promote.min_teacher"
        )
    return None


def not_judged(name: str, paired: Paired, margin: float, reason: str) -> Gate:
    """A hold for a comparison that cannot show anything. Its p-value is 1, so it counts as a look that showed nothing."""
    return Gate(name, "hold", paired.difference, -margin, "points", reason, p_value=1.0, rows=paired.n)


def verdict(passed: bool, interval: Interval | None, limit: float, *, above: bool = True) -> GateResult:
    """Pass if the test passes; fail if the whole interval is on the wrong side of the limit; otherwise hold.

    ``above`` says which side is right. A bad observed difference alone is not evidence against a student: an equal student can have it by chance.
    """
    if passed:
        return "pass"
    if interval is None:
        return "hold"
    return "fail" if (interval.high < limit if above else interval.low > limit) else "hold"


def judged_difference(
    name: str,
    comparison: str,
    counts: Paired,
    margin: float,
    level: float,
    p_value: float,
    power: float,
    correction: str = "",
    rows: str = "held-out rows",
) -> Gate:
    """The gate of a paired difference: pass if the test rules out a loss of ``margin``, fail if such a loss is shown, hold otherwise.

    A hold says how many more ``rows`` would decide it, if a realistic number can.
    """
    interval = counts.interval(2 * level)
    result = verdict(p_value <= level, interval, -margin)
    sentence = (
        f"{comparison}: difference {100 * counts.difference:z.1f} points ({coverage(level)} interval {spread(interval)}), "
        f"one-sided p {shown(p_value, level)} for a loss of {100 * margin:g} points or more, level {level:.2g}{correction}"
    )
    missing = 0
    if result == "fail":
        sentence += "; a loss as large as the margin is shown, so more rows are not expected to help"
    elif result == "hold":
        end, missing = _wanted(counts, margin, level, power, rows)
        sentence += end
    return Gate(
        name=name,
        result=result,
        value=counts.difference,
        limit=-margin,
        unit="points",
        sentence=sentence,
        interval=interval,
        confidence=1 - 2 * level,
        p_value=p_value,
        more_rows=missing,
        rows=counts.n,
    )


def _wanted(counts: Paired, margin: float, level: float, power: float, rows: str) -> tuple[str, int]:
    needed = counts.rows_needed(margin, level, power, most_rows(counts.n))
    if needed == 0:
        return (
            "; the observed loss is as large as the margin, so more rows are not expected to help; such a loss is not shown either",
            0,
        )
    narrow = f"a margin of {100 * margin:g} points is too narrow for them" if counts.difference > -margin / 2 else None
    named = f"{rows} (now {counts.n:,})"
    return more_rows(
        needed, counts.n, named, power, "the true difference is the observed one", "the observed difference is close to the limit", narrow
    )


def coverage(level: float) -> str:
    """The two-sided coverage of the interval that decides at a one-sided level, in percent."""
    return f"{100 * (1 - 2 * level):.4g} %"


def spread(interval: Interval) -> str:
    return f"{100 * interval.low:z.1f} to {100 * interval.high:z.1f}"


def shown(p_value: float, limit: float) -> str:
    """A p-value with three decimals, or with more if three decimals would show it as equal to the limit."""
    if p_value < 0.001 <= limit:
        return "< 0.001"
    return f"= {p_value:.3f}" if abs(p_value - limit) > 0.0005 else f"= {p_value:.6f}"
