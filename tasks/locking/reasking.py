"""Which teacher answers for which slice after a change: measures how much each slice moved, and writes ``answers_from`` into the lock."""

from __future__ import annotations

from typing import Any

from redistill.data.types import Prompt
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records
from redistill.operations.policy import ReaskPlan, SliceShift, plan
from redistill.params import Params
from redistill.statistics.shares import share_interval
from redistill.teacher.types import TeacherFingerprint
from tasks.locking import canary
from tasks.paths import ARTIFACTS, LOCK


def choose_reasking(params: Params, before: dict[str, Any], now: TeacherFingerprint) -> ReaskPlan:
    """Decide what an accepted teacher is asked again, and write it into the lock. ``before`` is the lock of the teacher that it replaces."""
    changes = int(before.get("changes", 0)) + 1
    shifts = _endpoint_shifts(before, now) if params.teacher.backend == "openai" else []
    chosen = plan(shifts, _slices(), changes, params.schedule)
    earlier: dict[str, str] = before["answers_from"]
    answers = {"default": now.digest, **{name: earlier.get(name, earlier["default"]) for name in chosen.kept}}
    lock = read_json(LOCK)
    write_json(LOCK, {**lock, "answers_from": answers, "changes": changes if chosen.kept else 0})
    return chosen


def _endpoint_shifts(before: dict[str, Any], now: TeacherFingerprint) -> list[SliceShift]:
    """Slices by the canaries of the two epochs, which have been asked already."""
    then, today = (canary.find(str(parts.get("canary", ""))) for parts in (before["current"]["parts"], now.parts))
    if then is None or today is None:
        return []
    counts = canary.moved_slices(then, today)
    return [SliceShift(name, "disagreement", n, moved / n, share_interval(moved, n, 0.05)) for name, (moved, n) in counts.items()]


def _slices() -> list[str]:
    """The slices of the prompts that the teacher is asked."""
    return sorted({p.slice for split in ("pool", "calibration") for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)})
