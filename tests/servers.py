"""Real servers as subprocesses: a free port, waiting until they answer, and their end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from redistill.runtime.environment import child_environment


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
    # One client: a new one reads the certificates of the machine, which takes longer than the wait between two questions.
    with httpx.Client(timeout=5) as client:
        while time.monotonic() < deadline:
            try:
                last = client.request(method, url, json=json)
                if good(last):
                    return last
            except httpx.HTTPError as error:
                last = error
            if process is not None and process.poll() is not None:
                raise AssertionError(f"the server of {url} ended with {process.returncode}")
            time.sleep(0.1)
    raise AssertionError(f"{url} never answered as wanted; last: {last}")


def ask(method: str, url: str, json: object = None, timeout_s: float = 60.0) -> httpx.Response:
    """One request, asked again while the server says that its database is busy: Prefect on SQLite answers 503 then, and has changed nothing."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = httpx.request(method, url, json=json, timeout=timeout_s)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


RECORD, LOG = "process.json", "server.log"


def start_prefect(folder: Path, port: int, home: Path, **variables: str) -> None:
    """Start a Prefect server that lasts longer than this process, and wait until it is healthy; ``folder`` gets its record and log."""
    from tasks.operations import background_process
    from tasks.operations.addresses import Addresses
    from tasks.operations.services import prefect_service

    service = prefect_service(Addresses(prefect_port=port))
    environment = {**service.environment, "PREFECT_HOME": str(home), **variables}
    process = background_process.start(service.command, environment, folder / LOG, folder / RECORD)
    until(f"http://127.0.0.1:{port}/api/health", timeout_s=240, process=process)


@contextmanager
def mlflow_server(folder: Path, empty_registry: Path) -> Iterator[str]:
    """A real MLflow server that keeps runs, models and artifacts in ``folder``; its address."""
    shutil.copy(empty_registry, folder / "mlflow.db")
    port = free_port()
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "mlartifacts")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store],
        # Its job runner starts seven more processes, for evaluations that nobody here asks for.
        env={**child_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(f"http://127.0.0.1:{port}/health", timeout_s=240, process=process)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def fault_teacher(record: Path, *options: str) -> Iterator[str]:
    """The address of an OpenAI-compatible endpoint (``tests.integration.fault_teacher``) that appends what it is asked to ``record``."""
    command = [sys.executable, "-m", "tests.integration.fault_teacher", "--port", "0", "--record", str(record), *options]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            stop(process)
