"""Identifies a process across commands. A process id alone may belong to a later process, so the time of its start belongs to it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """``created`` is when the process started, in seconds since 1970, as the system reports it."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessRecord:
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def mine(cls) -> ProcessRecord:
        return cls.of(os.getpid())

    def process(self) -> psutil.Process | None:
        """The process, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def read_record(path: Path) -> ProcessRecord | None:
    """The record in a file; None if there is none, or if it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return ProcessRecord(int(record["pid"]), float(record["created"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
