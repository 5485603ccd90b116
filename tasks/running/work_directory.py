"""Where a stage works until it is done."""

from __future__ import annotations

from pathlib import Path

from redistill.io.digests import canonical_digest
from tasks.locking.locked_code import locked_code
from tasks.paths import STATE


def work_directory(stage: str, *identity: object) -> Path:
    """Where a stage (``NAME`` or ``NAME-ARM``) works until it is done.

    It is named by what goes in and by the code that works on it, so that a resume finds its own and no other's.
    """
    code = locked_code(stage.partition("-")[0])
    return STATE / "work" / f"{stage}-{canonical_digest([code, *(str(i) for i in identity)])[:16]}"
