"""A new teacher must deserve its place: it is compared with the one that it replaces on the rows that people look at, before anything depends on it.

Sealed held-out rows are not asked: each decision that people learn of would cost a part of the level of the promotions.

The cycle locks the new teacher and benchmarks it as usual. If a loss of ``promote.new_teacher_margin`` is not ruled out, the files of the previous teacher come
back from DVC's cache: its lock, its weights and its benchmark. So the lock, the route and the students stay as they were. The state before is
kept in a folder until the decision, so that a crash in between does not leave an undecided teacher in place.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redistill.errors import DataError
from redistill.io.json import read_json, write_json
from redistill.operations.policy import ReaskPlan
from redistill.params import Params
from redistill.promotion.gates.non_inferiority import non_inferior
from redistill.provenance import dvc_lock
from redistill.runtime.environment import child_environment
from redistill.runtime.identity import current_user
from redistill.teacher.types import TeacherFingerprint
from tasks.locking import teacher_lock
from tasks.locking.reasking import choose_reasking
from tasks.paths import ARTIFACTS, LOCK, STATE
from tasks.registry import transitions
from tasks.registry.history import Kind
from tasks.registry.runs_and_versions import connect
from tasks.results.measurements import read_open
from tasks.results.rows import shown_rows
from tasks.running import dvc_stage
from tasks.running.cycle_stages import BEFORE_LOCK, TEACHER
from tasks.running.fork_server import ForkServer

BEFORE = STATE / "teacher-before"
ACCEPTED = STATE / "accepted-teachers.json"
_BENCHMARK = ARTIFACTS / "benchmark" / "teacher"
_FILES = (LOCK, Path("dvc.lock"))


@dataclass(frozen=True, slots=True)
class TeacherTrial:
    """The decision about a new teacher, in one sentence."""

    accepted: bool
    sentence: str
    reasking: ReaskPlan | None = None
    """What an accepted teacher is asked again."""


def keep_before() -> str | None:
    """Keep the state of the present teacher until the trial is decided; returns its digest, or None if no teacher is locked yet.

    What an interrupted cycle left is restored first.
    """
    if BEFORE.is_dir():
        restore()
    if not all(file.is_file() for file in _FILES) or not (_BENCHMARK / "report.json").is_file():
        return None
    unfinished = BEFORE.with_name(f"{BEFORE.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for file in _FILES:
        shutil.copy2(file, unfinished / file.name)
    shutil.copytree(_BENCHMARK, unfinished / "benchmark")
    unfinished.rename(BEFORE)
    return str(read_json(LOCK)["current"]["digest"])


def forget() -> None:
    """The teacher is decided."""
    if BEFORE.is_dir():
        decided = BEFORE.with_name(f"{BEFORE.name}.decided")
        shutil.rmtree(decided, ignore_errors=True)
        BEFORE.rename(decided)
        shutil.rmtree(decided)


def restore() -> None:
    """Bring the previous teacher back: its lock, and what DVC made with it.

    Raises:
        StageError: DVC's cache does not have its files any more.
    """
    shutil.copy2(BEFORE / "dvc.lock", "dvc.lock")
    made = dvc_lock.read(Path("dvc.lock"))
    # What a trial makes, and no more: dvc.yaml may have stages that this project never runs.
    dvc_stage.dvc("checkout", "--force", *(stage for stage in (*BEFORE_LOCK, *TEACHER) if stage in made))
    shutil.copy2(BEFORE / LOCK.name, LOCK)
    forget()


def try_teacher(params: Params, before: str | None, now: TeacherFingerprint, fork_server: ForkServer) -> TeacherTrial | None:
    """Decide about the locked teacher ``now``, and restore the previous one if it is refused; None if the teacher is the same or the first.

    Raises:
        StageError: as ``restore``.
    """
    if before is None or before == now.digest:
        forget()
        return None
    trial = _judged(params, before, now)
    _record(params, now, trial)
    if not trial.accepted:
        restore()
        return trial
    chosen = choose_reasking(
        params,
        read_json(BEFORE / LOCK.name),
        now,
        lambda module, arguments: fork_server.streamed(module, arguments, child_environment(), lambda line: None),
    )
    forget()
    return replace(trial, reasking=chosen)


def _judged(params: Params, before: str, now: TeacherFingerprint) -> TeacherTrial:
    change = f"new teacher {now.digest[:12]} in the place of {before[:12]}"
    if (reason := accepted_by_person(teacher_lock.raw_fingerprint(params))) is not None:
        return TeacherTrial(True, f"{change}: accepted by a person: {reason}")
    if _named_otherwise_before(read_json(BEFORE / LOCK.name)["current"]["parts"], now.parts):
        return TeacherTrial(True, f"{change}: the same endpoint, which canaries identify from now on")
    try:
        margin, level = params.promote.new_teacher_margin, params.promote.alpha_per_heldout
        gate = non_inferior(
            "new teacher",
            read_open(_BENCHMARK),
            "previous teacher",
            read_open(BEFORE / "benchmark"),
            margin,
            level,
            params.promote,
            split="held-out" if shown_rows(params.data).split == "heldout" else "monitor",
        )
    except DataError as error:
        # Rows, template or metric changed together with the teacher: there is nothing to compare, and promote.min_teacher still holds.
        return TeacherTrial(True, f"{change}: accepted without a comparison ({error})")
    if gate.passed:
        return TeacherTrial(True, f"{change}: accepted, {gate.sentence}")
    return TeacherTrial(
        False,
        f"{change}: refused, {gate.sentence}; the previous one stays. To use the new one all the same: "
        "`redistill lock --accept-teacher --reason REASON`; to stay with the previous one, name its revision in teacher.revision",
    )


def _named_otherwise_before(before: dict[str, str], now: dict[str, str]) -> bool:
    """Whether only the way to identify an endpoint is another: versions before the canaries used what it said of itself."""
    same = ("model", "revision", "url")
    return "canary" in now and "canary" not in before and all(before.get(part) == now[part] for part in same)


def accept(params: Params, reason: str) -> str:
    """A person accepts the teacher that params name, whatever the comparison says; returns its fingerprint."""
    raw = teacher_lock.raw_fingerprint(params)
    accepted = _accepted()
    write_json(ACCEPTED, {**accepted, raw: {"by": current_user(), "reason": reason}})
    return raw


def accepted_by_person(raw: str) -> str | None:
    """Who accepted this teacher, and why; None if nobody did."""
    entry = _accepted().get(raw)
    return None if entry is None else f"{entry['by']}: {entry['reason']}"


def _accepted() -> dict[str, Any]:
    try:
        return dict(json.loads(ACCEPTED.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def _record(params: Params, now: TeacherFingerprint, trial: TeacherTrial) -> None:
    """One entry in the history for each teacher and decision, however many nights repeat it."""
    client = connect(params)
    kind: Kind = "teacher-accepted" if trial.accepted else "teacher-refused"
    reason = f"{now.name}: {trial.sentence}"
    if any(event.kind == kind and event.reason == reason[:4000] for event in transitions.history(client, params)):
        return
    transitions.record(client, params, kind, None, reason, transitions.live(client, params))
