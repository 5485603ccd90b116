"""How much memory a piece of work needs at its peak: the growth of this process's resident memory.

``getrusage`` cannot measure it: its maximum belongs to the whole life of a process and survives ``exec``, so a child of a large process starts with
its parent's maximum, and allocations below that maximum are not seen. Linux lets a process reset its own maximum.

Source: proc_pid_clear_refs(5), value 5; proc_pid_status(5), VmHWM.
"""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Starts to measure when it is created: first import what should not count, then create it, then load the model."""

    def __init__(self) -> None:
        self._before: int | None = None
        try:
            _CLEAR.write_text("5", encoding="ascii")
            self._before = _status("VmRSS")
        except OSError:
            # Not Linux, or a sandbox without this file: the peak is not known.
            return

    def grown_bytes(self) -> int | None:
        """The largest growth since the start, in bytes; None if the system does not report it."""
        if self._before is None or (peak := _status("VmHWM")) is None:
            return None
        return max(0, peak - self._before)


def _status(name: str) -> int | None:
    """A size from ``/proc/self/status``, in bytes."""
    match = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii", errors="replace"), re.M)
    return 1024 * int(match[1]) if match else None
