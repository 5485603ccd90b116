"""Whole cycles as a user starts them: the real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from redistill.environment import child_environment
from tests.servers import free_port, stop, until
from tests.tiny_project import make_tiny_project


@dataclass(frozen=True)
class Ran:
    code: int
    result: dict[str, Any]
    stdout: str
    stderr: str


Command = Callable[..., Ran]

LO_UP = """
import fcntl, socket, struct
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x1 | 0x40))
"""
LOOPBACK_ONLY = (
    "unshare",
    "-n" if os.geteuid() == 0 else "-rn",
    "sh",
    "-c",
    'ip link set lo up 2>/dev/null || python3 -c "$LO_UP"; exec "$@"',
    "sh",
)
"""Runs a command in a network namespace that has loopback alone; wants ``LO_UP`` in its environment."""


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server for the session, as a team has one; a server a command costs ten seconds each time."""
    port = free_port()
    clean = {k: v for k, v in child_environment().items() if not k.startswith("PREFECT_API")}
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "prefect"), "server", "start", "--port", str(port)],
        env={**clean, "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect-server"))},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(f"http://127.0.0.1:{port}/api/health", process=process)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        stop(process)


@pytest.fixture(scope="session")
def redistill(prefect_home: Path, prefect_api: str) -> Command:
    """Run ``redistill -C PROJECT …`` and parse its last line as JSON when asked for with ``--json``.

    A command behind a ``prefix`` may be cut off from the session's Prefect server, and starts its own, as every command does without one.
    """

    def run(project: Path, *arguments: str, env: dict[str, str] | None = None, prefix: tuple[str, ...] = (), timeout_s: float = 600) -> Ran:
        command = [*prefix, str(Path(sys.executable).parent / "redistill"), "-C", str(project), *arguments]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "REDISTILL_", "PYTHONPATH"))}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**clean, "PREFECT_HOME": str(prefect_home), **({} if prefix else {"PREFECT_API_URL": prefect_api}), **(env or {})},
        )
        lines = done.stdout.strip().splitlines()
        parsed = json.loads(lines[-1]) if "--json" in arguments and done.returncode == 0 else {}
        return Ran(done.returncode, parsed, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny project for the session; tests of a module share what its first cycle made."""
    return make_tiny_project(tmp_path_factory.mktemp("project"))
