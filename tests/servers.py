"""Real servers as subprocesses: a free port, waiting until they answer, and their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(
    url: str,
    method: str = "GET",
    json: object = None,
    good: object = lambda r: r.status_code == 200,
    timeout_s: float = 120.0,
    process: subprocess.Popen[bytes] | None = None,
) -> httpx.Response:
    """Ask until the answer is what is waited for, the deadline is over, or ``process``, which should answer, has ended."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = httpx.request(method, url, json=json, timeout=5)
            if good(last):
                return last
        except httpx.HTTPError as error:
            last = error
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the server of {url} ended with {process.returncode}")
        time.sleep(0.1)
    raise AssertionError(f"{url} never answered as wanted; last: {last}")


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
