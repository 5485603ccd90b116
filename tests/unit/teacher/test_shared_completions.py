"""Completions travel between clones as segments: pushed once, resumed after a kill, refused where they are damaged, and never of a forgotten prompt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from redistill.data.forgotten import tombstone_digest
from redistill.data.types import Message
from redistill.errors import DataError
from redistill.io.digests import file_digest
from redistill.io.shared_store import SharedStore, open_store
from redistill.teacher.completion_store import CompletionStore
from redistill.teacher.shared_completions import clean, here_again, pull, push, segments_of
from redistill.teacher.types import TeacherAnswer, TeacherRequest

ROOT = Path(__file__).resolve().parents[3]
NONE: frozenset[str] = frozenset()


def request(number: int, teacher: str = "t1") -> TeacherRequest:
    return TeacherRequest(f"prompt{number}", 0, (Message("user", "fee?"),), "fee?\n=>", "app", teacher=teacher)


def fill(file: Path, numbers: range, teacher: str = "t1") -> Path:
    store = CompletionStore(file)
    store.put([(f"{teacher}-{n:06d}", TeacherAnswer(request(n, teacher), f"completion {n}", None, (1, n), "stop", -0.5)) for n in numbers])
    store.close()
    return file


def texts(file: Path, numbers: range, teacher: str = "t1") -> list[str | None]:
    store = CompletionStore(file)
    try:
        rows = [store.get(f"{teacher}-{n:06d}", request(n, teacher)) for n in numbers]
        return [None if row is None else row.text for row in rows]
    finally:
        store.close()


@pytest.fixture
def shared(tmp_path: Path) -> SharedStore:
    return open_store((tmp_path / "shared").as_uri())


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "completions.sqlite"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return tmp_path / "theirs" / "completions.sqlite"


def test_what_one_clone_pushes_another_has(shared: SharedStore, mine: Path, theirs: Path) -> None:
    fill(mine, range(50))
    fill(mine, range(3), "t2")
    assert push(mine, shared, NONE) == 53
    assert push(mine, shared, NONE) == 0, "nothing is pushed twice"
    assert len(shared.names("segments")) == 2, "a segment has the completions of one teacher"
    pulled = pull(theirs, shared, NONE)
    assert (pulled.segments, pulled.rows) == (2, 53)
    assert texts(theirs, range(50)) == [f"completion {n}" for n in range(50)] and texts(theirs, range(3), "t2")[2] == "completion 2"
    assert pull(theirs, shared, NONE).segments == 0 and push(theirs, shared, NONE) == 0, "what came from a segment is in one"
    fill(theirs, range(50, 60))
    assert push(theirs, shared, NONE) == 10
    assert pull(mine, shared, NONE).rows == 10 and texts(mine, range(50, 60))[9] == "completion 59"


def test_an_empty_store_and_no_store(shared: SharedStore, mine: Path) -> None:
    assert push(mine, shared, NONE) == 0 and pull(mine, shared, NONE).segments == 0
    assert not mine.exists(), "looking makes no file"
    CompletionStore(mine).close()
    assert push(mine, shared, NONE) == 0 and shared.names("segments") == []


def test_a_row_that_is_here_stays(shared: SharedStore, mine: Path, theirs: Path) -> None:
    push(fill(mine, range(5)), shared, NONE)
    store = CompletionStore(theirs)
    store.put([("t1-000002", TeacherAnswer(request(2), "another text", None, (1,), "stop", -0.5))])
    store.close()
    pull(theirs, shared, NONE)
    assert texts(theirs, range(1, 4)) == ["completion 1", "another text", "completion 3"]


PUSHER = """
    import sys
    from pathlib import Path
    from redistill.io.shared_store import open_store
    from redistill.teacher import shared_completions

    shared_completions._ROWS = int(sys.argv[3])
    print(shared_completions.push(Path(sys.argv[1]), open_store(sys.argv[2]), frozenset()), flush=True)
