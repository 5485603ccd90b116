"""The only caller of DVC: one Prefect task runs one stage, in a process group of its own, with its log streamed.

DVC decides whether a stage is already made. One cycle works at a time (``tasks.running.cycle_lock``). Within a cycle several stages may run at once: DVC releases its repository lock while a stage's command runs, and ``--wait-for-lock`` makes it wait until it has the lock again.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redistill.errors import RedistillError, StageError
from redistill.io.atomic import replacing
from redistill.operations.types import StageReceipt
from redistill.provenance import dvc_lock
from redistill.provenance.dvc_lock import LockedStage
from redistill.runtime.environment import child_environment
from redistill.runtime.progress import CONTINUES, LINE
from redistill.teacher.use import TeacherUse, read_teacher_use
from tasks.paths import STATE
from tasks.running.fork_server import ForkServer
from tasks.running.reasons import reasons

_RESTORED = re.compile(r"is cached - skipping run|Checking out outputs")
_EXITED = re.compile(r"exited with (\d+)")
_UNCHANGED = re.compile(r"didn't change, skipping")
# What DVC and lm-eval print for a person at a terminal. `redistill stage NAME` shows it.
_NOISE = re.compile(
    r"^(Updating lock file|Generating lock file|Use `dvc push`|> PATH=|Running stage|Verifying|\s*$|To track|\s*git add|To enable auto"
    r"|fatal: not a git repository|`pretrained` model kwarg|Passed an already-initialized model|\S+: Custom kwargs can be passed"
    r"|For example --metadata=|Overwriting default num_fewshot|.*\d+%\|.*(it/s|s/it)\])"
)


_CACHE = Path(".dvc/cache")


def cache_directory() -> Path | None:
    """DVC's cache, if it lies in this project; None if it lies elsewhere, where other projects may use it too.

    Raises:
        StageError: DVC's settings cannot be read.
    """
    folder = cache_folder()
    return folder if folder.resolve().is_relative_to(Path.cwd().resolve()) and folder == _CACHE else None


def cache_folder() -> Path:
    """DVC's cache, wherever it lies.

    Raises:
        StageError: DVC's settings cannot be read.
    """
    config: Any = importlib.import_module("dvc.config")
    try:
        settings = config.Config(dvc_dir=str(_CACHE.parent.absolute()), validate=False)["cache"] if _CACHE.parent.is_dir() else {}
    except config.ConfigError as error:
        raise StageError(f"DVC's settings cannot be read ({error}); correct .dvc/config") from None
    named = settings.get("local") or settings.get("dir")
    return _CACHE if named is None or Path(named) == _CACHE.absolute() else Path(named)


def dvc(*arguments: str, project: Path | None = None) -> str:
    """Run one DVC command and return its standard output; ``project`` is another one than this, whose own code then runs.

    Raises:
        StageError: it failed; carries its last lines.
    """
    environment = child_environment()
    if project is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(project / "src"), str(project)])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, env=environment, cwd=project, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        tail = tuple([line for line in lines if line and not line.startswith("Having any troubles?")][-5:])
        raise StageError(f"dvc {' '.join(arguments)} failed: {' / '.join(tail)}", "dvc", done.returncode, tail)
    return done.stdout


def initialise() -> None:
    """Make the directory a DVC project on first use; with git where there is git, without where there is none.

    Where git does not hide ``.redistill`` from it, DVC would take the dvc.yaml of every signed bundle in there for a pipeline of this project.
    """
    if not Path(".dvc").is_dir():
        dvc("init", "-q", *([] if Path(".git").exists() else ["--no-scm"]))
    # DVC writes no .gitignore where it runs without git. In a folder of another repository, git would then add DVC's cache.
    if not Path(".dvc/.gitignore").is_file():
        Path(".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
    STATE.mkdir(exist_ok=True)
    (STATE / ".gitignore").write_text("*\n", encoding="utf-8")
    ignored = Path(".dvcignore")
    patterns = ignored.read_text(encoding="utf-8") if ignored.is_file() else ""
    if f"/{STATE}/" not in patterns.split():
        with replacing(ignored) as temporary:
            temporary.write_text(f"{patterns.rstrip()}\n/{STATE}/\n".lstrip(), encoding="utf-8")


_DVC_LOCK = Path("dvc.lock")


class Plan:
    """What is out of date according to DVC, read once per cycle, and which stages depend on which."""

    def __init__(self) -> None:
        self._status: dict[str, list[Any]] = json.loads(dvc("status", "--json") or "{}")
        self.changed: set[str] = set(self._status)
        self._stages = dvc_lock.read(_DVC_LOCK) if _DVC_LOCK.is_file() and _DVC_LOCK.stat().st_size else {}
        self.ran = set[str]()
        self.asked: dict[str, TeacherUse] = {}
        """What attempts of a stage asked that failed; a retry finds it in the store."""
        self._made_by = {out.path: name for name, s in self._stages.items() for out in s.outs}
        self._above = {name: {m for d in s.deps for m in self._makers(d.path)} for name, s in self._stages.items()}

    def _makers(self, path: str) -> set[str]:
        return {self._made_by[p] for p in _parents(path) if p in self._made_by}

    def still_made(self, stage: str) -> bool:
        """True if neither the stage nor anything that it depends on has changed. Only then its subprocess can be skipped."""
        if stage in self.changed or stage not in self._stages:
            return False
        return all(self.still_made(above) for above in self._above[stage])

    def why(self, stage: str, now: LockedStage) -> tuple[str, ...]:
        """What made this stage run: what differed when the cycle began, and what stages before it made since. ``now`` is its new entry in dvc.lock."""
        locked = self._stages.get(stage)
        before = {d.path: d.md5 for d in locked.deps} if locked else {}
        moved = {d.path for d in now.deps if locked and d.md5 != before.get(d.path)}
        made = sorted({f"{maker} ran" for path in moved for maker in self._makers(path) & self.ran})
        return tuple(dict.fromkeys((*reasons(stage, self._status.get(stage, []), locked), *made)))

    def touched(self, file: str) -> None:
        """A file that stages read as params was rewritten, so DVC must check these stages again."""
        self.changed |= {name for name, s in self._stages.items() if file in s.params}

    def outs(self, stage: str) -> dict[str, str]:
        return {out.path: out.md5 for out in self._stages[stage].outs} if stage in self._stages else {}


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts) + 1)]


def run_stage(
    stage: str,
    plan: Plan,
    fork_server: ForkServer,
    say: Callable[[str], None],
    progress: Callable[[str, int, int, str], None],
    limit_s: float = 86400.0,
) -> StageReceipt:
    """Bring one stage up to date and say how: ran, restored from DVC's run cache, or unchanged.

    Raises:
        StageError: the stage ended with an error, or ran for longer than ``limit_s``; carries its exit code and its last 30 log lines.
    """
    start = time.monotonic()
    if plan.still_made(stage):
        return StageReceipt(stage, "unchanged", plan.outs(stage), time.monotonic() - start)
    outcome, whole, errors, use = "ran", True, list[str](), TeacherUse()

    def hear(line: str) -> None:
        nonlocal outcome, whole, use
        errors.extend([line] if line.startswith("error: ") else [])
        whole = whole and not CONTINUES.match(line)
        use += read_teacher_use(line) or TeacherUse()
        outcome = "unchanged" if _UNCHANGED.search(line) else "restored" if _RESTORED.search(line) else outcome
        found = LINE.match(line)
        if found:
            progress(stage, int(found["done"]), int(found["total"]), found["rest"])
        if not _NOISE.match(line):
            say(line)

    # Ending one stage ends what runs beside it: the cycle fails in any case.
    timer = threading.Timer(limit_s, fork_server.stop)
    timer.daemon = True
    timer.start()
    try:
        code, lines = fork_server.streamed("dvc", ["--wait-for-lock", "repro", "--single-item", stage], child_environment(), hear)
    finally:
        timer.cancel()
    if code and time.monotonic() - start >= limit_s:
        raise StageError(
            f"stage {stage} ran for longer than {limit_s / 3600:g} hours (schedule.stage_hours) and was ended; find out why, or raise the limit",
            stage,
            code,
            tuple(lines),
        )
    use = plan.asked.pop(stage, TeacherUse()).then(use)
    if code:
        plan.asked[stage] = use
        raise _failed(stage, code, lines, errors)
    if outcome != "unchanged":
        plan.changed.add(stage)
        plan.ran.add(stage)
    with _repository_lock():
        now = dvc_lock.read(_DVC_LOCK).get(stage)
    if now is None:
        raise StageError(f"stage {stage} ran, but dvc.lock does not name it; was dvc.yaml edited meanwhile? Run the cycle again", stage)
    why = plan.why(stage, now) if outcome != "unchanged" else ()
    outs, seconds = {o.path: o.md5 for o in now.outs}, time.monotonic() - start
    return StageReceipt(stage, outcome, outs, seconds, whole, why=why, teacher=use)  # type: ignore[arg-type]


@contextlib.contextmanager
def _repository_lock() -> Iterator[None]:
    """DVC's own lock, an flock on this file. DVC writes dvc.lock in place, so without the lock we could read half of what it writes for another stage. Source: zc.lockfile, DVC 3.67 ``dvc.lock``."""
    with open(".dvc/tmp/lock", "a+", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _failed(stage: str, code: int, lines: deque[str], errors: list[str]) -> RedistillError:
    reason = errors[-1].removeprefix("error: ") if errors else "its last lines: " + " / ".join(list(lines)[-4:])
    exited = [m[1] for line in lines if (m := _EXITED.search(line))]
    return StageError(f"stage {stage} failed: {reason}", stage, int(exited[-1]) if exited else code, tuple(lines))
