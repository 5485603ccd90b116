"""The cost of this cycle and when it pays, from measurements of the stages; and ``redistill estimate``, the same before a cycle runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from redistill.data import sources
from redistill.data.teacher_prompt import TeacherPrompt, chosen_examples
from redistill.data.templates import last_content, shown_chars
from redistill.data.types import Prompt
from redistill.errors import RedistillError
from redistill.evaluation.timing import Estimate, Timing, timing_from_json
from redistill.evaluation.types import EvalReport
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records
from redistill.operations.cycle_summary import CycleSummary
from redistill.operations.types import StageReceipt
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.report.economics import BreakEven, CycleCost, Month, Price, break_even, student_price, teacher_price
from redistill.report.operating_points import with_deferral
from redistill.statistics.types import Interval, Score
from redistill.teacher.types import TeacherCompletion
from tasks.locking.locked_traffic import locked_snapshots
from tasks.paths import ARTIFACTS, STATE
from tasks.promotion.choose_arm import with_arm
from tasks.registry.cycle_summaries import recent_cycles
from tasks.running.cycle_stages import every_stage
from tasks.stages.timing import TIMING

SECONDS = STATE / "stage_seconds.json"
_ASSUMED = {"generate": 300.0, "finetune": 450.0, "score": 1000.0, "benchmark": 20.0}
"""Where no cycle has run here yet, on two cores with a 135M teacher: tokens/s, and for the benchmark rows/s."""
_STARTUP_S = 45.0
NOTHING = Score(0.0, Interval(0.0, 0.0))
_QUIET_S = 60.0
"""A night that finds nothing changed, where none has been seen yet."""
_CHARS_PER_TOKEN = 4.0


def remember(receipts: Sequence[StageReceipt]) -> dict[str, float]:
    """Machine seconds of each stage's last complete run: of this cycle where it ran from nothing, else as it was remembered.

    A run that used a checkpoint or stored completions is not the stage's time. A later run replaces an earlier one, also where it is shorter: settings
    and code change. A stage that has never run from nothing here is left out.
    """
    known: dict[str, float] = read_json(SECONDS) if SECONDS.is_file() else {}
    known |= {r.stage: round(r.cost_s, 2) for r in receipts if r.outcome == "ran" and r.whole}
    write_json(SECONDS, known)
    return {r.stage: known[r.stage] for r in receipts if r.stage in known}


def economics(
    params: Params,
    receipts: Sequence[StageReceipt],
    arms: dict[str, EvalReport],
    timing: Timing,
    past: Sequence[CycleSummary],
    deferral: Score = NOTHING,
) -> dict[str, Any]:
    """The economics of a report: cost of the cycle, of a request with each arm, and the break-even of the system that was judged.

    ``past``: the cycles of the last 30 days. ``deferral``: the share that this system gives to the teacher; nothing for a student alone.
    """
    money = params.economics
    whole = CycleCost(remember(receipts), *_teacher_tokens(params, arms["teacher"]))
    unmeasured = [stage for stage in every_stage(params) if stage not in whole.seconds]
    prices = {who: teacher_price(money, params.teacher) if who in ("teacher", "prompted") else student_price(money) for who in arms}
    paces = {who: _pace(timing, who) for who in arms}
    cycle_usd = None if unmeasured else whole.usd(money, prices["teacher"])
    changed = any(r.outcome == "ran" for r in receipts)
    month = None if cycle_usd is None else _month(params, cycle_usd, past, changed)
    return {
        "cycle": {
            "seconds_now": round(sum(r.cost_s for r in receipts), 1),
            "seconds_whole": None if unmeasured else round(whole.total_s, 1),
            "unmeasured": unmeasured,
            "usd_whole": cycle_usd,
            "teacher_prompt_tokens": whole.prompt_tokens,
            "teacher_completion_tokens": whole.completion_tokens,
        },
        "usd_per_1000_requests": {
            who: None if (usd := prices[who].per_request(report.cost, paces[who])) is None else 1000 * usd for who, report in arms.items()
        },
        "usd_per_million_tokens": {who: prices[who].per_million_tokens(report.cost, paces[who]) for who, report in arms.items()},
        "joules_per_token": {who: None if (times := timing.of(who)) is None else times.joules_per_token for who in arms},
        "break_even": month and _pays(params, arms[params.promote.arm], arms["teacher"], timing, month, deferral),
        "deferred": dataclasses.asdict(deferral),
        "month": month and dataclasses.asdict(month),
        "requests_per_month": money.requests_per_month,
        "cycles_per_month": money.cycles_per_month,
        "machine_usd_per_hour": money.machine_usd_per_hour,
    }


def _pace(timing: Timing, who: str) -> float | None:
    """Seconds for a completion token in full batches; every student has that of their architecture, which the ratio gives."""
    times = timing.of(who)
    if times is timing.student:
        return timing.student_pace.value
    return None if times is None or times.pace is None else times.pace.value


def usd_per_request(params: Params, report: EvalReport, teacher: EvalReport, timing: Timing, deferral: Score | None) -> Estimate | None:
    """USD for one request; None where it has no price.

    Args:
        report: of the student, or of a cascade, whose cost is its student's.
        deferral: share of the requests that go to the teacher after the student; None for the teacher itself.
    """
    teacher_usd = teacher_price(params.economics, params.teacher).per_request(teacher.cost, _pace(timing, "teacher"))
    if deferral is None:
        return None if teacher_usd is None else Estimate(teacher_usd, Interval(teacher_usd, teacher_usd))
    pace, price = timing.student_pace, student_price(params.economics)
    usd, least, most = (price.per_request(report.cost, s) for s in (pace.value, pace.interval.low, pace.interval.high))
    if usd is None or least is None or most is None or teacher_usd is None:
        return None
    return with_deferral(Estimate(usd, Interval(least, most)), teacher_usd, deferral)


def _pays(
    params: Params, student: EvalReport, teacher: EvalReport, timing: Timing, month: Month, deferral: Score = NOTHING
) -> dict[str, Any] | None:
    """The break-even with its intervals; None where a request has no price. ``deferral``: of the system that would go live."""
    usd, theirs = (usd_per_request(params, report, teacher, timing, share) for report, share in ((student, deferral), (teacher, None)))
    if usd is None or theirs is None:
        return None
    return break_even_tree(break_even(usd, theirs.value, month, params.economics.requests_per_month))


def _month(params: Params, cycle_usd: float, past: Sequence[CycleSummary], changed_now: bool) -> Month:
    """Whole cycles for changes, as params or the last 30 days have them (one at least), and quiet nights at what they took."""
    money, past = params.economics, [cycle for cycle in past if cycle.status == "completed"]
    seen = sum(cycle.ran > 0 for cycle in past) + changed_now
    changes = money.changes_per_month or max(1, seen)
    quiet_s = [cycle.seconds for cycle in past if cycle.ran == 0]
    quiet_usd = (median(quiet_s) if quiet_s else _QUIET_S) / 3600 * (money.machine_usd_per_hour or 0.0)
    return Month(changes, max(0, money.cycles_per_month - changes), cycle_usd, quiet_usd)


def break_even_tree(pays: BreakEven) -> dict[str, Any]:
    return {**dataclasses.asdict(pays), "verdict": pays.verdict}


def _teacher_tokens(params: Params, teacher: EvalReport) -> tuple[int, int]:
    """Prompt and completion tokens of all that ``generate`` holds; what came from the store was charged in an earlier cycle."""
    rows = read_records(ARTIFACTS / "completions" / "completions.parquet", TeacherCompletion)
    completion = sum(len(row.token_ids) or len(row.text.split()) for row in rows)
    return round(len(rows) * (teacher.cost.prompt_tokens_per_request or 0.0)), completion


def estimate(params: Params) -> dict[str, Any]:
    """What a cycle without stored results will take, before any teacher call: rows, tokens, hours, money, disk, and the volume that pays for it.

    It uses the rates of the last cycle if one has run here, otherwise assumed rates, and says which.

    Raises:
        DataError: a source that cannot be read.
    """
    params, splits = with_arm(params), sources.load(params.data, Path(), locked_snapshots())
    prompts = [p for split in ("pool", "calibration") for p in splits.get(split, [])]
    rows = {split: len(splits.get(split, [])) for split in ("heldout", "calibration", "dev", "monitor")}
    known: dict[str, float] = read_json(SECONDS) if SECONDS.is_file() else {}
    reports = {who: benchmark_report(who) for who in ("teacher", params.promote.arm)}
    teacher = reports["teacher"]
    chars = sum(len(last_content(p, params.data)) for p in prompts)
    teacher_only = _teacher_only_tokens(params, splits.get("train", []))
    prompt_tokens = (math.ceil(chars / _CHARS_PER_TOKEN) + teacher_only * len(prompts)) * params.generate.samples
    per_completion = teacher.cost.tokens_per_request if teacher and teacher.cost.tokens_per_request else float(params.generate.max_tokens)
    completion_tokens = math.ceil(len(prompts) * params.generate.samples * per_completion)
    seconds = _seconds(params, known, prompt_tokens, completion_tokens, rows)
    whole = CycleCost(seconds, prompt_tokens, completion_tokens)
    price = teacher_price(params.economics, params.teacher)
    usd = whole.usd(params.economics, price)
    found: dict[str, Any] = {
        "rows_to_ask": len(prompts) * params.generate.samples,
        "teacher_prompt_tokens": prompt_tokens,
        "teacher_completion_tokens": completion_tokens,
        "teacher_only_tokens": teacher_only,
        "teacher_only_usd_per_month": _monthly_usd(teacher_only, params, price) if teacher_only else None,
        "hours": round(whole.total_s / 3600, 3),
        "seconds": {k: round(v, 1) for k, v in seconds.items()},
        "measured": sorted(set(seconds) & set(known)),
        "usd": usd,
        "disk_bytes": _disk(params),
        "break_even": None,
        "why_no_break_even": None,
        "month": None,
    }
    student = reports[params.promote.arm]
    timing = timing_from_json(read_json(TIMING)) if TIMING.is_file() else None
    if usd is None:
        found["why_no_break_even"] = "economics.machine_usd_per_hour is not set"
    elif teacher is None or student is None or timing is None:
        found["why_no_break_even"] = "no student and teacher have been benchmarked here yet"
    else:
        month = _month(params, usd, _past(params), changed_now=False)
        found["month"] = dataclasses.asdict(month)
        found["break_even"] = _pays(params, student, teacher, timing, month, _last_deferral())
        if found["break_even"] is None:
            found["why_no_break_even"] = "the teacher has no price; set teacher.usd_per_million_completion_tokens"
    return found


def _teacher_only_tokens(params: Params, train: Sequence[Prompt]) -> int:
    """Tokens of a request that only the teacher reads, approximately: its system text and its examples."""
    shown = params.teacher.prompt
    if not shown.shows_anything:
        return 0
    examples = chosen_examples(train, shown.examples, params.data, "teacher.prompt.examples") if shown.examples else ()
    return math.ceil(shown_chars(TeacherPrompt(shown.system or "", examples), params.data) / _CHARS_PER_TOKEN)


def _monthly_usd(prompt_tokens: int, params: Params, price: Price) -> float | None:
    """What prompt tokens of each request cost in a month; None for a local teacher, which is paid by its time."""
    tokens = prompt_tokens * params.economics.requests_per_month
    return tokens * price.usd_per_million_prompt_tokens / 1e6 if price.by_tokens else None


def _last_deferral() -> Score:
    """The share that the system of the last report gives to the teacher."""
    file = ARTIFACTS / "report" / "report.json"
    deferred = (read_json(file).get("economics") or {}).get("deferred") if file.is_file() else None
    return Score(deferred["value"], Interval(**deferred["interval"])) if deferred else NOTHING


def _past(params: Params) -> list[CycleSummary]:
    """The last cycles, if there is an MLflow store; an estimate does not create one."""
    own = STATE / "mlflow" / "mlflow.db"
    return recent_cycles(params) if own.is_file() or not mlflow_names.tracking_uri(STATE).startswith("sqlite") else []


def _seconds(params: Params, known: dict[str, float], prompt_tokens: int, completion_tokens: int, rows: dict[str, int]) -> dict[str, float]:
    """Seconds by stage: measured ones as they were, others by assumed rates."""
    train = params.finetune.common.tokens / _ASSUMED["finetune"] + _STARTUP_S / 3
    guess = {
        "prepare": 10.0,
        "tune_teacher": 0.0 if params.tune_teacher.method == "off" else 240.0,
        "init_student": 5.0,
        "generate": completion_tokens / _ASSUMED["generate"] + _STARTUP_S,
        "validate": 15.0,
        "score": 0.0 if params.score.top_k == 0 else (prompt_tokens + completion_tokens) / _ASSUMED["score"] + _STARTUP_S / 3,
        "finetune": train,
        "sweep": train + _STARTUP_S / 3,
        "timing": 2.0 * params.benchmark.latency_requests + _STARTUP_S / 3,
        "benchmark": (rows["monitor"] or rows["heldout"]) / _ASSUMED["benchmark"] + _STARTUP_S / 3,
        "heldout": rows["heldout"] / _ASSUMED["benchmark"] + _STARTUP_S / 3,
        "fitness": (rows["dev"] + rows["calibration"]) / _ASSUMED["benchmark"] + _STARTUP_S / 3,
        "calibrate": rows["calibration"] / _ASSUMED["benchmark"] + _STARTUP_S / 3,
    }
    return {stage: known.get(stage, guess[stage.partition("@")[0]]) for stage in every_stage(params)}


def benchmark_report(who: str) -> EvalReport | None:
    """What was measured of an arm or the teacher; None if nothing was."""
    from redistill.evaluation.summary import report_from_json

    file = ARTIFACTS / "benchmark" / who / "report.json"
    return report_from_json(read_json(file)) if file.is_file() else None


def _disk(params: Params) -> int | None:
    """Teacher, base, arms, and the registered copy; DVC's cache holds another of each. None where no model is here to be measured."""
    from redistill.models import weights_source

    try:
        folder = (
            ARTIFACTS / "base" if (ARTIFACTS / "base").is_dir() else weights_source.resolve(params.teacher.model, params.teacher.revision)
        )
    except RedistillError:
        return None
    student = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    teacher_folder = ARTIFACTS / "teacher"
    teacher = sum(f.stat().st_size for f in teacher_folder.rglob("*") if f.is_file()) if teacher_folder.is_dir() else student
    return 2 * (teacher + student * (1 + len(params.finetune.arms))) + student
