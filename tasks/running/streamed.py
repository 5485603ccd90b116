"""Runs Python in a process group of its own, and hears its lines as they come."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable

PATIENCE_S = 10.0
LAST_LINES = 30

Stoppable = Callable[[Callable[[], None]], contextlib.AbstractContextManager[None]]
"""A context manager that is given the function which ends a process, and holds it while that process runs."""


def not_stoppable(_: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def streamed(
    arguments: list[str],
    environment: dict[str, str],
    hear: Callable[[str], None],
    stoppable: Stoppable = not_stoppable,
    patience_s: float = PATIENCE_S,
) -> tuple[int, deque[str]]:
    """Run Python in a process group of its own; ``hear`` gets its lines as they come. Exit code and last lines; the group ends with us.

    What is still alive ``patience_s`` after it was asked to end is killed.
    """
    lines: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )

    over = threading.Event()

    def send(number: signal.Signals) -> None:
        # After the process has ended, its id may belong to another one.
        if not over.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def end() -> None:
        send(signal.SIGTERM)
        killing = threading.Timer(patience_s, send, [signal.SIGKILL])
        killing.daemon = True
        killing.start()

    try:
        assert process.stdout is not None
        with process.stdout as stream, stoppable(end):
            for raw in stream:
                lines.append(raw.rstrip())
                hear(lines[-1])
        over.set()
        return process.wait(), lines
    except BaseException:
        end()
        raise
