"""What this cycle cost and when it pays, from what the stages measured; and ``redistill estimate``, the same before it runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redistill import sources
from redistill.artifacts import read_json, read_records, write_json
from redistill.config import Params
from redistill.economics import BreakEven, CycleCost, break_even, student_price, teacher_price
from redistill.errors import RedistillError
from redistill.records import EvalReport, StageReceipt, TeacherCompletion
from tasks.edge import ARTIFACTS, STATE

SECONDS = STATE / "stage_seconds.json"
_ASSUMED = {"generate": 300.0, "finetune": 450.0, "score": 1000.0, "benchmark": 20.0}
"""Where no cycle has run here yet, on two cores with a 135M teacher: tokens/s, and for the benchmark held-out rows/s."""
_STARTUP_S = 45.0
_CHARS_PER_TOKEN = 4.0


def remember(receipts: Sequence[StageReceipt]) -> dict[str, float]:
    """What each stage takes when it runs: this cycle's seconds over what earlier ones took, for those that had nothing to do."""
    known: dict[str, float] = read_json(SECONDS) if SECONDS.is_file() else {}
    # The longest counts: a stage whose answers came from the store, or that went on where it was killed, ran, but not from nothing.
    known |= {r.stage: max(known.get(r.stage, 0.0), round(r.seconds, 2)) for r in receipts if r.outcome == "ran"}
    write_json(SECONDS, known)
    return {r.stage: known[r.stage] for r in receipts if r.stage in known}


def economics(params: Params, receipts: Sequence[StageReceipt], arms: dict[str, EvalReport]) -> dict[str, Any]:
    """The economics of a report: cost of the cycle, of a request with each arm, and the break-even."""
    whole = CycleCost(remember(receipts), *_teacher_tokens(params, arms["teacher"]))
    prices = {who: teacher_price(params.economics, params.teacher) if who == "teacher" else student_price(params.economics) for who in arms}
    per_request = {who: prices[who].per_request(report.cost) for who, report in arms.items()}
    complete = len(whole.seconds) == len(receipts)
    cycle_usd = whole.usd(params.economics, prices["teacher"]) if complete else None
    student, teacher = per_request[params.promote.arm], per_request["teacher"]
    pays = None if student is None or teacher is None or cycle_usd is None else break_even(student, teacher, cycle_usd, params.economics)
    return {
        "cycle": {
            "seconds_now": round(sum(r.seconds for r in receipts), 1),
            "seconds_whole": round(whole.total_s, 1) if complete else None,
            "usd_whole": cycle_usd,
            "teacher_prompt_tokens": whole.prompt_tokens,
            "teacher_completion_tokens": whole.completion_tokens,
        },
        "usd_per_1000_requests": {who: None if usd is None else 1000 * usd for who, usd in per_request.items()},
        "usd_per_million_tokens": {who: prices[who].per_million_tokens(report.cost) for who, report in arms.items()},
        "joules_per_token": {who: report.cost.joules_per_token for who, report in arms.items()},
        "break_even": pays and told(pays),
        "requests_per_month": params.economics.requests_per_month,
        "cycles_per_month": params.economics.cycles_per_month,
        "machine_usd_per_hour": params.economics.machine_usd_per_hour,
    }


def told(pays: BreakEven) -> dict[str, Any]:
    return {**dataclasses.asdict(pays), "worth_it": pays.worth_it}


def _teacher_tokens(params: Params, teacher: EvalReport) -> tuple[int, int]:
    """Prompt and completion tokens of all that ``generate`` holds; what came from the store was paid for once, in an earlier cycle."""
    rows = read_records(ARTIFACTS / "completions" / "completions.parquet", TeacherCompletion)
    completion = sum(len(row.token_ids) or len(row.text.split()) for row in rows)
    return round(len(rows) * (teacher.cost.prompt_tokens_per_request or 0.0)), completion


