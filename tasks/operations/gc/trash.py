"""Removes files and folders in two steps: rename into a trash folder, then delete.

A rename is one step. So a process that is killed while it deletes leaves nothing half-removed in its place, and the next `redistill gc` empties the
trash.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from redistill.io.disk_usage import freed_by_removing
from tasks.paths import STATE

TRASH = STATE / "trash"


def remove(paths: Iterable[Path]) -> tuple[int, list[str]]:
    """Remove files and folders; what is missing already is skipped.

    Returns:
        The bytes on disk that are free now, and a sentence for each path that could not be removed.
    """
    return _emptied(paths, lambda path: _delete(_moved(path)))


def empty() -> tuple[int, list[str]]:
    """Delete what a killed process left in the trash; returns as ``remove``."""
    return _emptied(left(), _delete)


def _emptied(paths: Iterable[Path], delete: Callable[[Path], None]) -> tuple[int, list[str]]:
    freed, problems = 0, list[str]()
    for path in paths:
        if not path.exists() and not path.is_symlink():
            continue
        size = freed_by_removing([path])
        try:
            delete(path)
        except OSError as error:
            problems.append(f"{path} cannot be removed ({error.strerror or error}); fix its permissions, or remove it by hand")
            continue
        freed += size
    tidy()
    return freed, problems


def left() -> list[Path]:
    """What a killed process, or one without the permission to delete, left in the trash."""
    return sorted(TRASH.iterdir()) if TRASH.is_dir() else []


def tidy() -> None:
    """Remove the trash folder itself, if it is empty."""
    if TRASH.is_dir() and not left():
        TRASH.rmdir()


def _moved(path: Path) -> Path:
    TRASH.mkdir(parents=True, exist_ok=True)
    target = TRASH / uuid.uuid4().hex
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return path  # on another disk, where a link of the user leads to: deleted where it is
    return target


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
