"""Cheaper: as good as the teacher is not enough to replace it."""

from __future__ import annotations

import math

from redistill.errors import DataError
from redistill.gates.evidence import Evidence
from redistill.promote_params import RatioGate
from redistill.records import ENDPOINT, Cost, Gate, GateResult

_MEASURES = {
    "smaller": ("parameters", "student has {:,} parameters, the teacher {:,}", 1.0, "not fewer"),
    "faster": ("latency_p50_s", "student answers in {:.1f} ms at the median, the teacher in {:.1f} ms", 1e3, "not faster"),
    "lighter": ("peak_memory_bytes", "student needs {:.0f} MB of memory at its peak, the teacher {:.0f} MB", 1e-6, "not less"),
}


def ratio(evidence: Evidence, own: RatioGate) -> list[Gate]:
    """Student ÷ teacher of one cost; no gate where the teacher, behind an endpoint, does not tell its own.

    Raises:
        DataError: the student's own cost was not measured.
    """
    field, said, scale, short = _MEASURES[own.name]
    student, teacher = (_cost(m[0].cost, field) for m in (evidence.student, evidence.teacher))
    if student is None:
        raise DataError(f"the student's report has no number of {field}; benchmark it from its weights, not through an endpoint")
    if teacher is None or (own.name == "lighter" and evidence.teacher[0].backend == ENDPOINT):
        return []  # behind an endpoint, parameters are not told, and memory is that of the client
    value = student / teacher if teacher else math.inf
    passed = value < own.below
    shown = [int(v) if field == "parameters" else v * scale for v in (student, teacher)]
    limit = "" if own.below == 1.0 else f", a ratio of {value:.2f} (limit {own.below:g})"
    missed = "" if passed else f": {short}" if own.below == 1.0 else ": not below the limit"
    # A count of parameters is what it is; a time or a peak that was measured without an interval has shown nothing against the student.
    missing: GateResult = "fail" if field == "parameters" else "hold"
    return [Gate(own.name, "pass" if passed else missing, value, own.below, "ratio", said.format(*shown) + limit + missed)]


def _cost(cost: Cost, field: str) -> float | None:
    value = getattr(cost, field)
    return None if value is None else float(value)
