"""Everything that changes the route reads and writes it as one step: no pin is lost, and no old mode comes back over a fallback."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from redistill.serving.route_flag import read_route, to_teacher, to_version, update_route, with_pin, write_route
from redistill.serving.types import Route
from tasks.promotion import approve
from tasks.registry import transitions
from tests.integration.conftest import Registry

COMMAND = str(Path(sys.executable).parent / "redistill")
STUDENT = Route("none", "student", "7", "version 7 was promoted", "2026-11-22T02:00:00+00:00")


@contextmanager
def held(flags: Path) -> Iterator[Path]:
    """Hold the lock of a flag file, as somebody does who is between reading and writing it."""
    lock = flags.with_suffix(".lock")
    with open(lock, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield lock


def until_one_waits(lock: Path, alive: Callable[[], bool]) -> None:
    """Poll the kernel's list of locks until somebody is blocked on this one."""
    inode = f":{os.stat(lock).st_ino} "
    deadline = time.monotonic() + 60
    while not any("->" in line and inode in line for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()):
        assert alive(), "the route was written without waiting for who was changing it"
        assert time.monotonic() < deadline, "nobody asked for the lock"
        time.sleep(0.02)


def test_an_operators_pin_does_not_bring_an_old_mode_back_over_a_fallback(tmp_path: Path) -> None:
    flags = tmp_path / "artifacts" / "route" / "flags.json"
    write_route(flags, STUDENT)
    with held(flags) as lock:
        asked = subprocess.Popen([COMMAND, "route", "set", "auto", "--reason", "incident over"], cwd=tmp_path, stdout=subprocess.DEVNULL)
        until_one_waits(lock, lambda: asked.poll() is None)
        write_route(flags, to_teacher(STUDENT, "champion version 7 no longer holds"))
    assert asked.wait(60) == 0
    route = read_route(flags)
    assert (route.mode, route.model_version, route.answers, route.reason) == ("teacher", None, "teacher", "incident over")


def test_the_system_keeps_a_pin_that_is_set_while_it_writes(make_registry: Callable[..., Registry]) -> None:
    registry = make_registry()
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    fallback = to_teacher(read_route(transitions.FLAGS), "champion version 1 no longer holds")
    with ThreadPoolExecutor(1) as pool, held(transitions.FLAGS) as lock:
        settled = pool.submit(transitions.apply_system_route, registry.client, registry.params, "1", fallback)
        until_one_waits(lock, lambda: not settled.done())
        write_route(transitions.FLAGS, with_pin(read_route(transitions.FLAGS), "student", "incident at the teacher"))
    settled.result(60)
    route = read_route(transitions.FLAGS)
    assert (route.pin, route.mode) == ("student", "teacher")


def test_a_route_that_is_right_already_keeps_the_operators_reason(make_registry: Callable[..., Registry]) -> None:
    registry = make_registry()
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    planned = to_version(read_route(transitions.FLAGS), "1", None, "champion version 1 holds")
    pinned = update_route(transitions.FLAGS, lambda now: with_pin(now, "teacher", "incident 12"))
    transitions.apply_system_route(registry.client, registry.params, "1", planned)
    assert read_route(transitions.FLAGS) == pinned


def test_a_hundred_changes_at_once_are_all_there(tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    write_route(flags, replace(STUDENT, reason=""))

    def add(number: int) -> None:
        update_route(flags, lambda now: replace(now, reason=f"{now.reason} {number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(100)))
    assert sorted(map(int, read_route(flags).reason.split())) == list(range(100))
