"""What was paid for stays: through kill -9, a full disk, a file that is no store, and any answer a teacher can give."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.data.types import Message
from redistill.errors import DataError
from redistill.teacher.completion_store import CompletionStore
from redistill.teacher.types import TeacherAnswer, TeacherRequest

BATCH = 40
WRITER = """
    import sys
    from redistill.teacher.completion_store import CompletionStore
    from tests.unit.teacher.test_completion_store import BATCH, noise, keyed

    store = CompletionStore(sys.argv[1])
    first = int(sys.argv[2])
    for number in range(first, 100_000):
        store.put([keyed(f"{number}-{i}", noise(2000)) for i in range(BATCH)])
        print(number, flush=True)
"""
FULL_DISK = """
    import resource, sys
    from redistill.errors import DataError
    from redistill.teacher.completion_store import CompletionStore
    from tests.unit.teacher.test_completion_store import ask, keyed, noise

    store = CompletionStore(sys.argv[1])
    store.put([keyed(f"early-{i}", f"early {i}") for i in range(10)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # every write beyond 300 KB fails, as on a full disk
    written = 0
    try:
        while written < 100:
            store.put([keyed(f"late-{written}-{i}", noise(4000)) for i in range(10)])
            written += 1
    except DataError as error:
        assert sys.argv[1] in str(error) and "free some space" in str(error) and "\\n" not in str(error), error
    assert 1 <= written < 100, written
    assert store.get("early-3", ask()).text == "early 3"  # still readable by the very process that could not write
    print(written)
"""


def ask(prompt_id: str = "p", sample: int = 0) -> TeacherRequest:
    return TeacherRequest(prompt_id, sample, (Message("user", "fee?"),), "fee?\n=>", "app")


def keyed(key: str, text: str) -> tuple[str, TeacherAnswer]:
    return key, TeacherAnswer(ask(), text, None, (1, 2), "stop", -0.5)


def noise(size: int) -> str:
    """Text that does not compress."""
    return os.urandom(size).hex()


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *arguments]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "completions.sqlite"


FULL = TeacherAnswer(
    ask(), "fee; amount=£4", "because", (1, 2), "stop", -0.25, ((1, 9), (2, 7)), ((-0.5, -1.5), (-0.1, -3.0)), (("a", "é"), ())
)
BARE = TeacherAnswer(ask(), "", None, (), "length", None)


@pytest.mark.parametrize("answer", [FULL, BARE, replace(BARE, text='"\x00\n💳', mean_logprob=-1e-300)], ids=["full", "bare", "odd"])
def test_an_answer_comes_back_as_it_was_given(path: Path, answer: TeacherAnswer) -> None:
    store = CompletionStore(path)
    store.put([("k", answer)])
    store.close()
    again = CompletionStore(path)
    assert again.get("k", answer.request) == answer
    assert again.get("other", answer.request) is None
    # The answer is bound to whoever asks now: the same request may stand in another prompt file by then.
    assert again.get("k", ask("moved", 3)) == replace(answer, request=ask("moved", 3))


def test_an_answer_put_twice_is_one_answer_and_the_last_counts(path: Path) -> None:
    store = CompletionStore(path)
    store.put([])
    store.put([keyed("k", "first"), keyed("l", "other")])
    store.put([keyed("k", "second")])
    got = store.get("k", ask())
    assert len(store) == 2 and got is not None and got.text == "second"


def test_two_processes_write_to_one_store(path: Path) -> None:
    """A second cycle started by accident waits for its turn; it neither fails nor overwrites."""
    mine = CompletionStore(path)
    with subprocess.Popen(python(WRITER, str(path), "0"), stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for number in range(20):
            mine.put([keyed(f"mine-{number}", noise(500))])
        other.kill()
        reported = 1 + len(other.stdout.readlines())
    assert all(mine.get(f"mine-{n}", ask()) for n in range(20))
    assert len(mine) - 20 in (reported * BATCH, (reported + 1) * BATCH)


def test_kill_9_loses_only_the_batch_in_flight(path: Path) -> None:
    first = 0
    for lines in (1, 7, 12):  # killed at three places, each time on top of what the one before left
        with subprocess.Popen(python(WRITER, str(path), str(first)), stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                assert writer.stdout.readline()
            writer.kill()
            last = int(([str(first + lines - 1), *writer.stdout.read().split()])[-1])
        assert writer.returncode == -9
        store = CompletionStore(path)
        # Whole batches only, all that were reported, and at most the one that was being reported.
        assert len(store) in ((last + 1) * BATCH, (last + 2) * BATCH)
        assert all(store.get(f"{number}-{i}", ask()) for number in range(last + 1) for i in range(BATCH))
        store.close()
        first = last + 1  # as a resumed stage would: what is not known to be stored is written again


def test_a_full_disk_is_said_and_takes_nothing_away(path: Path) -> None:
    result = subprocess.run(python(FULL_DISK, str(path)), capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    store = CompletionStore(path)
    assert len(store) == 10 + 10 * int(result.stdout)
    assert [store.get(f"early-{i}", ask()) for i in range(10)] == [keyed("", f"early {i}")[1] for i in range(10)]
    store.put([keyed("after", "there is space again")])
    assert len(store) == 11 + 10 * int(result.stdout)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_store_is_named_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match="completions.sqlite"):
        CompletionStore(path)
    assert path.read_bytes() == content


def test_a_place_where_no_store_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(DataError, match="directory"):
        CompletionStore(tmp_path / "directory")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file"):
        CompletionStore(tmp_path / "file" / "completions.sqlite")


def test_half_a_character_in_an_answer_does_not_take_the_batch_with_it(path: Path) -> None:
    """JSON from an endpoint can spell half a surrogate pair; its neighbours are paid for as well."""
    store = CompletionStore(path)
    store.put([keyed("good", "fee"), keyed("half", "fee \ud83d")])
    assert store.get("good", ask()) is not None and store.get("half", ask()) is not None


@pytest.mark.parametrize(
    "body",
    [
        b"not zlib",
        zlib.compress(b"not json"),
        zlib.compress(b'["text", null, [1], "stop"]'),
        zlib.compress(b'[["objects"], null, [1], "stop", null, [], [], []]'),
        zlib.compress(b'["text", {"a": 1}, [1], "stop", null, [], [], []]'),
        zlib.compress(b'["text", null, [1000000000000], "stop", null, [], [], []]'),
        zlib.compress(b'["text", null, ["1"], "stop", null, [], [], []]'),
        zlib.compress(b'["text", null, [1], null, null, [], [], []]'),
        zlib.compress(b'["text", null, [1], "stop", "x", [], [], []]'),
        zlib.compress(b'["text", null, [1], "stop", null, [[1]], [["x"]], []]'),
    ],
)
def test_what_no_stage_could_use_counts_as_missing(tmp_path: Path, body: bytes) -> None:
    store = CompletionStore(tmp_path / "store.sqlite")
    store.put([keyed("one", "fee")])
    with sqlite3.connect(tmp_path / "store.sqlite") as other:
        other.execute("UPDATE answers SET body = ? WHERE key = 'one'", (body,))
    assert store.get("one", ask()) is None
    store.put([keyed("one", "pin")])
    answer = store.get("one", ask())
    assert answer is not None and answer.text == "pin"


def test_completions_of_a_prompt_are_removed_and_leave_no_bytes(tmp_path: Path) -> None:
    file = tmp_path / "completions.sqlite"
    store = CompletionStore(file)
    texts = {"gone": noise(3000), "stays": noise(3000)}
    store.put([(f"{name}-{n}", replace(keyed("", text)[1], request=ask(name, n))) for name, text in texts.items() for n in range(2)])
    with sqlite3.connect(file) as database:
        [(body,)] = database.execute("SELECT body FROM answers WHERE key = 'gone-0'").fetchall()
        # As a version that did not record prompts stored it.
        database.execute("DELETE FROM prompts WHERE key = 'gone-1'")
    assert store.unnamed() == 1 and store.count_of(["gone"]) == 1
    store.name_prompts([("gone-1", "gone")])
    assert store.forget_prompts(["gone", "never"]) == 2 and len(store) == 2 and store.count_of(["stays"]) == 2
    store.close()
    assert body[40:200] not in file.read_bytes() and not [f for f in tmp_path.glob("*-wal") if f.stat().st_size]
