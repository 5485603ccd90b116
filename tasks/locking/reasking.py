"""Which teacher answers for which slice after a change: measures how much each slice moved, and writes ``answers_from`` into the lock."""

from __future__ import annotations

from typing import Any

from redistill.data.types import Prompt
from redistill.errors import StageError
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records
from redistill.operations.policy import ReaskPlan, SliceShift, plan
from redistill.params import Params
from redistill.statistics.shares import share_interval
from redistill.teacher.fingerprint import PROMPT
from redistill.teacher.types import TeacherFingerprint
from tasks.locking import canary, earlier_targets
from tasks.locking.shift_of_weights import RunModule, measure_in_process
from tasks.locking.teacher_lock import weights_in_training
from tasks.paths import ARTIFACTS, LOCK

DEFAULT = "default"


def choose_reasking(params: Params, before: dict[str, Any], now: TeacherFingerprint, run_module: RunModule) -> ReaskPlan:
    """Decide what an accepted teacher is asked again, and write it into the lock. ``before`` is the lock of the teacher that it replaces."""
    changes = int(before.get("changes", 0)) + 1
    local = params.teacher.backend != "openai"
    why_all = _why_all(params, before, now)
    shifts: list[SliceShift] = []
    if not local:
        shifts = _endpoint_shifts(before, now) if why_all is None else []
    elif why_all is None:
        try:
            shifts = measure_in_process(before["answers_from"], run_module)
        except StageError as error:
            # To measure only saves calls of the teacher, so it must not fail a night.
            why_all = str(error)
    # In answers_from, "default" stands for every slice that is not named. So a slice of that name cannot stay.
    shifts = [shift for shift in shifts if shift.slice != DEFAULT]
    chosen = plan(shifts, _slices(), changes, params.schedule, why_all)
    if local and chosen.kept:
        earlier_targets.keep(str(before["current"]["digest"]))
    earlier: dict[str, str] = before["answers_from"]
    answers = {DEFAULT: now.digest, **{name: earlier.get(name, earlier[DEFAULT]) for name in chosen.kept}}
    lock = read_json(LOCK)
    write_json(LOCK, {**lock, "answers_from": answers, "changes": changes if chosen.kept else 0})
    return chosen


def _why_all(params: Params, before: dict[str, Any], now: TeacherFingerprint) -> str | None:
    """Why nothing of an earlier teacher can stay; None if slices may."""
    if before["current"]["parts"].get(PROMPT) != now.parts.get(PROMPT):
        return "the new teacher is shown another prompt, so the same row asks it something else"
    if params.teacher.backend == "openai":
        return None
    if arms := weights_in_training(params):
        return f"arm {arms[0]} learns from the weights of the present teacher, so every row must be the present teacher's"
    if params.score.top_k == 0:
        return "score.top_k is 0, so no soft targets of the earlier teacher are stored to compare with"
    for part in ("tokenizer", "chat_template"):
        if before["current"]["parts"].get(part) != now.parts.get(part):
            return f"the new teacher has another {part.replace('_', ' ')}, so the same text is other tokens"
    return None


def _endpoint_shifts(before: dict[str, Any], now: TeacherFingerprint) -> list[SliceShift]:
    """Slices by the canaries of the two epochs, which have been asked already."""
    then, today = (canary.find(str(parts.get("canary", ""))) for parts in (before["current"]["parts"], now.parts))
    if then is None or today is None:
        return []
    counts = canary.moved_slices(then, today)
    return [SliceShift(name, "disagreement", n, moved / n, share_interval(moved, n, 0.05)) for name, (moved, n) in counts.items()]


def ask_everything() -> bool:
    """From now on the present teacher answers for every slice; returns whether that is a change. What it has completed already is not asked again."""
    lock = read_json(LOCK)
    changed: bool = lock["answers_from"] != {DEFAULT: lock["current"]["digest"]}
    write_json(LOCK, {**lock, "answers_from": {DEFAULT: lock["current"]["digest"]}, "changes": 0})
    return changed


def _slices() -> list[str]:
    """The slices of the prompts that the teacher is asked."""
    return sorted({p.slice for split in ("pool", "calibration") for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt)})
