"""Triggers that arrive while a cycle works. They become one later cycle, which has all of their reasons."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator

from redistill.io.json import write_json
from tasks.paths import STATE

PENDING = STATE / "pending.json"
_MOST = 20
"""More reasons than a person would read are not kept; the cycle itself is the same."""


def add(reason: str) -> None:
    """Ask for one cycle after the present one. The same reason twice is one reason."""
    with _locked():
        reasons = waiting()
        if reason not in reasons:
            write_json(PENDING, [*reasons, reason][-_MOST:])


def waiting() -> list[str]:
    """The reasons that wait, oldest first. A file that cannot be read counts as one reason, so that no trigger is lost."""
    try:
        return [str(reason) for reason in json.loads(PENDING.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError):
        return ["a trigger whose reason could not be read"]


def written_at() -> int:
    """When the reasons were last changed, in nanoseconds: it tells this set of reasons from an equal one of another night."""
    try:
        return PENDING.stat().st_mtime_ns
    except OSError:
        return 0


def take() -> list[str]:
    """The reasons, which are not waiting any more. Only a cycle that starts takes them."""
    with _locked():
        reasons = waiting()
        PENDING.unlink(missing_ok=True)
        return reasons


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    STATE.mkdir(parents=True, exist_ok=True)
    with open(PENDING.with_suffix(".lock"), "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
