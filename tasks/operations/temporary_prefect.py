"""A Prefect server for one command that a person runs without one.

Prefect starts such a server itself, but in the terminal's process group: Ctrl-C ends it before the flow can report its end, which then waits for
minutes. A kill leaves it running. This one has a session of its own and ends with the command, however that ends.

``python -m tasks.operations.temporary_prefect PORT`` is the server's process.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from redistill.errors import StageError
from redistill.runtime.environment import child_environment
from redistill.runtime.running_services import LOGS, TEMPORARY
from tasks.operations.addresses import HOST, PREFECT_API
from tasks.operations.prefect_check import check_prefect
from tasks.operations.prefect_database import check_prefect_database
from tasks.operations.services import PREFECT_HOME, healthy

# As for the server that Prefect starts itself: no UI, and none of the services that only deployments need.
_SUBSET = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
LOG = LOGS / "prefect-of-a-command.log"
START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 5.0


def ensure_prefect() -> None:
    """Start a server for this process, unless the environment names one, and name it in the environment.

    Raises:
        StageError: it ended, or is not healthy in time; names its log.
        ConfigError: the environment names one that cannot be used.
    """
    if named := os.environ.get(PREFECT_API):
        check_prefect(named)
        return
    home = os.environ.get("PREFECT_HOME") or str(PREFECT_HOME.absolute())
    check_prefect_database(Path(home))
    port = _free_port()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tasks.operations.temporary_prefect", str(port), str(os.getpid())]
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**child_environment(), **_SUBSET, "PREFECT_HOME": home},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    atexit.register(_end, process)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not healthy(f"http://{HOST}:{port}/api/health"):
        if process.poll() is not None:
            raise StageError(f"Prefect's server ended with exit code {process.returncode}; see its log {LOG}")
        if time.monotonic() > deadline:
            raise StageError(f"Prefect's server is not ready after {START_TIMEOUT_S:.0f} s; see its log {LOG}")
        time.sleep(0.1)
    os.environ[TEMPORARY] = "1"
    os.environ[PREFECT_API] = f"http://{HOST}:{port}/api"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def serve(port: int, parent: int) -> None:
    """Be the server, in one process, until ``parent`` ends."""
    import uvicorn

    from tasks.running.die_with_parent import die_with_parent

    die_with_parent()
    if os.getppid() != parent:
        return  # it ended while this process started
    uvicorn.run("prefect.server.api.server:create_app", factory=True, host=HOST, port=port, log_level="error", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    Path(PREFECT_HOME).mkdir(parents=True, exist_ok=True)
    serve(int(sys.argv[1]), int(sys.argv[2]))
