"""``redistill estimate --rows``: hours, disk and money of a cycle that is much larger, from what the last cycle here measured.

Stages that read every row are extrapolated in proportion to the rows. What does not grow with them stays as it was measured: training has its budget of
tokens, and benchmarks have their own rows.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from redistill.errors import DataError
from redistill.io.disk_usage import files_below
from redistill.io.json import read_json
from redistill.params import Params
from redistill.teacher.params import TeacherParams
from tasks.paths import ARTIFACTS, STATE
from tasks.reporting.economics import SECONDS
from tasks.results.rates import measured_rates
from tasks.running.cycle_stages import every_stage

BY_ROWS = ("prepare", "generate", "validate", "score")
BY_REPLICAS = ("generate", "score")
_STORED = {
    "prompts": ARTIFACTS / "prompts",
    "completions": ARTIFACTS / "completions",
    "kept rows": ARTIFACTS / "validated",
    "soft targets": ARTIFACTS / "soft_targets",
    "completion store": STATE / "store" / "completions.sqlite",
}
_IN_DVC = ("prompts", "completions", "kept rows", "soft targets")
"""What DVC's cache holds too. On file systems without links to it, it is a second copy."""


def extrapolate(params: Params, rows: int, replicas: int) -> dict[str, Any]:
    """Seconds by stage, bytes by file, and money, for so many completions and so many replicas of the teacher.

    Raises:
        DataError: no cycle has run here, or one of its stages was never measured from its start.
    """
    seconds, asked = _measured_seconds(params), _asked_rows()
    factor, rates = rows / asked, measured_rates()
    by_stage = dict[str, float]()
    for stage, measured in seconds.items():
        if stage not in BY_ROWS:
            by_stage[stage] = measured
            continue
        rate = rates.get(stage)
        # Without a rate, the start counts as a part of the rows: too long rather than too short.
        start_s = max(0.0, measured - rate.seconds) if rate else 0.0
        work = rate.seconds_a_row * rows if rate else measured * factor
        by_stage[stage] = start_s + work / (replicas if stage in BY_REPLICAS and _can_be_shared(params.teacher) else 1)
    bytes_by_file = {name: math.ceil(_bytes(path) * factor) for name, path in _STORED.items()}
    shared = sum(by_stage[s] for s in BY_REPLICAS if s in by_stage) if _can_be_shared(params.teacher) else 0.0
    machine_s = sum(by_stage.values()) + shared * (replicas - 1)
    hourly = params.economics.machine_usd_per_hour
    return {
        "rows": rows,
        "replicas": replicas,
        "measured_rows": asked,
        "factor": round(factor, 2),
        "seconds": {stage: round(s, 1) for stage, s in by_stage.items()},
        "hours": round(sum(by_stage.values()) / 3600, 3),
        "machine_hours": round(machine_s / 3600, 3),
        "machine_usd": None if hourly is None else machine_s / 3600 * hourly,
        "tokens_usd": _tokens_usd(params.teacher, rows),
        "bytes": bytes_by_file,
        "disk_bytes": sum(bytes_by_file.values()) + sum(bytes_by_file[name] for name in _IN_DVC),
        "extrapolated": [s for s in BY_ROWS if s in by_stage],
        "from_a_rate": [s for s in BY_ROWS if s in by_stage and s in rates],
    }


def _measured_seconds(params: Params) -> dict[str, float]:
    known: dict[str, float] = read_json(SECONDS) if SECONDS.is_file() else {}
    missing = [stage for stage in every_stage(params) if stage not in known and not _off(params, stage)]
    if missing:
        raise DataError(
            f"nothing has measured {', '.join(missing[:4])} here from the start; run a whole cycle first (`redistill run`): --rows extrapolates from it"
        )
    return {stage: known[stage] for stage in every_stage(params) if stage in known}


def _off(params: Params, stage: str) -> bool:
    return (stage == "tune_teacher" and params.tune_teacher.method == "off") or (stage == "score" and params.score.top_k == 0)


def _asked_rows() -> int:
    file = ARTIFACTS / "completions" / "summary.json"
    asked = int(read_json(file).get("prompts", 0)) if file.is_file() else 0
    if not asked:
        raise DataError(f"{file} is missing or holds no completion; run a whole cycle first (`redistill run`): --rows extrapolates from it")
    return asked


def _can_be_shared(teacher: TeacherParams) -> bool:
    """An endpoint has its own machines."""
    return teacher.backend != "openai"


def _tokens_usd(teacher: TeacherParams, rows: int) -> float | None:
    """What an endpoint charges, if it has a price."""
    prompt, completion = teacher.usd_per_million_prompt_tokens, teacher.usd_per_million_completion_tokens
    if not (prompt or completion):
        return None
    report = ARTIFACTS / "benchmark" / "teacher" / "report.json"
    cost = read_json(report).get("cost", {}) if report.is_file() else {}
    a_row = [(cost.get(key) or 0.0) * price for key, price in (("prompt_tokens_per_request", prompt), ("tokens_per_request", completion))]
    return rows * sum(a_row) / 1e6


def _bytes(path: Path) -> int:
    return sum(stat.st_size for _, stat in files_below(path)) if path.exists() else 0
