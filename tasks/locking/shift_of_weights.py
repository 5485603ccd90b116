"""``python -m tasks.locking.shift_of_weights FILE``: how much the locked weights moved on each slice, for ``tasks.locking.reasking``.

It runs in a process of its own, because it loads a model, and before the stages of the new teacher: the kept rows and the soft targets in
``artifacts`` are still those of the teacher before.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redistill.distillation.soft_targets.shards import SoftTargetFiles
from redistill.distillation.types import TrainingRow
from redistill.errors import StageError
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records
from redistill.operations.policy import SliceShift
from redistill.params import Params, load_params
from redistill.statistics.bootstrap import bootstrap_mean
from redistill.statistics.types import Interval
from tasks.locking.earlier_targets import SCORED, TARGETS
from tasks.locking.locked_teacher import TEACHER
from tasks.paths import ARTIFACTS, STATE

_KEPT = ARTIFACTS / "validated" / "kept.parquet"
_RESAMPLES = 2000
RunModule = Callable[[str, list[str]], tuple[int, Sequence[str]]]
"""Runs a module with arguments in a process of its own; returns its exit code and its last lines."""
_LEAST_ROWS = 20
"""With fewer, an interval by resampling says too little."""


def measure_in_process(answers_from: dict[str, str], run_module: RunModule) -> list[SliceShift]:
    """The shift of each slice that has enough rows with soft targets; empty if the earlier teacher left none.

    ``answers_from`` is that of the earlier lock. Rows of other teachers do not count: an interrupted cycle can leave rows of a teacher before.

    Raises:
        StageError: the weights cannot be loaded or run.
    """
    if not _KEPT.is_file() or not (SCORED / TARGETS).is_dir():
        return []
    file = STATE / "shift.json"
    write_json(file, {"answers_from": answers_from})
    code, lines = run_module("tasks.locking.shift_of_weights", [str(file)])
    if code:
        tail = tuple(lines)[-5:]
        raise StageError(f"the new teacher could not be compared with the one before: {' / '.join(tail)}", "lock", code, tail)
    shifts = [_shift(tree) for tree in read_json(file)["shifts"]]
    file.unlink()
    return shifts


def measure(params: Params, teacher: Path, answers_from: dict[str, str]) -> list[SliceShift]:
    """Compare the weights in ``teacher`` with the stored soft targets, on at most ``schedule.reask_rows`` rows of each slice."""
    from redistill.distillation.soft_targets.shift import shifts_of_rows
    from redistill.models.checkpoints import load_model
    from redistill.models.tokenizers import load_tokenizer, vocabulary_size
    from redistill.runtime.precision import dtype_name

    old = SoftTargetFiles(SCORED / TARGETS)
    named = [row for row in read_records(_KEPT, TrainingRow) if row.teacher == answers_from.get(row.slice, answers_from["default"])]
    rows = _chosen([row for row in named if row.key in old], params.schedule.reask_rows)
    if not rows:
        return []
    nats_of: dict[str, list[float]] = {}
    vocabulary = vocabulary_size(load_tokenizer(teacher))
    for row, nats in shifts_of_rows(load_model(teacher, dtype_name()), rows, old, params.score.batch_tokens, vocabulary):
        nats_of.setdefault(row.slice, []).append(nats)
    shifts = []
    for name, nats_N in sorted(nats_of.items()):
        if len(nats_N) >= _LEAST_ROWS:
            score = bootstrap_mean(nats_N, _RESAMPLES, params.benchmark.seed)
            shifts.append(SliceShift(name, "kl_nats", len(nats_N), score.value, score.interval))
    return shifts


def _chosen(rows: list[TrainingRow], most: int) -> list[TrainingRow]:
    """The same rows each time: prompt ids are digests, so their order has nothing to do with what the rows are about."""
    by_slice: dict[str, list[TrainingRow]] = {}
    for row in sorted(rows, key=lambda row: row.key):
        by_slice.setdefault(row.slice, []).append(row)
    return [row for chosen in by_slice.values() for row in chosen[:most]]


def _shift(tree: dict[str, Any]) -> SliceShift:
    return SliceShift(**{**tree, "interval": Interval(**tree["interval"])})


if __name__ == "__main__":
    FILE = Path(sys.argv[1])
    SHIFTS = measure(load_params(), TEACHER, read_json(FILE)["answers_from"])
    write_json(FILE, {"shifts": [dataclasses.asdict(shift) for shift in SHIFTS]})
