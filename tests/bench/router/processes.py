"""Servers of a benchmark as processes of their own, and a look whether the machine is free for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
_BUSY = 15.0
_PATIENCE_S = 60.0


def idle_or_exit() -> None:
    """Wait while the machine has other work, and end with a message if that goes on: a rate measured beside it says nothing."""
    deadline = time.monotonic() + _PATIENCE_S
    while (used := psutil.cpu_percent(interval=1.0)) > _BUSY and time.monotonic() < deadline:
        pass
    if used > _BUSY:
        sys.exit(f"error: {used:.0f} % of the processor are in use (limit {_BUSY:.0f} %); end the other work, then measure again")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(module: str, *arguments: str, environment: dict[str, str] | None = None, limit_s: float = 60.0) -> Iterator[int]:
    """A module that serves at the port ``{port}`` of its arguments; without one the port is its first argument."""
    command = [sys.executable, "-m", module, *(arguments or ("{port}",))]
    with running(command, {**os.environ, **(environment or {})}, module, limit_s) as port:
        yield port


@contextmanager
def running(command: list[str], environment: dict[str, str], name: str, limit_s: float, *, silent: bool = False) -> Iterator[int]:
    """A command that serves at the port ``{port}`` of its arguments."""
    port = free_port()
    output = subprocess.DEVNULL if silent else None
    process = subprocess.Popen([each.format(port=port) for each in command], cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + limit_s
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"error: {name} does not listen at port {port}")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20.0)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
