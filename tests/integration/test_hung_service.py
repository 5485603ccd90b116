"""A server that runs but does not answer is ended and started again; one that answers is left alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from redistill.runtime.environment import child_environment
from tasks.operations import background_process, supervisor
from tasks.operations.services import Service
from tests.servers import free_port


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[supervisor._Kept]:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    service = Service("mlflow", command, child_environment(), f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/")
    one = supervisor._Kept(service)
    supervisor._start(one)
    supervisor._wait_until_ready(one)
    yield one
    background_process.end(service.record)


def look(one: supervisor._Kept, lines: list[str], until: object, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():  # type: ignore[operator]
        assert time.monotonic() < deadline, lines
        supervisor._look_after(one, lines.append, ask_every_s=0.1, hung_s=1.0)
        time.sleep(0.05)


def test_a_server_that_hangs_is_started_again(kept: supervisor._Kept) -> None:
    assert kept.child is not None
    hung, lines = kept.child.pid, list[str]()
    os.kill(hung, signal.SIGSTOP)
    look(kept, lines, lambda: kept.child is not None and kept.child.pid != hung and kept.service.ready(kept.child.pid))
    assert not psutil.pid_exists(hung)
    assert lines[0] == "MLflow has not answered for 1 s; ending it" and "starting it again" in lines[1] and len(lines) == 2


def test_a_server_that_answers_is_left_alone(kept: supervisor._Kept) -> None:
    assert kept.child is not None
    pid, lines, end = kept.child.pid, list[str](), time.monotonic() + 2.5
    look(kept, lines, lambda: time.monotonic() > end)
    assert kept.child.pid == pid and not lines


def test_time_in_which_nobody_asked_does_not_count(kept: supervisor._Kept) -> None:
    """A machine that slept for an hour must not end its servers when it wakes."""
    assert kept.child is not None
    pid, lines = kept.child.pid, list[str]()
    kept.asked = kept.answered = kept.started = time.monotonic() - 3600
    os.kill(pid, signal.SIGSTOP)
    supervisor._look_after(kept, lines.append, ask_every_s=0.1, hung_s=30.0)
    os.kill(pid, signal.SIGCONT)
    assert not lines and kept.child.poll() is None
