"""Lower cost: a student that is only as good as the teacher does not replace it.

A number of parameters is exact, so its ratio decides. A time differs from measurement to measurement, so there the interval of the ratio decides. A peak of
memory is measured once: it can pass or hold.

A cascade costs its student for every request, and its teacher for the share that it defers. So its ratio is the student's plus that share, and the share's
interval is added to the student's.
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
from redistill.statistics.shares import share_interval
from redistill.statistics.types import Interval
from redistill.teacher.types import ENDPOINT

_MEASURES = {
    "smaller": ("parameters", "student has {:,} parameters, the teacher {:,}", 1.0, "not fewer"),
    "lighter": ("peak_memory_bytes", "student needs {:.0f} MB of memory at its peak, the teacher {:.0f} MB", 1e-6, "not less"),
}


def answers_enough(evidence: Evidence, least: float) -> list[Gate]:
    """The share of requests that a cascade's student answers, by the exact binomial interval; no gate for a student alone.

    Below ``least``, a cascade saves less than it adds: a second model to run, and a threshold to keep calibrated.
    """
    if evidence.answered is None:
        return []
    answered, n = evidence.requests
    interval = share_interval(answered, n, 1 - CONFIDENCE)
    value = answered / n
    result: GateResult = "pass" if interval.low >= least else "fail" if interval.high < least else "hold"
    missed = "" if result == "pass" else ": a cascade that answers so little is not worth its complexity (promote.min_share)"
    sentence = (
        f"the student answers {answered} of {n} {evidence.requests_from} rows, {100 * value:.1f} % ({100 * CONFIDENCE:g} % interval {100 * interval.low:.1f} to "
        f"{100 * interval.high:.1f}), at least {100 * least:g} %{missed}"
    )
    return [Gate("share", result, value, least, "share", sentence, interval, CONFIDENCE)]


def ratio(evidence: Evidence, limits: RatioGate) -> list[Gate]:
    """Student ÷ teacher of one cost; no gate if the teacher is an endpoint that does not report its own cost.

    Raises:
        DataError: the student's own cost was not measured.
    """
    if limits.name == "faster":
        return [_faster(evidence, limits)]
    if evidence.answered is not None:
        return _of_cascade(evidence, limits)
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


def _of_cascade(evidence: Evidence, limits: RatioGate) -> list[Gate]:
    """Parameters that a request passes on average. Both models stay in memory, so a cascade is never lighter than its teacher."""
    student, teacher = evidence.student[0].cost, evidence.teacher[0].cost
    if limits.name == "lighter":
        if evidence.teacher[0].backend == ENDPOINT:
            return []
        return [
            Gate(
                "lighter",
                "fail",
                None,
                limits.below,
                "ratio",
                "a cascade keeps both models in memory, so it is not lighter than its teacher",
            )
        ]
    if student.parameters is None:
        raise DataError("the student's report has no value for parameters; benchmark the student from its weights, not through an endpoint")
    if not teacher.parameters:
        return []
    size, deferral = student.parameters / teacher.parameters, evidence.deferral
    value, low, high = (size + share for share in (deferral.value, deferral.interval.low, deferral.interval.high))
    result: GateResult = "pass" if high < limits.below else "fail" if low >= limits.below else "hold"
    sentence = (
        f"a request of the cascade passes {value * teacher.parameters:,.0f} parameters on average (the student's {student.parameters:,}, and the teacher's "
        f"{teacher.parameters:,} for {100 * deferral.value:.1f} % of the rows): {value:.2f} times the teacher's ({100 * CONFIDENCE:g} % interval {low:.2f} to "
        f"{high:.2f}), limit {limits.below:g}{_MISSED[result]}"
    )
    return [Gate("smaller", result, value, limits.below, "ratio", sentence, Interval(low, high), CONFIDENCE)]


_MISSED: dict[GateResult, str] = {"pass": "", "fail": ": not below the limit", "hold": ": neither shown nor ruled out"}


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
    ratio, deferral = timing.request_ratio, evidence.deferral
    value = ratio.value + deferral.value
    low, high = ratio.interval.low + deferral.interval.low, ratio.interval.high + deferral.interval.high
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
    deferred = "" if evidence.answered is None else f", and the teacher answers {100 * deferral.value:.1f} % after it"
    sentence = (
        f"{evidence.subject} takes {value:.2f} times as long as the teacher for a request ({100 * CONFIDENCE:g} % interval {low:.2f} to {high:.2f}, "
        f"{len(timing.student.request_s)} requests to both in turns; {own_ms:.1f} and {their_ms:.1f} ms at the median{deferred}), "
        f"limit {limits.below:g}{note}"
    )
    return Gate("faster", result, value, limits.below, "ratio", sentence, Interval(low, high), CONFIDENCE)  # type: ignore[arg-type]


def _cost(cost: Cost, field: str) -> float | None:
    value = getattr(cost, field)
    return None if value is None else float(value)
