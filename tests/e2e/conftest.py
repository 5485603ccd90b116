"""Whole cycles as a user starts them: the real command in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.forks import ForkServer
from tests.once import once, run_directory
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
def redistill(prefect_home: Path, prefect_api: str, fork_server: ForkServer) -> Command:
    """Run ``redistill -C PROJECT …`` and parse its last line as JSON when asked for with ``--json``.

    A fork of the session's server, unless ``cold``: then a process of its own, as a person starts it. A command behind a ``prefix`` is cold
    too; it may be cut off from the session's Prefect server and starts its own, as every command does without one.
    """

    def run(
        project: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        cold: bool = False,
        timeout_s: float = 600,
    ) -> Ran:
        environment = {**user_environment(), "PREFECT_HOME": str(prefect_home), **({} if prefix else {"PREFECT_API_URL": prefect_api})}
        environment |= env or {}
        if prefix or cold:
            command = [*prefix, str(Path(sys.executable).parent / "redistill"), "-C", str(project), *arguments]
            done: Any = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment)
        else:
            done = fork_server.run("redistill", "-C", str(project), *arguments, env=environment, timeout_s=timeout_s)
        lines = done.stdout.strip().splitlines()
        parsed = json.loads(lines[-1]) if "--json" in arguments and done.returncode == 0 else {}
        return Ran(done.returncode, parsed, done.stdout, done.stderr)

    return run


def user_environment() -> dict[str, str]:
    """Our environment without what a test run may have set of Prefect, MLflow and redistill."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "REDISTILL_", "PYTHONPATH"))}


@dataclass(frozen=True)
class FirstCycle:
    """A tiny project after its first cycle, what that cycle said, and a copy from before any registration, for projects to start from."""

    project: Path
    outcome: dict[str, Any]
    template: Path


@pytest.fixture(scope="session")
def first_cycle(tmp_path_factory: pytest.TempPathFactory, redistill: Command) -> FirstCycle:
    """One cold, offline cycle for the whole test run. Only ``test_cycles`` may change the project; others start from ``template``."""

    def build(folder: Path) -> None:
        project = make_tiny_project(folder / "project")
        # A network namespace with loopback only: nothing may need, or try to reach, anything else.
        done = redistill(project, "run", "--json", "--reason", "first", prefix=LOOPBACK_ONLY, env={"LO_UP": LO_UP})
        assert done.code == 0, done.stderr[-3000:]
        (folder / "outcome.json").write_text(json.dumps(done.result), encoding="utf-8")
        without = shutil.ignore_patterns("__pycache__", "mlflow", "keys", "route", "report")
        shutil.copytree(project, folder / "template", symlinks=True, ignore=without)

    folder = once(run_directory(tmp_path_factory) / "first-cycle", build)
    return FirstCycle(folder / "project", json.loads((folder / "outcome.json").read_text(encoding="utf-8")), folder / "template")
