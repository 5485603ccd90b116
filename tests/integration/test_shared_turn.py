"""The turn of several clones: one cycle a night, also where several start it, and a clone that is killed is replaced in the same night."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from redistill.io.lease import Lease
from redistill.io.shared_store import open_store
from tests.cycles import user_environment

ROOT = Path(__file__).resolve().parents[2]
TTL_S = 3
WORKER = """
    import datetime as dt, sys
    from redistill.errors import RedistillError
    from redistill.io import present_lease
    from tasks.sharing.turn import Night, last_night, leased

    night, patient = sys.argv[1:]
    run = None if night == "none" else Night(dt.datetime.fromisoformat(night), "run")
    with leased("tiny", lambda line: print("said:", line, flush=True), run, patient=patient == "patient") as busy:
        print("busy:" if busy else "cycle", busy.sentence if busy else present_lease.present().token, busy.tonight if busy else "", flush=True)
        if busy is None:
            for line in sys.stdin:
                try:
                    present_lease.require()
                    print("mine", flush=True)
                except RedistillError as error:
                    print(error, flush=True)
"""
TONIGHT, TOMORROW = "2026-11-28T02:00:00+00:00", "2026-11-29T02:00:00+00:00"


@pytest.fixture
def store(tmp_path: Path) -> str:
    (tmp_path / "shared").mkdir()
    return (tmp_path / "shared").as_uri()


class Clone:
    """A process that has the turn of a clone of its own until it is told to end."""

    def __init__(self, folder: Path, store: str, night: str, patient: str = "by Prefect") -> None:
        folder.mkdir(exist_ok=True)
        environment = {**user_environment(), "REDISTILL_SHARED_STORE": store, "REDISTILL_LEASE_S": str(TTL_S), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), night, patient],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def line(self) -> str:
        """The next line that is no waiting."""
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()).startswith("said:"):
            pass
        return line.strip()

    def ask(self) -> str:
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return self.line()

    def end(self) -> None:
        self.process.communicate(timeout=60)


def test_two_clones_that_start_the_same_night_run_one_cycle(tmp_path: Path, store: str) -> None:
    clones = [Clone(tmp_path / name, store, TONIGHT) for name in "ab"]
    lines = [clone.line() for clone in clones]
    [winner] = [clone for clone, line in zip(clones, lines, strict=True) if line.startswith("cycle 1")]
    [busy] = [line for line in lines if line.startswith("busy:")]
    assert "the night runs already in the clone of" in busy and busy.endswith("True"), "it asks for no second cycle"
    winner.end()
    late = Clone(tmp_path / "c", store, TONIGHT)
    assert "the night has run already in the clone of" in (line := late.line()) and line.endswith("True")
    tomorrow = Clone(tmp_path / "c", store, TOMORROW)
    assert tomorrow.line() == "cycle 2"
    for clone in (*clones, late, tomorrow):
        clone.end()


def test_another_trigger_waits_for_its_own_cycle(tmp_path: Path, store: str) -> None:
    one = Clone(tmp_path / "a", store, TONIGHT)
    assert one.line() == "cycle 1"
    other = Clone(tmp_path / "b", store, "none")
    assert (
        "a cycle runs already in the clone of" in (line := other.line()) and "one more starts after it" in line and line.endswith("False")
    )
    person = Clone(tmp_path / "c", store, "none", "patient")
    one.end()
    assert person.line() == "cycle 2", "a person who waits gets the turn"
    for clone in (other, person):
        clone.end()


def test_a_clone_that_is_killed_is_replaced_in_the_same_night(tmp_path: Path, store: str) -> None:
    killed = Clone(tmp_path / "a", store, TONIGHT)
    assert killed.line() == "cycle 1"
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    other = Clone(tmp_path / "b", store, TONIGHT)
    assert other.line() == "cycle 2" and other.ask() == "mine"
    other.end()


def test_a_clone_that_slept_too_long_writes_nothing_more(tmp_path: Path, store: str) -> None:
    slept = Clone(tmp_path / "a", store, TONIGHT)
    assert slept.line() == "cycle 1"
    os.kill(slept.process.pid, signal.SIGSTOP)
    other = Clone(tmp_path / "b", store, TONIGHT)
    assert other.line() == "cycle 2"
    os.kill(slept.process.pid, signal.SIGCONT)
    assert "this worker lost its lease (token 1)" in slept.ask() and other.ask() == "mine"
    slept.end()
    other.end()
    seen = Lease(open_store(f"{store}/tiny"), "lease", TTL_S).seen()
    assert seen is not None and (seen.claim.token, seen.ended, seen.claim.note["night"]) == (2, True, TONIGHT)


def test_without_a_store_nothing_waits(tmp_path: Path) -> None:
    one = Clone(tmp_path / "a", "", TONIGHT)
    environment = {**user_environment(), "PYTHONPATH": str(ROOT)}
    code = "from tasks.sharing.turn import leased\nwith leased('tiny', print, None, patient=False) as busy: print(busy)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None" and not list(tmp_path.glob("shared*"))
    one.process.kill()
    one.process.wait()


def test_an_address_that_is_none(tmp_path: Path) -> None:
    environment = {**user_environment(), "PYTHONPATH": str(ROOT), "REDISTILL_SHARED_STORE": "/srv/shared"}
    code = "from tasks.sharing.turn import last_night\nlast_night('tiny')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "REDISTILL_SHARED_STORE=/srv/shared is no address of a store" in done.stderr
