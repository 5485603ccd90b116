"""Sums up a cycle: what it did, cost and found, in the record that people compare over nights."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from redistill.errors import one_line
from redistill.evaluation.types import EvalReport, Metric
from redistill.io.disk_usage import freed_by_removing
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.operations.cycle_summary import CycleStatus, CycleSummary, Quality
from redistill.operations.types import StageReceipt
from redistill.params import Params
from redistill.report.economics import CycleCost, teacher_price
from redistill.teacher.types import TeacherCompletion
from redistill.teacher.use import TeacherUse
from tasks.paths import ARTIFACTS, LOCK, STATE
from tasks.reporting.economics import benchmark_report

_SHARE = {"student": 1.0, "teacher": 0.0}
"""What the student answers on a route, where the outcome does not say it."""


def summarise_cycle(
    params: Params,
    run_id: str,
    cycle: str,
    started_at: dt.datetime,
    receipts: Sequence[StageReceipt],
    status: CycleStatus,
    outcome: dict[str, Any] | None,
    error: BaseException | None = None,
) -> CycleSummary:
    """The summary of a cycle that ended. ``outcome`` is None, and ``error`` says why, if it did not come to its end."""
    use = _use(receipts)
    machine_s = sum(r.cost_s for r in receipts)
    reports = {who: benchmark_report(who) for who in (params.promote.arm, "teacher")} if status == "completed" else {}
    student, teacher = reports.get(params.promote.arm), reports.get("teacher")
    # Loading params replaces a metric that is left out.
    metric: Metric = params.promote.metric or "exact_match"
    outcome = outcome or {}
    route = str(outcome.get("route") or "")
    return CycleSummary(
        cycle=cycle,
        started_at=started_at,
        status=status,
        ran=sum(r.outcome == "ran" for r in receipts),
        seconds=(dt.datetime.now(dt.UTC) - started_at).total_seconds(),
        sentence=str(outcome.get("sentence") or (one_line(error) if error is not None else "")),
        verdict=str(outcome.get("verdict") or ""),
        version=str(outcome.get("model_version") or ""),
        route=route,
        student_share=outcome.get("student_share", _SHARE.get(route)),
        metric=metric,
        student=None if student is None else quality(student, metric),
        teacher=None if teacher is None else quality(teacher, metric),
        machine_s=machine_s,
        usd=_usd(params, machine_s, use, teacher),
        use=use,
        disk_bytes=freed_by_removing([ARTIFACTS, STATE, Path(".dvc")]),
        run_id=run_id,
    )


def quality(report: EvalReport, metric: Metric) -> Quality | None:
    """How good a model is by the metric that decides; of record metrics the report has the F1 over all rows."""
    if metric == "chrf":
        return None if report.chrf is None else Quality(report.chrf)
    score = report.exact_match if metric == "exact_match" else report.f1
    return Quality(score.value, score.interval.low, score.interval.high)


def teacher_use(receipts: Sequence[StageReceipt]) -> dict[str, int]:
    """What the cycle asked the teacher and what it did not have to ask; of the training rows, those that an earlier teacher completed."""
    current = read_json(LOCK)["current"]["digest"]
    rows = read_records(ARTIFACTS / "completions" / "completions.parquet", TeacherCompletion)
    earlier = [row for row in rows if row.teacher != current]
    tokens = sum(len(row.token_ids) or len(row.text.split()) for row in earlier)
    return {**asdict(_use(receipts)), "earlier_rows": len(earlier), "earlier_tokens": tokens}


def _use(receipts: Sequence[StageReceipt]) -> TeacherUse:
    return reduce(add, (r.teacher for r in receipts), TeacherUse())


def _usd(params: Params, machine_s: float, use: TeacherUse, teacher: EvalReport | None) -> float | None:
    """What the machine and the asked tokens cost; None where the machine has no price."""
    prompt_tokens = use.asked_rows * (teacher.cost.prompt_tokens_per_request or 0.0) if teacher is not None else 0.0
    cost = CycleCost({"cycle": machine_s}, round(prompt_tokens), use.asked_tokens)
    return cost.usd(params.economics, teacher_price(params.economics, params.teacher))
