"""One holder at a time, on all machines: a token that grows, a silent holder that is replaced, and a late writer that is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from redistill.errors import ConfigError, DataError, StageError
from redistill.io.folder_store import FolderStore
from redistill.io.lease import TTL, Claim, Held, Lease, ttl_s
from redistill.io.present_lease import holding, present, require
from redistill.io.shared_store import SharedStore, open_store

ROOT = Path(__file__).resolve().parents[3]
TTL_S = 1.5


@pytest.fixture
def store(tmp_path: Path) -> SharedStore:
    return open_store((tmp_path / "shared").as_uri())


def take(lease: Lease, note: Callable[[Claim | None], dict[str, str]] = lambda _: {}) -> Held | None:
    """The lease if it is free now."""
    return lease.wait(lambda seen: seen.ended, note)


@pytest.fixture
def lease(store: SharedStore) -> Lease:
    return Lease(store, "lease", TTL_S)


WORKER = """
    import sys, time
    from redistill.errors import StageError
    from redistill.io.lease import Lease
    from redistill.io.shared_store import open_store

    held = Lease(open_store(sys.argv[1]), "lease", float(sys.argv[2])).wait(lambda seen: seen.ended)
    print("none" if held is None else held.token, flush=True)
    if held is not None:
        for line in sys.stdin:
            try:
                held.check()
                print("mine", flush=True)
            except StageError as error:
                print(error, flush=True)
        held.release()
"""


def worker(store: SharedStore, time_s: float = TTL_S) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), store.address, str(time_s)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    print(file=process.stdin, flush=True)
    return read(process)


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)


def test_one_holder_and_a_token_that_grows(lease: Lease) -> None:
    assert lease.seen() is None
    first = take(lease)
    assert first is not None and first.token == 1
    assert take(lease) is None, "it has a holder"
    first.check()
    first.release()
    second = take(lease, lambda before: {"night": before.note.get("night", "none") if before is not None else "first"})
    assert second is not None and second.token == 2 and second.claim.note == {"night": "none"}
    with pytest.raises(StageError, match=r"lost its lease .token 1.*with token 2 has it now"):
        first.check()
    second.release()


def test_of_workers_that_start_at_once_one_holds_it(store: SharedStore) -> None:
    processes = [worker(store, 60) for _ in range(4)]
    answers = sorted(read(process) for process in processes)
    assert answers == ["1", "none", "none", "none"]
    for process in processes:
        end(process)


def test_a_killed_holder_is_replaced_after_its_time(store: SharedStore, lease: Lease) -> None:
    process = worker(store)
    assert read(process) == "1"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    seen: list[int] = []
    held = lease.wait(lambda s: bool(seen.append(s.claim.token)) or True)
    assert held is not None and held.token == 2 and set(seen) == {1}, "it was watched before it was replaced"
    held.release()


def test_a_holder_that_renews_is_not_replaced(store: SharedStore, lease: Lease) -> None:
    process = worker(store)
    assert read(process) == "1"
    deadline = time.monotonic() + 2.5 * TTL_S
    assert lease.wait(lambda _: time.monotonic() < deadline) is None
    assert ask(process) == "mine"
    end(process)
    held = take(lease)
    assert held is not None and held.token == 2, "a lease that was given back need not be waited for"
    held.release()


def test_a_holder_that_was_stopped_learns_that_it_was_replaced(store: SharedStore, lease: Lease) -> None:
    """As a machine that was suspended: it goes on where it was, and its next write is refused."""
    process = worker(store)
    assert read(process) == "1"
    os.kill(process.pid, signal.SIGSTOP)
    held = lease.wait(lambda _: True)
    assert held is not None and held.token == 2
    os.kill(process.pid, signal.SIGCONT)
    answer = ask(process)
    assert "lost its lease (token 1)" in answer and "with token 2 has it now" in answer
    held.check()
    end(process)
    assert not [name for name in store.names("lease") if name.endswith("1.end")], "what is lost is not given back"
    held.release()


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_an_hour_apart_change_nothing(store: SharedStore, lease: Lease, hours: int) -> None:
    """The holder's written time is an hour off. It is replaced neither earlier nor later."""
    process = worker(store)
    assert read(process) == "1"
    name = next(name for name in store.names("lease") if name.endswith(".json"))
    claim = json.loads(store.read(f"lease/{name}") or b"")
    claim["at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600 * hours))
    store.write(f"lease/{name}", json.dumps(claim).encode())
    deadline = time.monotonic() + 2 * TTL_S
    assert lease.wait(lambda _: time.monotonic() < deadline) is None, "it lives"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    held = lease.wait(lambda _: True)
    assert held is not None and held.token == 2
    held.release()


def test_a_holder_whose_store_is_away_stops_before_others_may_begin(tmp_path: Path, store: SharedStore, lease: Lease) -> None:
    held = take(lease)
    assert held is not None
    ended: list[bool] = []
    held.on_loss(lambda: ended.append(True))
    (tmp_path / "shared").rename(tmp_path / "away")
    (tmp_path / "shared").write_text("no folder", encoding="utf-8")
    deadline = time.monotonic() + 30
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(
        StageError, match=r"the lease lease could not be (read|renewed) for \d+ s of its 1.5 s, so another worker may begin"
    ):
        held.check()
    held.release()


def test_an_old_token_is_no_way_back(store: SharedStore, lease: Lease) -> None:
    """Old claims are removed. A worker that slept since then may make one of them again, and holds nothing."""
    for _ in range(60):
        held = take(lease)
        assert held is not None
        held.release()
    tokens = [name for name in store.names("lease") if name.endswith(".json")]
    assert len(tokens) == 50 and tokens[-1] == "000000000060.json"
    assert lease._claim(None, lambda _: {}) is None
    assert "000000000001.json" in store.names("lease")
    assert lease.seen() is not None and lease.seen().claim.token == 60  # type: ignore[union-attr]


class Careless(FolderStore):
    """As some servers that speak S3: they take no notice of the condition of a write."""

    def create(self, name: str, content: bytes) -> bool:
        self.write(name, content)
        return True


def test_a_store_that_overwrites_what_must_be_new_holds_no_lease(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="overwrites objects that must be new .it ignores If-None-Match."):
        take(Lease(Careless(tmp_path / "careless"), "lease", TTL_S))


def test_a_damaged_claim_is_one_line(store: SharedStore, lease: Lease) -> None:
    store.write("lease/000000000003.json", b"{half")
    with pytest.raises(DataError, match=r"000000000003.json in file://.* is damaged; delete it"):
        take(lease)


def test_writes_ask_the_lease_that_is_held(lease: Lease) -> None:
    require()
    held = take(lease)
    assert held is not None
    with holding(held):
        assert present() is held
        require()
    assert present() is None
    require()


@pytest.mark.parametrize("text", ["soon", "0", "-3", "1e9", "nan"])
def test_a_time_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(TTL, text)
    with pytest.raises(ConfigError, match=f"{TTL}={text} must be a number of seconds between 1 and 86400"):
        ttl_s()
