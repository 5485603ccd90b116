"""Work on many rows in several processes. Results come in the order of the rows, so they do not depend on the number of processes."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from redistill.errors import DataError
from redistill.runtime.cpu import usable_cores
from redistill.runtime.parent import end_with_parent

_Row = TypeVar("_Row")
_Result = TypeVar("_Result")

CHUNK = 2000
_MOST_PROCESSES = 8
_work: Callable[[Any], Any]


def in_chunks(work: Callable[[Sequence[_Row]], _Result], rows: Sequence[_Row], processes: int | None = None) -> Iterator[_Result]:
    """What ``work`` makes of each chunk of rows, in order.

    Without ``processes``: one for each usable core, at most 8; none but this one for less than two chunks each. Rows and results are pickled, ``work`` is not
    where processes can be forks. Nothing that started threads of its own, such as Rayon, may run in ``work``: a fork has no threads.

    Raises:
        DataError: a process was ended from outside, most often because memory ran out.
    """
    parts = (rows[begin : begin + CHUNK] for begin in range(0, len(rows), CHUNK))
    processes = processes or min(usable_cores(), _MOST_PROCESSES, len(rows) // (2 * CHUNK))
    if processes < 2:
        yield from map(work, parts)
        return
    # A fork starts at once and shares the memory; libraries of other systems do not survive one.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    executor = ProcessPoolExecutor(processes, context, _start_worker, (work,))
    try:
        yield from executor.map(_call, parts)
    except BrokenProcessPool:
        raise DataError(
            "a process that works on the rows was ended by the system, most often because memory ran out; "
            "free some memory or allow fewer cores (taskset), then run again"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    # The collector would write to every object of the parent, and so copy all of its memory.
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(signal.SIGKILL)


def _call(part: Any) -> Any:
    return _work(part)
