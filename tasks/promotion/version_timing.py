"""The timing of a checkpoint: that of the cycle if the architecture is the same, else a new one, which is stored."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from redistill.errors import DataError
from redistill.evaluation.timing import Timing, architecture, timing_from_json
from redistill.io.digests import canonical_digest, file_digest
from redistill.io.json import read_json
from redistill.params import Params
from redistill.runtime.environment import child_environment
from redistill.runtime.precision import resolved
from tasks.locking.locked_code import locked_code
from tasks.locking.locked_teacher import TEACHER
from tasks.paths import LOCK, STATE
from tasks.results.memos import remember, remembered
from tasks.results.rows import shown_rows
from tasks.stages.timing import TIMING


def timing_of(student: str, params: Params, weights: Callable[[], Path]) -> Timing:
    """The times of an architecture and of the locked teacher. ``weights`` are loaded only if it must be timed now.

    Raises:
        DataError: there is no teacher, or the timing failed.
        RegistryError: the weights cannot be loaded.
    """
    teacher = _teacher()
    if TIMING.is_file():
        found = timing_from_json(read_json(TIMING))
        if (found.student.architecture, found.teacher.architecture) == (student, teacher):
            return found
    key_parts = [student, teacher, file_digest(shown_rows(params.data).file), str(params.data), str(params.benchmark)]
    key = canonical_digest([*key_parts, locked_code("timing"), resolved()])
    memo = STATE / "timings" / f"{key[:32]}.json"
    if not remembered(memo):
        command = [
            sys.executable,
            "-m",
            "tasks.running.stage_command",
            "timing",
            "--checkpoint",
            str(weights()),
            "--out",
            str(memo),
            "--who",
            "version",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
        if done.returncode or not memo.is_file():
            raise DataError(f"its architecture could not be timed: {' / '.join(done.stderr.strip().splitlines()[-3:])}")
        remember(memo)
    return timing_from_json(read_json(memo))


def _teacher() -> str:
    """What is timed as the teacher: an architecture, or the endpoint as it was locked."""
    lock = read_json(LOCK)
    return str(lock["current"]["digest"]) if lock["source"]["backend"] == "openai" else architecture(TEACHER)
