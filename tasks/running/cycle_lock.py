"""One cycle at a time works in a project, under a lock on a file. The system releases it when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import IO

from redistill.errors import StageError
from tasks.paths import STATE

CYCLE_LOCK = STATE / "cycle.lock"


@contextlib.contextmanager
def one_cycle(say: Callable[[str], None], timeout_s: float = 6 * 3600.0) -> Iterator[None]:
    """Let one cycle at a time work in this project; a second one says that it waits, then waits.

    Raises:
        StageError: still waiting after ``timeout_s``.
    """
    with _opened() as handle:
        deadline, said = time.monotonic() + timeout_s, False
        while not _taken(handle):
            if not said:
                say(f"another cycle (process {holder() or 'unknown'}) is running in this project; waiting for it to end")
                said = True
            if time.monotonic() > deadline:
                raise StageError(
                    f"waited {timeout_s:.0f} s for another cycle in this project to end; check `redistill status`, then run again"
                )
            time.sleep(0.5)
        yield


@contextlib.contextmanager
def if_no_cycle() -> Iterator[bool]:
    """Hold the lock if it is free now. The value says whether it was; nobody waits."""
    with _opened() as handle:
        yield _taken(handle)


@contextlib.contextmanager
def no_cycle(work: str, *, record: bool = True) -> Iterator[None]:
    """Keep cycles out while ``work`` is done, such as ``redistill gc``. Nobody waits. Without ``record`` no file is changed or made.

    Raises:
        StageError: a cycle, or a search of settings, is running.
    """
    if not record and not CYCLE_LOCK.is_file():
        yield
        return
    with _opened() as handle:
        if not (_taken(handle) if record else _locked(handle)):
            raise StageError(
                f"a cycle (process {holder() or 'unknown'}) is running in this project, and {work} does not run beside one; "
                "try again when it has ended"
            )
        yield


def holder() -> int | None:
    """The process id of the cycle that has the lock, or had it last."""
    try:
        return int(CYCLE_LOCK.read_text(encoding="utf-8").strip() or 0) or None
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _opened() -> Iterator[IO[str]]:
    CYCLE_LOCK.parent.mkdir(parents=True, exist_ok=True)
    with open(CYCLE_LOCK, "a+", encoding="utf-8") as handle:
        yield handle


def _taken(handle: IO[str]) -> bool:
    if not _locked(handle):
        return False
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return True


def _locked(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
