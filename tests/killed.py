"""``python -m tests.killed NUMBER ARGUMENT ...``: a redistill command that gets SIGKILL just before its NUMBERth change of the file system."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Any

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "subprocess.Popen")


def kill_at(number: int) -> None:
    """Kill this process before the change, as the interpreter itself reports it; a start of a program counts as one."""
    left = number

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _CHANGES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    kill_at(int(sys.argv[1]))
    sys.argv = ["redistill", *sys.argv[2:]]
    runpy.run_module("redistill", run_name="__main__", alter_sys=True)
