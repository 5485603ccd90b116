"""Removes entries that killed DVC processes left in DVC's table of locks.

DVC 3.67 removes an entry itself only if no process has its id. After a reboot the ids of old entries belong to other processes, and every
later cycle would fail. Source: ``dvc.rwlock``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil

from redistill.io.json import write_json

RWLOCK = Path(".dvc/tmp/rwlock")


def remove_stale_locks(table: Path = RWLOCK) -> list[int]:
    """Remove them; returns the ids of their processes. Call it only under the cycle lock.

    A table that cannot be read is removed: DVC cannot read it either, and would refuse to work.
    """
    try:
        locks: dict[str, Any] = json.loads(table.read_text(encoding="utf-8"))
        kept_write = {path: entry for path, entry in locks.get("write", {}).items() if _is_dvc_here(int(entry["pid"]))}
        kept_read = {
            path: kept
            for path, entries in locks.get("read", {}).items()
            if (kept := [entry for entry in entries if _is_dvc_here(int(entry["pid"]))])
        }
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError):
        table.unlink(missing_ok=True)
        return []
    before = {int(entry["pid"]) for entry in locks.get("write", {}).values()}
    before |= {int(entry["pid"]) for entries in locks.get("read", {}).values() for entry in entries}
    after = {int(entry["pid"]) for entry in kept_write.values()} | {
        int(entry["pid"]) for entries in kept_read.values() for entry in entries
    }
    if before != after:
        write_json(table, {"write": kept_write, "read": kept_read})
    return sorted(before - after)


def _is_dvc_here(pid: int) -> bool:
    """Whether the process is one of DVC, or a fork that works for it, in this project."""
    try:
        process = psutil.Process(pid)
        here = os.path.realpath(process.cwd()) == os.path.realpath(os.getcwd())
        return here and any(word in " ".join(process.cmdline()) for word in ("dvc", "redistill", "tasks."))
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    except psutil.AccessDenied:
        # Another user's process: it cannot be ours, because our own can be read.
        return False
