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
from redistill.runtime import in_chunks as module
from redistill.runtime.in_chunks import in_chunks


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)


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
    assert [n for chunk in in_chunks(doubled, range(10), processes) for n in chunk] == [2 * n for n in range(10)]
    assert list(in_chunks(doubled, [], processes)) == []


def test_few_rows_stay_in_this_process() -> None:
    assert set(in_chunks(process_of, range(5))) == {os.getpid()}
    assert os.getpid() not in in_chunks(process_of, range(5), 2)


def test_work_need_not_be_picklable_and_its_memory_is_shared() -> None:
    large = {"numbers": list(range(10))}
    assert list(in_chunks(lambda rows: [large["numbers"][row] for row in rows], range(4), 2)) == [[0, 1, 2], [3]]


def test_a_killed_process_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="memory ran out"):
        list(in_chunks(killed, range(10), 2))


def test_an_error_of_the_work_arrives_as_it_is() -> None:
    with pytest.raises(DataError, match="row 0 is wrong"):
        list(in_chunks(refused, range(10), 2))


def test_workers_end_with_a_parent_that_is_killed() -> None:
    code = (
        "import time\n"
        "from tests.unit.runtime.test_in_chunks import process_of\n"
        "from redistill.runtime import in_chunks\n"
        "in_chunks.CHUNK = 1\n"
        "for pid in in_chunks.in_chunks(process_of, range(20), 2):\n"
        "    print(pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert workers
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs(workers, timeout=30)[1] == []
