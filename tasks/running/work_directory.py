"""Where a stage works until it is done."""

from __future__ import annotations

import glob
import shutil
from pathlib import Path

from redistill.io.digests import canonical_digest
from tasks.locking.locked_code import locked_code
from tasks.paths import STATE

_DIGITS = 16


def work_directory(stage: str, *identity: object) -> Path:
    """Where a stage (``NAME`` or ``NAME-ARM``) works until it is done.

    It is named by what goes in and by the code that works on it, so that a resume finds its own and no other's. Folders that other inputs of this stage
    left are removed: a run with new inputs replaces the interrupted one, and each checkpoint in there is as large as a model with its optimiser.
    """
    code = locked_code(stage.partition("-")[0])
    mine = STATE / "work" / f"{stage}-{canonical_digest([code, *(str(i) for i in identity)])[:_DIGITS]}"
    for other in mine.parent.glob(f"{glob.escape(stage)}-{'[0-9a-f]' * _DIGITS}"):
        if other != mine:
            shutil.rmtree(other, ignore_errors=True)
    return mine
