"""Work in several processes: in order, without leaving a process behind, and with one clear line where one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import psutil
import pytest

from redistill.errors import DataError
from redistill.runtime import worker_pool


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "_CHUNK", 3)


def doubled(rows: Sequence[int]) -> list[int]:
    return [2 * row for row in rows]


def process_of(rows: Sequence[int]) -> int:
    return os.getpid()


def killed(rows: Sequence[int]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def refused(rows: Sequence[int]) -> int:
    raise DataError(f"row {rows[0]} is wrong")


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_results_come_in_order(processes: int) -> None:
    with worker_pool.worker_pool(10, processes) as pool:
        assert [n for chunk in pool.chunks(doubled, range(10)) for n in chunk] == [2 * n for n in range(10)]
        assert list(pool.chunks(doubled, [])) == []


def test_few_rows_stay_in_this_process() -> None:
    with worker_pool.worker_pool(5) as pool:
        assert set(pool.chunks(process_of, range(5))) == {os.getpid()}


def test_a_killed_process_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="memory ran out"), worker_pool.worker_pool(10, 2) as pool:
        list(pool.chunks(killed, range(10)))


def test_an_error_of_the_work_arrives_as_it_is() -> None:
    with pytest.raises(DataError, match="row 0 is wrong"), worker_pool.worker_pool(10, 2) as pool:
        list(pool.chunks(refused, range(10)))


def test_workers_end_with_a_parent_that_is_killed() -> None:
    code = (
        "import os, time\n"
        "from tests.unit.runtime.test_worker_pool import process_of\n"
        "from redistill.runtime import worker_pool\n"
        "worker_pool._CHUNK = 1\n"
        "with worker_pool.worker_pool(10, 2) as pool:\n"
        "    print(*set(pool.chunks(process_of, range(20))), flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs(workers, timeout=30)[1] == []
