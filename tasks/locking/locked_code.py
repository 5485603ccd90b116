"""The code of a stage as ``code.lock.json`` names it: part of the key of what a stage remembers."""

from __future__ import annotations

from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json
from tasks.paths import CODE


def locked_code(stage: str) -> str:
    """One digest of the stage's code and of the versions of its packages.

    Raises:
        DataError: the code is not locked, or the lock has no such stage.
    """
    if not CODE.is_file():
        raise DataError(f"{CODE} is missing; run `redistill lock`, which writes it")
    stages = read_json(CODE).get("stages", {})
    if stage not in stages:
        raise DataError(f"{CODE} has no stage {stage}; run `redistill lock`, which writes it again")
    return canonical_digest(stages[stage])
