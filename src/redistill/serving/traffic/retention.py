"""Removes traffic that is older than the project keeps it, and what a killed writer left half-written."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redistill.data.traffic.shards import shards
from redistill.serving.router.saying import say

_EVERY_S = 3600.0
_HALF_WRITTEN_S = 3600.0


def remove_old(folder: Path, keep_days: int, now_s: float | None = None) -> int:
    """Remove the files of which every row is older; returns how many.

    A file that cannot be read goes by its own time. Half-written files are removed after an hour: until then they may be another process's.

    Raises:
        OSError: a file cannot be removed.
    """
    now_s = time.time() if now_s is None else now_s
    cutoff_s = now_s - 86400 * keep_days
    # A file whose first row is young enough need not be opened.
    old = [file for file in shards(folder) if _first_s(file) < cutoff_s and _newest_s(file) < cutoff_s]
    for file in old:
        file.unlink(missing_ok=True)
    for file in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if file.stat().st_mtime < now_s - _HALF_WRITTEN_S:
                file.unlink()
    return len(old)


async def expire(folder: Path, keep_days: int) -> None:
    """Remove old traffic now and each hour, until cancelled; also where nothing is logged any more."""
    while True:
        try:
            await asyncio.to_thread(remove_old, folder, keep_days)
        except OSError as error:
            say(f"warning: old traffic in {folder} cannot be removed ({error.strerror or error}); fix the permissions of the folder")
        await asyncio.sleep(_EVERY_S)


def _first_s(file: Path) -> float:
    """The time of a file's first row, as its name has it; 0 where it has none."""
    digits = file.name.split("-", 1)[0]
    return int(digits) / 1000 if digits.isdecimal() else 0.0


def _newest_s(file: Path) -> float:
    """The time of a file's newest row, from the statistics at its end."""
    try:
        metadata = pq.read_metadata(file)
        column = metadata.schema.names.index("at")
        statistics = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
        return max((float(each.max) for each in statistics), default=0.0)
    except FileNotFoundError:
        return float("inf")
    except (pa.ArrowException, OSError, ValueError, AttributeError, TypeError):
        with suppress(FileNotFoundError):
            return file.stat().st_mtime
        return float("inf")
