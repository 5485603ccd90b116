"""What the monitor has seen so far: a file that survives restarts and belongs to one pair of version and reference."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter, ValidationError

from redistill.io.json import read_json, write_json
from redistill.serving.drift.types import Verdict, Window
from tasks.paths import STATE

DRIFT = STATE / "serving" / "drift.json"
_KEPT = 200
"""Windows that the page shows at most."""


@dataclass(frozen=True, slots=True)
class DriftState:
    """``since`` is when this pair began to be watched, ``until`` the end of the last window, both in seconds since 1970.

    ``announced`` is the last verdict that people were told, and that was acted on. It differs from ``verdict`` only if a run was interrupted in between.
    ``fell_at`` is the ``changed_at`` of the route that sent the traffic to the teacher; empty while a version has it. Drift sends it there once, until it is given back.
    """

    system: str
    version: str
    since: float
    until: float
    windows: tuple[Window, ...] = ()
    announced: Verdict = "calm"
    fell_at: str = ""

    @property
    def verdict(self) -> Verdict:
        return self.windows[-1].verdict if self.windows else "calm"

    def after(self, window: Window) -> DriftState:
        return replace(self, until=window.end, windows=(*self.windows, window)[-_KEPT:])


def read_state() -> DriftState | None:
    """The state in the file; None where there is none, or none that can be read."""
    try:
        state: DriftState = TypeAdapter(DriftState).validate_python(read_json(DRIFT))
    except (OSError, ValueError, TypeError, ValidationError):
        return None
    return state


def write_state(state: DriftState) -> None:
    """Write the state whole, or not at all.

    Raises:
        DataError: the disk refuses it.
    """
    DRIFT.parent.mkdir(parents=True, exist_ok=True)
    write_json(DRIFT, asdict(state))


@contextlib.contextmanager
def one_monitor() -> Iterator[None]:
    """One run of the monitor at a time: two would count one window twice."""
    DRIFT.parent.mkdir(parents=True, exist_ok=True)
    with open(DRIFT.with_suffix(".lock"), "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
