"""The lease under which this process works, for every place that writes what others see."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from redistill.io.lease import Held

_HELD: dict[str, Held] = {}


@contextlib.contextmanager
def holding(held: Held) -> Iterator[Held]:
    """For what runs inside, this is the lease that every write asks (``require``); it is released at the end."""
    _HELD["cycle"] = held
    try:
        yield held
    finally:
        del _HELD["cycle"]
        held.release()


def present() -> Held | None:
    """The lease under which this process works; None without a shared store, or outside of a cycle."""
    return _HELD.get("cycle")


def require() -> None:
    """Refuse to go on if this process works under a lease that it has lost.

    Raises:
        StageError: it has lost it.
    """
    if (held := present()) is not None:
        held.check()
