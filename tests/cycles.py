"""Whole cycles as a user starts them: the command, what it said, and the one finished cycle that tests start from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ran:
    code: int
    result: dict[str, Any]
    stdout: str
    stderr: str


Command = Callable[..., Ran]


def asking(redistill: Command, project: Path, **environment: str) -> Callable[..., Ran]:
    """Commands of one project that must end with the exit code 0, or with ``code``."""

    def run(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> Ran:
        done = redistill(project, *arguments, env={**environment, **(env or {})})
        assert done.code == code, done.stderr[-3000:]
        return done

    return run


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


def user_environment() -> dict[str, str]:
    """Our environment without what a test run may have set of Prefect, MLflow and redistill."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "REDISTILL_", "PYTHONPATH"))}


def with_registry(project: Path, empty_registry: Path) -> Path:
    """The project with a registry in which nothing is registered yet."""
    (project / ".redistill/mlflow").mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_registry, project / ".redistill/mlflow/mlflow.db")
    return project


@dataclass(frozen=True)
class FirstCycle:
    """A tiny project after its first cycle, what that cycle said, and the same project before any registration.

    Several workers share both folders: a test copies one, and never changes it.
    """

    finished: Path
    outcome: dict[str, Any]
    template: Path
