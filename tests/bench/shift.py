"""How far KL(old ‖ new) tells two teachers apart, and what it takes to measure.

``python -m tests.bench.shift`` in a project after a cycle: the locked teacher against its own soft targets, where the truth is 0 and what is found is the
coding's error, and the teacher before tuning against the same.
"""

from __future__ import annotations

import time
from pathlib import Path

from redistill.io.json import read_json
from redistill.models import weights_source
from redistill.params import load_params
from tasks.locking.locked_teacher import TEACHER
from tasks.locking.shift_of_weights import measure
from tasks.paths import LOCK


def main() -> None:
    params, answers_from = load_params(), read_json(LOCK)["answers_from"]
    raw = weights_source.resolve(params.teacher.model, params.teacher.revision)
    print("| teacher | slice | rows | nats a token (95 % interval) |\n|---|---|---|---|")
    for name, weights in (("the same", TEACHER), ("before tuning", Path(raw))):
        started = time.monotonic()
        for shift in measure(params, weights, answers_from):
            bounds = f"{shift.interval.low:.2g} to {shift.interval.high:.2g}"
            print(f"| {name} | {shift.slice} | {shift.rows} | {shift.value:.2g} ({bounds}) |", flush=True)
        print(f"| {name} | all |  | {time.monotonic() - started:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
