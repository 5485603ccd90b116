"""What files occupy on disk, and when they last changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLOCK = 512
"""``st_blocks`` counts blocks of this size on every system. Source: POSIX, ``sys/stat.h``, as Linux and macOS define it."""


def files_below(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file of a tree, or the file itself, with its own status; links are not followed, and what disappears meanwhile is left out."""
    if path.is_symlink() or not path.is_dir():
        folders: Iterable[tuple[str, list[str], list[str]]] = [(str(path.parent), [], [path.name])]
    else:
        folders = os.walk(path)
    for folder, below, names in folders:
        for name in [*names, *(n for n in below if os.path.islink(os.path.join(folder, n)))]:
            file = Path(folder, name)
            try:
                yield file, file.lstat()
            except FileNotFoundError:
                continue


def freed_by_removing(paths: Iterable[Path]) -> int:
    """Bytes on disk that would be free without these files and folders.

    A file with a further hard link somewhere else frees nothing.
    """
    links: dict[tuple[int, int], int] = {}
    status: dict[tuple[int, int], os.stat_result] = {}
    for path in paths:
        for _, stat in files_below(path):
            inode = (stat.st_dev, stat.st_ino)
            links[inode] = links.get(inode, 0) + 1
            status[inode] = stat
    return sum(_BLOCK * stat.st_blocks for inode, stat in status.items() if links[inode] >= stat.st_nlink)


def last_change_s(path: Path) -> float:
    """Unix time of the newest change of a file below ``path``; that of the folder itself if it is empty.

    The times of folders do not count: they change when something in them is removed.
    """
    newest = max((stat.st_mtime for _, stat in files_below(path)), default=None)
    return path.lstat().st_mtime if newest is None else newest