def estimate(params: Params) -> dict[str, Any]:
    """What a cycle from nothing will take, before anything is asked: rows, tokens, hours, money, disk, and the volume that pays for it.

    From the last cycle's rates where one has run here, from assumed ones otherwise, which it says.

    Raises:
        DataError: a source that cannot be read.
    """
    splits = sources.load(params.data, Path())
    asked = [p for split in ("pool", "calibration") for p in splits.get(split, [])]
    heldout = len(splits.get("heldout", []))
    known: dict[str, float] = read_json(SECONDS) if SECONDS.is_file() else {}
    reports = {who: _report(who) for who in ("teacher", params.promote.arm)}
    teacher = reports["teacher"]
    chars = sum(len(params.data.prompt_template.replace("{text}", p.text)) for p in asked)
    prompt_tokens = math.ceil(chars / _CHARS_PER_TOKEN) * params.generate.samples
    per_completion = teacher.cost.tokens_per_request if teacher and teacher.cost.tokens_per_request else float(params.generate.max_tokens)
    completion_tokens = math.ceil(len(asked) * params.generate.samples * per_completion)
    seconds = _seconds(params, known, prompt_tokens, completion_tokens, heldout)
    whole = CycleCost(seconds, prompt_tokens, completion_tokens)
    price = teacher_price(params.economics, params.teacher)
    usd = whole.usd(params.economics, price)
    found: dict[str, Any] = {
        "rows_to_ask": len(asked) * params.generate.samples,
        "teacher_prompt_tokens": prompt_tokens,
        "teacher_completion_tokens": completion_tokens,
        "hours": round(whole.total_s / 3600, 3),
        "seconds": {k: round(v, 1) for k, v in seconds.items()},
        "measured": sorted(set(seconds) & set(known)),
        "usd": usd,
        "disk_bytes": _disk(params),
        "break_even": None,
        "why_no_break_even": None,
    }
    student = reports[params.promote.arm]
    if usd is None:
        found["why_no_break_even"] = "economics.machine_usd_per_hour is not set"
    elif teacher is None or student is None:
        found["why_no_break_even"] = "no student and teacher have been benchmarked here yet"
    else:
        costs = student_price(params.economics).per_request(student.cost), price.per_request(teacher.cost)
        if costs[0] is None or costs[1] is None:
            found["why_no_break_even"] = "the teacher has no price; set teacher.usd_per_million_completion_tokens"
        else:
            found["break_even"] = told(break_even(costs[0], costs[1], usd, params.economics))
    return found


def _seconds(params: Params, known: dict[str, float], prompt_tokens: int, completion_tokens: int, heldout: int) -> dict[str, float]:
    """Seconds by stage: measured ones as they were, others by assumed rates."""
    arms = params.finetune.arms
    train = params.finetune.common.tokens / _ASSUMED["finetune"] + _STARTUP_S / 3
    guess = {
        "prepare": 10.0,
        "tune_teacher": 0.0 if params.tune_teacher.method == "off" else 240.0,
        "init_student": 5.0,
        "generate": completion_tokens / _ASSUMED["generate"] + _STARTUP_S,
        "validate": 15.0,
        "score": 0.0 if params.score.top_k == 0 else (prompt_tokens + completion_tokens) / _ASSUMED["score"] + _STARTUP_S / 3,
        **{f"finetune@{arm}": train for arm in arms},
        **{f"benchmark@{who}": heldout / _ASSUMED["benchmark"] + _STARTUP_S / 3 for who in ("teacher", "linear", "base", *arms)},
    }
    return {stage: known.get(stage, seconds) for stage, seconds in guess.items()}


def _report(who: str) -> EvalReport | None:
    from redistill.evaluation import report_from_json

    file = ARTIFACTS / "benchmark" / who / "report.json"
    return report_from_json(read_json(file)) if file.is_file() else None


def _disk(params: Params) -> int | None:
    """Teacher, base, arms, and the registered copy; DVC's cache holds another of each. None where no model is here to be measured."""
    from redistill import checkpoints

    try:
        folder = ARTIFACTS / "base" if (ARTIFACTS / "base").is_dir() else checkpoints.resolve(params.teacher.model, params.teacher.revision)
    except RedistillError:
        return None
    student = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    teacher_folder = ARTIFACTS / "teacher"
    teacher = sum(f.stat().st_size for f in teacher_folder.rglob("*") if f.is_file()) if teacher_folder.is_dir() else student
    return 2 * (teacher + student * (1 + len(params.finetune.arms))) + student
