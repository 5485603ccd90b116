"""Lower cost: a student that is only as good as the teacher does not replace it.

A number of parameters is exact, so its ratio decides. A time differs from measurement to measurement, so there the interval of the ratio decides. A peak of
memory is measured once: it can pass or hold.
"""

from __future__ import annotations

import math
from statistics import median

from redistill.errors import DataError
from redistill.evaluation.timing import CONFIDENCE
from redistill.evaluation.types import Cost
from redistill.promotion.evidence import Evidence
from redistill.promotion.params import RatioGate
from redistill.promotion.types import Gate, GateResult
from redistill.teacher.types import ENDPOINT

_MEASURES = {
    "smaller": ("parameters", "student has {:,} parameters, the teacher {:,}", 1.0, "not fewer"),
    "lighter": ("peak_memory_bytes", "student needs {:.0f} MB of memory at its peak, the teacher {:.0f} MB", 1e-6, "not less"),
}


def ratio(evidence: Evidence, limits: RatioGate) -> list[Gate]:
    """Student ÷ teacher of one cost; no gate if the teacher is an endpoint that does not report its own cost.

    Raises:
        DataError: the student's own cost was not measured.
    """
    if limits.name == "faster":
        return [_faster(evidence, limits)]
    field, sentence, scale, short = _MEASURES[limits.name]
    student, teacher = (_cost(m[0].cost, field) for m in (evidence.student, evidence.teacher))
    if limits.name == "lighter" and evidence.teacher[0].backend == ENDPOINT:
        return []  # that would be the memory of the client
    if limits.name == "lighter" and (student is None or teacher is None):
        return [
            Gate(
                "lighter",
                "hold",
                None,
                limits.below,
                "ratio",
                "this system does not report the peak memory of a process, so it was not compared",
            )
        ]
    if student is None:
        raise DataError(f"the student's report has no value for {field}; benchmark the student from its weights, not through an endpoint")
    if teacher is None:
        return []  # an endpoint does not report its parameters
    value = student / teacher if teacher else math.inf
    passed = value < limits.below
    shown = [int(v) if field == "parameters" else v * scale for v in (student, teacher)]
    limit = "" if limits.below == 1.0 else f", a ratio of {value:.2f} (limit {limits.below:g})"
    missed = "" if passed else f": {short}" if limits.below == 1.0 else ": not below the limit"
    # A number of parameters is exact, so it may fail. A peak of memory is measured once, without an interval, so it can only hold.
    missing: GateResult = "fail" if field == "parameters" else "hold"
    return [Gate(limits.name, "pass" if passed else missing, value, limits.below, "ratio", sentence.format(*shown) + limit + missed)]


def _faster(evidence: Evidence, limits: RatioGate) -> Gate:
    """Pass if the whole interval of the time ratio is below the limit, fail if it is not below the limit anywhere, else hold.

    Raises:
        DataError: the timing is not of the student's architecture.
    """
    timing = evidence.timing
    if timing is None:
        why = evidence.unmeasured.get("timing", "there is no timing")
        return Gate("faster", "hold", None, limits.below, "ratio", f"the times of student and teacher were not compared: {why}")
    if timing.student.architecture != evidence.student[0].architecture:
        raise DataError("the timing belongs to another architecture than the student; run the stage `timing` again, then judge again")
    ratio = timing.request_ratio
    low, high = ratio.interval.low, ratio.interval.high
    result, note = (
        ("pass", "")
        if high < limits.below
        else ("fail", ": not faster")
        if low >= limits.below
        else ("hold", ": neither shown nor ruled out")
    )
    if result == "hold":
        note += "; more requests (benchmark.latency_requests) or a less busy machine make the interval narrower"
    own_ms, their_ms = (1e3 * median(times.request_s) for times in (timing.student, timing.teacher))
    sentence = (
        f"student takes {ratio.value:.2f} times as long as the teacher for a request ({100 * CONFIDENCE:g} % interval {low:.2f} to {high:.2f}, "
        f"{len(timing.student.request_s)} requests to both in turns; {own_ms:.1f} and {their_ms:.1f} ms at the median), limit {limits.below:g}{note}"
    )
    return Gate("faster", result, ratio.value, limits.below, "ratio", sentence, ratio.interval, CONFIDENCE)  # type: ignore[arg-type]


def _cost(cost: Cost, field: str) -> float | None:
    value = getattr(cost, field)
    return None if value is None else float(value)
