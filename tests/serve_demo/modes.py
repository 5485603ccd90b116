"""Quality, share and time of each mode, beside what the benchmark measured of the same rows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from redistill.data.types import Prompt
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.serving.route_flag import read_route
from redistill.statistics.shares import share
from redistill.statistics.types import Score
from tasks.paths import ARTIFACTS
from tasks.registry.transitions import FLAGS
from tests.serve_demo.checks import Checks, shown
from tests.serve_demo.client import AT_A_TIME, Answered

_COULD_NOT = {"malformed", "cut-off", "student-timeout"}


def say_mode(mode: str, answers: Sequence[Answered]) -> None:
    right = share(sum(a.right for a in answers), len(answers))
    by_student = share(sum(a.who == "student" for a in answers), len(answers))
    times = sorted(a.seconds for a in answers)
    print(
        f"{mode:<8} exactly right {shown(right)}, the student answers {shown(by_student)}, p50 {statistics.median(times):.2f} s, "
        f"p95 {times[int(0.95 * len(times))]:.2f} s ({AT_A_TIME} requests at a time), {len(answers)} rows",
        flush=True,
    )


def expected(mode: str, rows: Sequence[Prompt]) -> tuple[Score, Score]:
    """What the benchmark measured of the same rows: the share exactly right, and the share that the student answers."""
    arm, cascade = read_json(ARTIFACTS / "report" / "report.json")["candidate"], read_route(FLAGS).cascade
    by_id = {
        name: {o.prompt_id: o for o in read_records(ARTIFACTS / "benchmark" / name / "outcomes.parquet", Outcome)}
        for name in (arm, "teacher")
    }

    def by_student(row: Prompt) -> bool:
        if mode != "cascade":
            return mode == "student"
        assert cascade is not None
        return cascade.choose(by_id[arm][row.id].confidences, by_id[arm][row.id].objection).answers == "student"

    chosen = [by_student(row) for row in rows]
    right = [by_id[arm if student else "teacher"][row.id].exact for row, student in zip(rows, chosen, strict=True)]
    return share(sum(right), len(rows)), share(sum(chosen), len(rows))


def agrees(checks: Checks, mode: str, rows: Sequence[Prompt], answers: Sequence[Answered]) -> None:
    """The quality and the share of a mode are those that the benchmark measured of the same rows, within its interval."""
    quality, answered = expected(mode, rows)
    right, part = (sum(values) / len(answers) for values in ([a.right for a in answers], [a.who == "student" for a in answers]))
    assert quality.interval is not None and answered.interval is not None
    # Alone, the student is measured with its mistakes; the router has the teacher answer what cannot be used, so it can only be better.
    fits = quality.interval.low <= right and (mode == "student" or right <= quality.interval.high)
    checks.say(f"{mode}: quality as measured", fits, f"{right:.1%} exactly right, the benchmark of these rows says {shown(quality)}")
    if mode == "cascade":
        fits = answered.interval.low <= part <= answered.interval.high
        checks.say("cascade: share of the student as measured", fits, f"{part:.1%}, the benchmark of these rows says {shown(answered)}")
    count = Counter(f"{a.who}, {a.reason}" for a in answers)
    seen = ", ".join(f"{n} {name}" for name, n in count.most_common())
    if mode == "teacher":
        checks.say("teacher: the student answers nothing", not any(a.who == "student" for a in answers), seen)
    elif mode == "student":
        helped = {a.reason for a in answers if a.who == "teacher"}
        checks.say("student: the teacher answers only what the student could not", helped <= _COULD_NOT, seen)
    else:
        print(f"     {seen}")
