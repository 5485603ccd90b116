"""The cascade's part of the report: how it was calibrated, what it gives and costs, what it keeps and defers, and examples near its threshold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from redistill.data.grammars.types import labels_in
from redistill.evaluation.timing import Timing
from redistill.evaluation.types import EvalReport, Outcome
from redistill.params import Params
from redistill.promotion.cascade import Cascade
from redistill.promotion.evidence import BenchmarkResult
from redistill.promotion.system import System, system_of
from redistill.promotion.thresholds.types import CascadeCalibration, ScoreCurve
from redistill.report.operating_points import confidence_of, groups, operating_points, request_percentiles, with_deferral
from redistill.statistics.shares import share_interval
from redistill.statistics.types import Interval, Score
from tasks.promotion.live_system import arm_calibration
from tasks.reporting.economics import usd_per_request
from tasks.results.measurements import read_open
from tasks.results.rows import shown_rows

_NEAR = 4
"""Examples on each side of the threshold."""


def cascade_section(params: Params, timing: Timing) -> dict[str, Any] | None:
    """Calibrations of the arms, and the systems that they make with the teacher; None where nothing was calibrated."""
    rows = shown_rows(params.data)
    teacher = read_open(rows.results / "teacher")
    arms = {arm: read_open(folder) for arm in params.finetune.arms if (folder := rows.results / arm).is_dir()}
    calibrations = {arm: c for arm, measured in arms.items() if (c := arm_calibration(arm, measured[0].model_digest)) is not None}
    if not calibrations:
        return None
    texts = {p.id: p.text for p in rows.prompts()}
    return section_of(params, timing, teacher, arms, calibrations, texts)


def section_of(
    params: Params,
    timing: Timing,
    teacher: BenchmarkResult,
    arms: dict[str, BenchmarkResult],
    calibrations: dict[str, CascadeCalibration],
    texts: dict[str, str],
) -> dict[str, Any]:
    """The section from what was measured; ``texts`` are the messages of the rows by prompt id."""
    systems = {arm: _system(params, arms[arm], teacher, c.cascade) for arm, c in calibrations.items() if c.cascade is not None}
    candidate = params.promote.arm
    ratio = timing.request_ratio.value
    return {
        "candidate": candidate,
        "calibrations": {arm: _calibration(c) for arm, c in calibrations.items()},
        "systems": [
            _row("teacher", teacher[0], None, params, timing, teacher[0]),
            *(
                _row(f"{arm} alone", measured[0], Score(0.0, Interval(0.0, 0.0)), params, timing, teacher[0])
                for arm, measured in arms.items()
            ),
            *(_row(f"{arm} cascade", s.measured[0], _deferral(s), params, timing, teacher[0]) for arm, s in systems.items()),
        ],
        "plane": {
            arm: [dataclasses.asdict(p) for p in _points(params, arms[arm], teacher, system.cascade.score, ratio)]
            for arm, system in systems.items()
        },
        **(_of_candidate(params, arms[candidate], teacher, systems[candidate], texts) if candidate in systems else {}),
    }


def _system(params: Params, student: BenchmarkResult, teacher: BenchmarkResult, cascade: Cascade) -> System:
    return system_of(student, teacher, cascade, params.data.grammar, params.benchmark)


def _deferral(system: System) -> Score:
    """With the interval of the gate ``share``."""
    deferred = system.rows - system.answered
    return Score(deferred / system.rows, share_interval(deferred, system.rows, 0.05))


def _calibration(calibration: CascadeCalibration) -> dict[str, Any]:
    """The calibration without the curves of scores that were not chosen."""
    tree = dataclasses.asdict(calibration)
    chosen = calibration.cascade and calibration.cascade.score
    tree["curves"] = [
        {**dataclasses.asdict(curve), "points": _numbers(curve) if curve.score == chosen else []} for curve in calibration.curves
    ]
    return tree


def _numbers(curve: ScoreCurve) -> list[list[float]]:
    return [[point.answered, point.disagreement] for point in curve.points]


def _row(name: str, report: EvalReport, deferral: Score | None, params: Params, timing: Timing, teacher: EvalReport) -> dict[str, Any]:
    """One system of the table. ``deferral`` is None for the teacher itself."""
    usd = usd_per_request(params, report, teacher, timing, deferral)
    time = None if deferral is None else with_deferral(timing.request_ratio, 1.0, deferral)
    seconds = timing.teacher.shown() if deferral is None else request_percentiles(timing, deferral.value)
    return {
        "name": name,
        "exact_match": dataclasses.asdict(report.exact_match),
        "f1": dataclasses.asdict(report.f1),
        "answered": None if deferral is None else {"value": 1 - deferral.value, "interval": _complement(deferral.interval)},
        "request_time": {"value": 1.0, "interval": None} if time is None else dataclasses.asdict(time),
        "latency_p50_s": seconds["latency_p50_s"],
        "latency_p95_s": seconds["latency_p95_s"],
        "usd_per_1000": None
        if usd is None
        else {"value": 1000 * usd.value, "interval": [1000 * usd.interval.low, 1000 * usd.interval.high]},
    }


def _complement(interval: Interval) -> dict[str, float]:
    return {"low": 1 - interval.high, "high": 1 - interval.low}


def _points(params: Params, student: BenchmarkResult, teacher: BenchmarkResult, score: str, ratio: float) -> Sequence[Any]:
    student_rows, teacher_rows = _aligned(student, teacher)
    return operating_points(student_rows, teacher_rows, score, params.promote.scored_by, ratio)


def _aligned(student: BenchmarkResult, teacher: BenchmarkResult) -> tuple[list[Outcome], list[Outcome]]:
    by_doc = {outcome.doc_hash: outcome for outcome in teacher[1]}
    return list(student[1]), [by_doc[outcome.doc_hash] for outcome in student[1]]


def _of_candidate(
    params: Params, student: BenchmarkResult, teacher: BenchmarkResult, system: System, texts: dict[str, str]
) -> dict[str, Any]:
    student_rows, teacher_rows = _aligned(student, teacher)
    grammar = params.data.grammar

    def labels(outcome: Outcome) -> list[str]:
        return list(labels_in(grammar, outcome.target))

    deferred = [(o, t) for o, t, c in zip(student_rows, teacher_rows, system.choices, strict=True) if c.answers == "teacher"]
    worse = sum(t.exact for _, t in deferred) < sum(o.exact for o, _ in deferred)
    return {
        "slices": [dataclasses.asdict(g) for g in groups(student_rows, teacher_rows, system.cascade, lambda o: [o.slice])],
        "labels": [dataclasses.asdict(g) for g in groups(student_rows, teacher_rows, system.cascade, labels)]
        if grammar is not None
        else [],
        "teacher_worse_where_deferred": {
            "rows": len(deferred),
            "student_right": sum(o.exact for o, _ in deferred),
            "teacher_right": sum(t.exact for _, t in deferred),
        }
        if worse
        else None,
        "near": _near(student_rows, teacher_rows, system, texts),
    }


def _near(student_rows: Sequence[Outcome], teacher_rows: Sequence[Outcome], system: System, texts: dict[str, str]) -> list[dict[str, Any]]:
    """The rows just above and just below the threshold."""
    rows = sorted(zip(student_rows, teacher_rows, system.choices, strict=True), key=lambda row: confidence_of(row[0], system.cascade.score))
    rows = [row for row in rows if math.isfinite(confidence_of(row[0], system.cascade.score))]
    answered = [row for row in rows if row[2].answers == "student"][:_NEAR]
    deferred = [row for row in rows if row[2].answers == "teacher"][-_NEAR:]
    return [
        {
            "text": texts[o.prompt_id],
            "slice": o.slice,
            "target": o.target,
            "student": o.response,
            "teacher": t.response,
            "student_exact": o.exact,
            "teacher_exact": t.exact,
            "answers": choice.answers,
            "score": confidence_of(o, system.cascade.score),
        }
        for o, t, choice in reversed([*deferred, *answered])
    ]
