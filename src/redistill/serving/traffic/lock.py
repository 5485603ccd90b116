"""One process at a time changes the files of traffic: the router's writer, and ``redistill forget``."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redistill.errors import DataError


@contextmanager
def traffic_lock(folder: Path) -> Iterator[None]:
    """Waits for the other one. The system frees it when the process ends, however that happens.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = open(folder / ".lock", "ab")  # noqa: SIM115 - closed below, also after an error
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror or error}); free some space or fix its permissions") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
