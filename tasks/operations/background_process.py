"""A process that goes on after the command that started it, and that a later command can identify and end.

Output goes to a file. A pipe that nobody reads would end the process at its next line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil

from redistill.io.json import write_json
from redistill.runtime.processes import ProcessRecord, read_record

STOP_TIMEOUT_S = 30.0
_LOG_BYTES = 20_000_000


def start(command: Sequence[str], environment: Mapping[str, str], log: Path, record: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; its output is appended to ``log``, its process is recorded in ``record``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    with contextlib.suppress(psutil.NoSuchProcess):
        write_json(record, asdict(ProcessRecord.of(process.pid)))
    return process


def end(record: Path, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
    """End the recorded process and its children, and no other; returns its id, or None if it had ended before.

    Children that have not ended after ``timeout_s`` are killed.
    """
    recorded = read_record(record)
    process = recorded.process() if recorded else None
    if process is None:
        record.unlink(missing_ok=True)
        return None
    try:
        family = [process, *process.children(recursive=True)]
        os.killpg(process.pid, signal.SIGTERM)
    except (psutil.NoSuchProcess, ProcessLookupError):
        family = []
    _, left = psutil.wait_procs(family, timeout_s)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout_s)
    record.unlink(missing_ok=True)
    return recorded.pid if recorded else None


def shorten(log: Path, limit_bytes: int = _LOG_BYTES) -> None:
    """Move what a long log holds to ``NAME.1``. The process that writes it appends, so it goes on at the start of the emptied file."""
    if log.is_file() and log.stat().st_size > limit_bytes:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
