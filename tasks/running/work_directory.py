"""Where a stage works until it is done."""

from __future__ import annotations

from pathlib import Path

from tasks.paths import STATE


def work_directory(stage: str, *identity: object) -> Path:
    """Where a stage (``NAME`` or ``NAME-ARM``) works until it is done.

    It is named by what goes in and by the code that works on it, so that a resume finds its own and no other's.
    """
    from redistill.io.digests import canonical_digest
    from redistill.provenance.imports import code_digest, folders

    code = code_digest(f"tasks.stages.{stage.partition('-')[0]}", folders("redistill", "tasks"))
    return STATE / "work" / f"{stage}-{canonical_digest([code, *(str(i) for i in identity)])[:16]}"
