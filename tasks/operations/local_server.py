"""Prefect's server on this machine for ``make up`` and ``make down``: started in a session of its own, and ended by process id and start time.

``python -m tasks.operations.local_server start`` returns once the server answers; ``stop`` ends exactly the process that ``start`` made.
The server writes to a log file. Prefect's own ``--background`` leaves a pipe that nobody reads, and the server ends at its
first logged line.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import httpx
import psutil

from redistill.errors import ConfigError, RedistillError, StageError
from redistill.io.json import read_json, write_json
from redistill.runtime import environment
from tasks.paths import STATE

HOST = "127.0.0.1"
PORT = 4200
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
FOLDER = STATE / "prefect-server"
LOG = FOLDER / "server.log"
RECORD = FOLDER / "process.json"


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that ``start`` made. ``created`` is when its process started: a process id alone may belong to a later process."""

    pid: int
    created: float
    port: int

    @property
    def api(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    def running(self) -> psutil.Process | None:
        """The process itself, or None where it has ended."""
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def start(port: int = PORT) -> str:
    """Start the server unless ours already runs, wait until it is healthy, and say which.

    Raises:
        ConfigError: another program answers at the port.
        StageError: the server ended or is not healthy within three minutes; names its log.
    """
    server = _recorded()
    if server is not None and server.running() and server.port == port and _healthy(port):
        return f"Prefect's server already runs at {server.api} (process {server.pid})"
    if server is not None and server.running():
        stop()
    if _answers(port):
        raise ConfigError(
            f"port {port} of {HOST} is used by a program that `make up` did not start; end that program, or choose another port with PREFECT_PORT=...; "
            "if it is a Prefect server, set PREFECT_API_URL and run `redistill watch`"
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in environment.child_environment().items() if k != "PREFECT_API_URL"}
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    new = ServerProcess(process.pid, psutil.Process(process.pid).create_time(), port)
    write_json(RECORD, {"pid": new.pid, "created": new.created, "port": port})
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            stop()
            why = f"ended with {process.returncode}" if process.returncode is not None else f"is not healthy after {START_TIMEOUT_S:.0f} s"
            raise StageError(f"Prefect's server {why}; see its log {LOG}")
        time.sleep(0.2)
    return f"Prefect's server runs at {new.api} (process {new.pid}, log {LOG}); its UI: http://{HOST}:{port}"


def stop() -> str:
    """End the server that ``start`` made, and no other process, and say so."""
    server = _recorded()
    process = server.running() if server is not None else None
    RECORD.unlink(missing_ok=True)
    if server is None or process is None:
        return "no Prefect server of this project is running"
    family = [process, *process.children(recursive=True)]
    os.killpg(server.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(family, STOP_TIMEOUT_S)
    for one in left:
        one.kill()
    psutil.wait_procs(left, STOP_TIMEOUT_S)
    return f"Prefect's server (process {server.pid}) has ended"


def _recorded() -> ServerProcess | None:
    return ServerProcess(**read_json(RECORD)) if RECORD.is_file() else None


def _healthy(port: int) -> bool:
    # Asked five times a second while the server starts. Each httpx.get reads the certificates of the machine first, so it is not called before something listens.
    if not _answers(port):
        return False
    try:
        return httpx.get(f"http://{HOST}:{port}/api/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def main(arguments: list[str]) -> int:
    action, port = [*arguments, ""][0], [*arguments[1:], str(PORT)][0]
    if action not in ("start", "stop") or len(arguments) > 2 or not (port.isdecimal() and 0 < int(port) < 65536):
        print("error: usage: python -m tasks.operations.local_server start [PORT] | stop, with a port from 1 to 65535", file=sys.stderr)
        return 2
    environment.silence()
    try:
        print(stop() if action == "stop" else start(int(port)))
    except RedistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
