"""`make up` and `make down`: Prefect's server comes up, stays up, and exactly it is ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from redistill.runtime.environment import child_environment
from tasks.operations.local_server import main
from tests.servers import free_port, until

ROOT = Path(__file__).resolve().parents[2]
RECORD = ".redistill/prefect-server/process.json"


def server(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **child_environment(),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PREFECT_HOME": str(folder / "home"),
    }
    environment["PREFECT_SERVER_LOGGING_LEVEL"] = "DEBUG"
    return subprocess.run(
        [sys.executable, "-m", "tasks.operations.local_server", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_server_comes_up_logs_to_a_file_and_ends(tmp_path: Path) -> None:
    port = free_port()
    up = server(tmp_path, "start", str(port))
    assert up.returncode == 0, up.stderr
    try:
        pid = json.loads((tmp_path / RECORD).read_text(encoding="utf-8"))["pid"]
        assert f"http://127.0.0.1:{port}/api (process {pid}" in up.stdout
        # Where nobody reads what the server logs, its first line ends it.
        log = tmp_path / ".redistill/prefect-server/server.log"
        wait_for(lambda: len(log.read_text(encoding="utf-8").splitlines()) > 20)
        until(f"http://127.0.0.1:{port}/api/health", timeout_s=5)
        again = server(tmp_path, "start", str(port))
        assert (again.returncode, again.stdout) == (
            0,
            f"Prefect's server already runs at http://127.0.0.1:{port}/api (process {pid})\n",
        )
    finally:
        down = server(tmp_path, "stop")
    assert (down.returncode, down.stdout) == (0, f"Prefect's server (process {pid}) has ended\n"), down.stderr
    assert not psutil.pid_exists(pid)
    assert server(tmp_path, "stop").stdout == "no Prefect server of this project is running\n"


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = server(tmp_path, "start", str(port))
    assert (
        done.returncode == 2
        and done.stderr.startswith(f"error: port {port} of 127.0.0.1 is used by a program")
        and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize("arguments", [(), ("restart",), ("start", "http"), ("start", "70000"), ("start", "4200", "more")])
def test_a_wrong_call_is_one_line(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(arguments)) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: usage: ") and told.count("\n") == 1


@pytest.mark.parametrize("created", [0.0, 1e10])
def test_a_process_that_has_the_number_of_an_old_server_is_left_alone(tmp_path: Path, created: float) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        record = tmp_path / RECORD
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"pid": other.pid, "created": created, "port": 4200}), encoding="utf-8")
        done = server(tmp_path, "stop")
        assert (done.returncode, done.stdout, other.poll()) == (0, "no Prefect server of this project is running\n", None)
        other.terminate()
