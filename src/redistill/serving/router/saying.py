"""Lines for people on standard error."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(line: str) -> None:
    """Print a line. Standard error may be a closed pipe or a full disk, and no request and no watch may end because of that."""
    with suppress(OSError, ValueError):
        print(" ".join(line.split()), file=sys.stderr, flush=True)
