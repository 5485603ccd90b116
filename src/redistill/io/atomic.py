"""Atomic writes of files and directories: complete or not at all.

Every write goes to a temporary name beside its place, is flushed to the disk, and is renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from redistill.errors import DataError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path; on success flushes it and renames it over ``path``, otherwise removes it.

    Raises:
        DataError: the disk is full or refuses the write; an existing file is unchanged.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise DataError(
            f"could not write {target}: {error.strerror or error}; free some space or fix its permissions, then run again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_disk_error(error: Exception) -> bool:
    """True for a failed write: safetensors and torch report a full disk with errors of their own, which are not OSError."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or "PytorchStreamWriter" in str(error)


def is_refused_file(error: OSError) -> bool:
    """Whether the disk is full, over its quota or read-only, a file has reached the largest size that is allowed, or belongs to another user."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
    # Without a name it is no file, but a port, for example.
    return full or (isinstance(error, PermissionError) and error.filename is not None)


def refused_file(error: OSError) -> str:
    """One line about it for people."""
    place = f"{Path(os.fsdecode(error.filename)).absolute()}" if isinstance(error.filename, (str, bytes)) else "a file of this project"
    if isinstance(error, PermissionError):
        return f"no access to {place}: {error.strerror or error}; give the user with id {os.geteuid()} access to it"
    return f"could not write {place}: {error.strerror or error}; free some space or make the disk writable, then run again"


@contextlib.contextmanager
def replacing_directory(path: str | os.PathLike[str], work: Path | None = None) -> Iterator[Path]:
    """Like ``replacing`` for a whole directory. ``work``, when given, survives a crash so that a resume finds it."""
    target = Path(path)
    temporary = work or target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except Exception as error:
        if not is_disk_error(error):
            raise
        raise DataError(
            f"could not write {target}: {getattr(error, 'strerror', None) or error}; free some space or fix its permissions, then run again"
        ) from error
    finally:
        if work is None:
            shutil.rmtree(temporary, ignore_errors=True)