"""


def start_push(file: Path, shared: SharedStore, rows: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PUSHER), str(file), shared.address, str(rows)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_push_is_completed_by_the_next_one(shared: SharedStore, mine: Path, theirs: Path) -> None:
    fill(mine, range(2000))
    process = start_push(mine, shared, 10)
    deadline = time.monotonic() + 120
    while len(shared.names("segments")) < 5:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    whole = shared.names("segments")
    assert 5 <= len(whole) < 200
    folder = Path(shared.address.removeprefix("file://")) / "segments"
    assert [file_digest(folder / name) for name in whole] == whole, "every segment that is there is whole"
    pull(mine, shared, NONE)
    left = push(mine, shared, NONE)
    assert left < 2000 - 10 * len(whole) + 1, "what a segment has is not pushed again, also where the kill came before it was recorded"
    assert pull(theirs, shared, NONE).rows == 2000 and None not in texts(theirs, range(2000))


def test_two_clones_that_push_at_once(shared: SharedStore, mine: Path, theirs: Path, tmp_path: Path) -> None:
    fill(mine, range(300))
    fill(theirs, range(200, 500))
    processes = [start_push(file, shared, 20) for file in (mine, theirs)]
    assert [process.wait(120) for process in processes] == [0, 0], [process.communicate() for process in processes]
    third = tmp_path / "third.sqlite"
    pull(third, shared, NONE)
    assert texts(third, range(500)) == [f"completion {n}" for n in range(500)]


def test_a_damaged_segment_is_refused_and_can_be_written_again(shared: SharedStore, mine: Path, theirs: Path) -> None:
    push(fill(mine, range(20)), shared, NONE)
    [name] = shared.names("segments")
    content = shared.read(f"segments/{name}")
    assert content is not None
    shared.write(f"segments/{name}", content[:-40] + b"x" * 40)
    with pytest.raises(DataError, match="is damaged .its sha256 is .* nothing of it was used") as refused:
        pull(theirs, shared, NONE)
    assert "\n" not in str(refused.value) and texts(theirs, range(20)) == [None] * 20
    shared.remove(f"segments/{name}")
    assert push(mine, shared, NONE) == 20, "a clone that has its rows writes them again"
    assert pull(theirs, shared, NONE).rows == 20


def test_a_forgotten_prompt_is_neither_pushed_nor_pulled(shared: SharedStore, mine: Path, theirs: Path) -> None:
    forgotten = frozenset({tombstone_digest("prompt3")})
    fill(mine, range(10))
    assert push(mine, shared, forgotten) == 9
    push(mine, shared, NONE)
    pulled = pull(theirs, shared, forgotten)
    assert (pulled.rows, len(pulled.unclean)) == (9, 1) and texts(theirs, range(10))[3] is None
    assert here_again(mine, forgotten) == ["prompt3"] and here_again(theirs, forgotten) == []


def test_a_segment_is_replaced_by_one_without_the_forgotten_prompt(shared: SharedStore, mine: Path, theirs: Path, tmp_path: Path) -> None:
    push(fill(mine, range(10)), shared, NONE)
    pull(theirs, shared, NONE)
    [before] = shared.names("segments")
    assert segments_of(mine, ["prompt3"]) == [before] and segments_of(mine, ["another"]) == []
    forgotten = frozenset({tombstone_digest("prompt3")})
    assert clean(mine, shared, [before], forgotten) == 1
    [after] = shared.names("segments")
    assert after != before
    late = tmp_path / "late.sqlite"
    assert pull(late, shared, NONE).rows == 9 and texts(late, range(10))[3] is None, "also for a clone that knows no tombstone"
    pull(theirs, shared, forgotten)
    assert push(theirs, shared, forgotten) == 0, "a clone that had the old segment has the new one, and pushes nothing"
    assert clean(mine, shared, [before, after], forgotten) == 0


def test_a_segment_of_a_later_version_is_refused(shared: SharedStore, mine: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other.parquet")
    shared.upload(tmp_path / "other.parquet", f"segments/{file_digest(tmp_path / 'other.parquet')}")
    with pytest.raises(DataError, match="has another form than this version"):
        pull(mine, shared, NONE)
