"""Work on many rows in several processes. Results come in the order of the rows, so they do not depend on the number of processes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from redistill.errors import DataError
from redistill.runtime.cpu import usable_cores

_Row = TypeVar("_Row")
_Result = TypeVar("_Result")

_CHUNK = 2000
_MOST_PROCESSES = 8
_PR_SET_PDEATHSIG = 1


class WorkerPool:
    """Calls a function with chunks of rows: in this process, or in several."""

    def __init__(self, executor: ProcessPoolExecutor | None = None) -> None:
        self._executor = executor

    def chunks(self, work: Callable[[Sequence[_Row]], _Result], rows: Sequence[_Row]) -> Iterator[_Result]:
        """The result of each chunk of rows, in order. With several processes, ``work`` and its results must be picklable.

        Raises:
            DataError: a process was ended from outside, most often because memory ran out.
        """
        parts = (rows[begin : begin + _CHUNK] for begin in range(0, len(rows), _CHUNK))
        if self._executor is None:
            yield from map(work, parts)
            return
        try:
            yield from self._executor.map(work, parts)
        except BrokenProcessPool:
            raise DataError(
                "a process that works on the rows was ended by the system, most often because memory ran out; "
                "free some memory or allow fewer cores (taskset), then run again"
            ) from None


@contextlib.contextmanager
def worker_pool(rows: int, processes: int | None = None) -> Iterator[WorkerPool]:
    """A pool for about so many rows. Without ``processes``: one for each usable core, at most 8, and none of its own for a few thousand rows."""
    processes = processes or min(usable_cores(), _MOST_PROCESSES, 1 + rows // (2 * _CHUNK))
    if processes < 2:
        yield WorkerPool()
        return
    # A fork starts at once and copies no memory; libraries of other systems do not survive one.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    executor = ProcessPoolExecutor(processes, context, _start_worker)
    try:
        yield WorkerPool(executor)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _start_worker() -> None:
    # The collector would write to every object of the parent, and so copy all of its memory.
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
