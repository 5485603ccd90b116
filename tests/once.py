"""What all workers of one test run share: each thing is built by the first worker that needs it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of this test run, the same for all of its workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(folder: Path, build: Callable[[Path], object]) -> Path:
    """``folder``, after ``build`` has filled it in this worker or another; a build that failed is tried again by the next."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(f"{folder.name}.built")
    with open(folder.with_name(f"{folder.name}.lock"), "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not done.exists():
            build(folder)
            done.touch()
    return folder
