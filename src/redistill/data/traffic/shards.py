"""Reads logged traffic: a folder of Parquet files, each written whole. The name of a file begins with the time of its first row, in ms, so names sort by time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from redistill.data.traffic.types import LoggedRequest
from redistill.io.parquet import iter_records


def shards(folder: Path) -> list[Path]:
    """The files of a folder of traffic, oldest first; none if there is no folder."""
    return sorted(folder.glob("*.parquet"))


def read_traffic(folder: Path, since: float = 0.0) -> Iterator[LoggedRequest]:
    """The logged requests from ``since`` on (seconds since 1970), file by file.

    Raises:
        DataError: a file is not what the router or an import writes.
    """
    for file in shards(folder):
        for row in iter_records(file, LoggedRequest):
            if row.at >= since:
                yield row
